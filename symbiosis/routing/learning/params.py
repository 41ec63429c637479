"""Params of feedback and of learning from it."""

from typing import Literal

from pydantic import Field

from symbiosis.core.params import StageParams
from symbiosis.routing.policy.params import SamplingParams


class UserParams(StageParams):
    """Who is satisfied: by quality above a bar, after a wait below another."""

    quality_above: float = Field(ge=0, lt=1)
    wait_below_s: float = Field(gt=0)


class BinaryParams(StageParams):
    """How the router learns from satisfied or not."""

    learning: Literal["posterior", "supervised", "policy_gradient"]
    rate: float = Field(gt=0)
    hidden: int = Field(ge=1)
    sampled_share: float = Field(gt=0, le=1)
    maximum_kappa: float = Field(ge=0)
    warm_up: int = Field(ge=0)


class LearningParams(StageParams):
    """How the router explores and learns on the stream; see `symbiosis.routing.simulation.replay.OnlineRouter`."""

    sampling: SamplingParams
    answers: int = Field(ge=1)
    burn_in: int = Field(ge=0)
    forgetting: float = Field(gt=0, le=1)
