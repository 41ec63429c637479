"""Params of the router's predictors."""

from typing import Annotated, Literal

from pydantic import Field

from symbiosis.core.params import StageParams

Predictor = Literal["linear", "forest", "stacked"]
PREDICTORS: tuple[Predictor, ...] = ("linear", "stacked", "forest")
"""Those that ``auto`` chooses from, simplest first."""

Tags = Literal["none", "domain", "subdomain", "clusters"]
TAGS: tuple[Tags, ...] = ("none", "subdomain", "clusters")
"""Those that ``auto`` chooses from, simplest first."""


class ForestParams(StageParams):
    """Size of each random forest."""

    trees: int = Field(ge=30)
    minimum_leaf: int = Field(ge=1)


class ChoiceParams(StageParams):
    """Budget of choosing predictor and tags; see `symbiosis.routing.model.choice`."""

    queries: int = Field(ge=50)
    trees: int = Field(ge=30)


class ServingParams(StageParams):
    """What a router that serves goes by unless it is told otherwise; kept in models/router.

    Attributes
    ----------
    trade_off
        Decided for where no objective is given; `symbiosis.routing.metrics.utility.utility`.
    satisfied_above
        Quality above which a user is satisfied: what binary feedback means.
    """

    trade_off: float = Field(ge=0)
    satisfied_above: float = Field(ge=0, lt=1)


class LoggedParams(StageParams):
    """How the router learns from what users told of answers; see `symbiosis.routing.learning.logged_feedback`.

    Attributes
    ----------
    weight
        ``none``: each answer counts as it does while the router serves; ``inverse``: times the inverse of the chance
        with which its LLM was chosen, clipped, and 1 on average.
    clip
        Larger inverses are set to this.
    holdout_share
        Of the queries, by digest: never trained on, so that off-policy estimates may use them.
    """

    weight: Literal["none", "inverse"]
    clip: float = Field(ge=1)
    holdout_share: float = Field(ge=0, lt=1)


class RouterTrainParams(StageParams):
    """The predictors of quality and response length."""

    seed: int = Field(ge=0)
    predictor: Predictor | Literal["auto"]
    tags: Tags | Literal["auto"]
    choice: ChoiceParams
    minimum_tag: int = Field(ge=1)
    clusters: int = Field(ge=2)
    dimension: int = Field(ge=1)
    tag_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    component_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    component_penalties_without_labels: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    forest: ForestParams
    calibration: Literal["none", "platt", "isotonic"]
    costs: Literal["auto", "tokens", "features"]
    logged: LoggedParams
    serving: ServingParams
