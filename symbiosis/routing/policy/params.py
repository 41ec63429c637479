"""Params of a decision: weights of the score, deadline, waiting penalty, exploration."""

from typing import Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams


class ScoreParams(StageParams):
    """Weights of the decision's score; see `symbiosis.routing.policy.score.Rule`."""

    trade_off: float = Field(ge=0)
    weighting: Literal["convex", "linear"]
    exploration: float = Field(ge=0)
    root: bool
    waiting: float = Field(ge=0)
    growth_per_s: float = Field(ge=0)
    onset: float = Field(ge=0)


class DeadlineParams(StageParams):
    """When our router takes an LLM for too slow; see `symbiosis.routing.policy.objectives.Deadline`."""

    share: float = Field(gt=0)
    weight: float = Field(ge=0)
    risk: float = Field(gt=0, le=1)


class PenaltyParams(StageParams):
    """MixLLM's waiting penalty; see `symbiosis.routing.policy.score.Rule`."""

    waiting: float = Field(ge=0)
    growth_per_s: float = Field(ge=0)
    onset: float = Field(ge=0)


class CycleParams(StageParams):
    """Worth per service cycle; see `symbiosis.routing.policy.objectives.ServiceCycle`."""

    share: float = Field(gt=0)


class SamplingParams(StageParams):
    """How LLMs are tried that do not look best; see `symbiosis.routing.policy.exploration.probabilities`."""

    kind: Literal["none", "epsilon", "softmax", "thompson"]
    amount: float = Field(ge=0)

    @model_validator(mode="after")
    def _share(self) -> "SamplingParams":
        if self.kind == "epsilon" and self.amount > 1:
            raise ValueError("amount: of epsilon it is a share of the queries, at most 1")
        return self
