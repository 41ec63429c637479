"""Params of the router's predictors."""

from typing import Annotated, Literal

from pydantic import Field

from symbiosis.core.params import StageParams

Auto = Literal["auto"]
AUTO: Auto = "auto"

Predictor = Literal[
    "linear",
    "forest",
    "stacked",
    "network",
    "linear+stacked",
    "linear+network",
    "stacked+network",
    "linear+stacked+network",
]
PARTS: tuple[Predictor, ...] = ("linear", "stacked", "network")
"""What averages are made of."""

PREDICTORS: tuple[Predictor, ...] = (
    *PARTS,
    "linear+stacked",
    "linear+network",
    "stacked+network",
    "linear+stacked+network",
)
"""Those that ``auto`` chooses from, simplest first."""


def parts_of(predictor: Predictor) -> tuple[Predictor, ...]:
    """Return the forms that an average is made of, or the form itself."""
    return tuple(part for part in (*PARTS, "forest") if part in predictor.split("+"))


Tags = Literal["none", "domain", "subdomain", "clusters"]
TAGS: tuple[Tags, ...] = ("none", "domain", "subdomain", "clusters")
"""Those that ``auto`` chooses from, simplest first."""

Penalties = Auto | Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]
"""Ridge penalties to try; ``auto``: told from the table, see `symbiosis.routing.fitting.shrinkage`."""


class ForestParams(StageParams):
    """Size of each random forest."""

    trees: int = Field(ge=30)
    minimum_leaf: Annotated[int, Field(ge=1)] | Auto


class NetworkParams(StageParams):
    """Training of the network that all LLMs share; see `symbiosis.routing.model.networks.SharedNetwork.fit`."""

    steps: int = Field(ge=1)
    decay: Annotated[float, Field(ge=0)] | Auto


class ChoiceParams(StageParams):
    """Budget of choosing what is left to ``auto``; see `symbiosis.routing.fitting.choice`.

    Attributes
    ----------
    queries
        At most so many training queries are used, drawn at random.
    trees
        In each forest.
    dimensions, leaves, decays
        What is tried for ``dimension``, ``forest.minimum_leaf`` and ``network.decay``.
    """

    queries: int = Field(ge=50)
    trees: int = Field(ge=30)
    dimensions: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    leaves: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    decays: tuple[Annotated[float, Field(ge=0)], ...] = Field(min_length=1)


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
    dimension: Annotated[int, Field(ge=1)] | Auto
    tag_penalties: Penalties
    component_penalties: Penalties
    forest: ForestParams
    network: NetworkParams
    calibration: Literal["none", "platt", "isotonic"]
    costs: Literal["auto", "tokens", "features"]
    logged: LoggedParams
    serving: ServingParams
