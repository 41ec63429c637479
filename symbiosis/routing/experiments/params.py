"""Params of the replay, the comparison of routers and the study of feedback."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams
from symbiosis.routing.learning.params import BinaryParams, LearningParams, UserParams
from symbiosis.routing.policy.params import CycleParams, DeadlineParams, PenaltyParams, SamplingParams, ScoreParams
from symbiosis.routing.simulation.params import StreamParams

RouterForm = Literal[
    "router",
    "router_linear",
    "router_forest",
    "router_without_tags",
    "router_without_labels",
    "router_clusters",
    "router_shuffled",
    "router_noise",
]


class SplitsParams(StageParams):
    """Random splits of all queries; see `symbiosis.routing.data.splits`."""

    seed: int = Field(ge=0)
    splits: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    test_share: float = Field(gt=0, lt=1)
    equal_texts: Literal["together", "apart"]
    development_fifths: int = Field(ge=0, le=4)

    @model_validator(mode="after")
    def _once(self) -> "SplitsParams":
        if len(set(self.splits)) < len(self.splits):
            raise ValueError("splits: every seed once")
        return self


class CompareStreamParams(StreamParams):
    """The test queries of the comparison as a timed stream; see `symbiosis.routing.experiments.timed`."""

    points: int = Field(ge=2)
    controls: tuple[str, ...]
    deadline: DeadlineParams
    penalty: PenaltyParams
    cycle: CycleParams


class RobustnessParams(StageParams):
    """Test queries asked again in other forms; see `symbiosis.routing.experiments.robustness`.

    Attributes
    ----------
    queries
        So many test queries of the first split, drawn at random.
    beside
        Baselines that are asked, too.
    """

    queries: int = Field(ge=1)
    beside: tuple[str, ...]


class CompareRoutersParams(SplitsParams):
    """The comparison of routers on splits of its own; see `symbiosis.routing.experiments`."""

    forms: tuple[RouterForm, ...] = Field(min_length=1)
    baselines: tuple[str, ...]
    method_seeds: int = Field(ge=1)
    tuning_queries: Annotated[int, Field(ge=50)] | None
    quality_share: float = Field(gt=0)
    leave_domains_out: tuple[str, ...]
    robustness: RobustnessParams | None
    stream: CompareStreamParams | None

    @model_validator(mode="after")
    def _known(self) -> "CompareRoutersParams":
        if "router" not in self.forms:
            raise ValueError("forms: `router` must be among them")
        return self


class LinesParams(StageParams):
    """Sizes of the simple lines beside the router."""

    neighbours: int = Field(ge=1)
    clusters: int = Field(ge=2)


class OnlineReplayParams(StageParams):
    """The replayed stream of queries, its waiting times and its feedback."""

    seed: int = Field(ge=0)
    feedback: Literal["none", "refined", "binary"]
    score: ScoreParams
    stream: StreamParams
    user: UserParams
    learning: LearningParams
    binary: BinaryParams
    lines: LinesParams
    bootstrap_samples: int = Field(ge=100)


class AdaptabilityParams(StageParams):
    """New LLMs added mid-stream; see `symbiosis.routing.experiments.newcomers`."""

    offline_share: float = Field(gt=0, lt=1)
    withheld: tuple[str, ...]
    probes: int = Field(ge=1)
    queries: int = Field(ge=1)
    every: int = Field(ge=1)


class StudyFeedbackParams(SplitsParams):
    """The effect of feedback, adding new LLMs, and off-policy estimates from logs."""

    offline_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    adaptability: AdaptabilityParams
    logging: SamplingParams
