"""Params of the routing stages."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from symbiosis.stage import StageParams

Predictor = Literal["linear", "forest", "stacked"]


class SyntheticRouting(StageParams):
    """Size of the synthetic routing table; see `symbiosis.routing.synthetic`."""

    queries: int = Field(ge=50)


class DownloadRoutingParams(StageParams):
    """Where the table of queries answered by several LLMs comes from."""

    seed: int = Field(ge=0)
    source: Literal["synthetic", "table", "routerbench"]
    path: str
    synthetic: SyntheticRouting


class ListPrice(StageParams):
    """List price of an LLM, USD per million tokens; that of cached prompt or reasoning tokens only where it differs."""

    prompt: float = Field(ge=0)
    response: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)
    reasoning: float | None = Field(default=None, ge=0)


class Speed(StageParams):
    """Seconds to an LLM's first token, and tokens per second from there."""

    startup_s: float = Field(ge=0)
    tokens_per_s: float = Field(gt=0)


class SpeedClass(Speed):
    """The assumed speed of LLMs whose response price (USD per million tokens) lies below a bound; null: of any."""

    below: float | None = Field(gt=0)


class CleanRoutingParams(StageParams):
    """Which part of the table is used, and how it is split: offline and online training queries, and test queries."""

    seed: int = Field(ge=0)
    domains: tuple[str, ...]
    llms: tuple[str, ...]
    exclude_llms: tuple[str, ...]
    incomplete_queries: Literal["refuse", "drop"]
    repeated_texts: Literal["keep", "drop"]
    missing_tokens: Literal["refuse", "label"]
    test_share: float = Field(gt=0, lt=1)
    online_share: float = Field(ge=0, lt=1)
    prices: dict[str, ListPrice]
    price_tolerance: float = Field(gt=0)
    speeds: dict[str, Speed]
    speed_classes: tuple[SpeedClass, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _classes_in_order(self) -> "CleanRoutingParams":
        *first, last = [speed_class.below for speed_class in self.speed_classes]
        bounds = [bound for bound in first if bound is not None]
        if last is not None or len(bounds) < len(first) or sorted(set(bounds)) != bounds:
            raise ValueError("speed_classes: `below` must rise from class to class, and be null in the last one only")
        return self


class LlmTaggerParams(StageParams):
    """An OpenAI-compatible endpoint; see `symbiosis.routing.llm_tagger.LlmTagger`."""

    url: str
    model: str
    key_variable: str | None
    timeout_s: float = Field(gt=0)
    attempts: int = Field(ge=1)


class TagParams(StageParams):
    """Where the tags of offline queries come from, and how they are grouped; see `symbiosis.routing.tags`."""

    source: Literal["metadata", "key_phrases", "clusters", "llm"]
    domains: int = Field(ge=2)
    minimum: int = Field(ge=1)
    phrases: int = Field(ge=1)
    llm: LlmTaggerParams


class TrainEncoderParams(StageParams):
    """The sentence encoder and its fine-tuning."""

    seed: int = Field(ge=0)
    encoder: str
    revision: str | None
    maximum_tokens: int = Field(ge=8)
    objective: Literal["none", "tags", "quality"]
    precision: Literal["float32", "bfloat16"]
    epochs: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    head_learning_rate: float = Field(gt=0)
    temperature: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    inter_weight: float = Field(ge=0)
    tags: TagParams


class EmbedQueriesParams(StageParams):
    """How queries are embedded."""

    shape_weight: float = Field(ge=0)
    precision: Literal["float32", "bfloat16"]


class ForestParams(StageParams):
    """Size of each random forest."""

    trees: int = Field(ge=30)
    minimum_leaf: int = Field(ge=1)


class RouterTrainParams(StageParams):
    """The predictors of quality and response length."""

    seed: int = Field(ge=0)
    predictor: Predictor
    tags: Literal["none", "domain", "subdomain", "clusters"]
    minimum_tag: int = Field(ge=1)
    clusters: int = Field(ge=2)
    dimension: int = Field(ge=1)
    tag_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    component_penalties: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    forest: ForestParams
    calibration: Literal["none", "platt", "isotonic"]


RouterForm = Literal[
    "router",
    "router_linear",
    "router_forest",
    "router_without_tags",
    "router_clusters",
    "router_shuffled",
    "router_noise",
]


class SplitsParams(StageParams):
    """Random splits of all queries; see `symbiosis.routing.comparison.split`."""

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


class ScoreParams(StageParams):
    """Weights of the decision's score; see `symbiosis.routing.decision.Rule`."""

    trade_off: float = Field(ge=0)
    weighting: Literal["convex", "linear"]
    exploration: float = Field(ge=0)
    root: bool
    waiting: float = Field(ge=0)
    growth_per_s: float = Field(ge=0)
    onset: float = Field(ge=0)


class CapacityParams(StageParams):
    """What one LLM can bear and how reliable it is; null: as the stream says of all, or no limit."""

    workers: int | None = Field(default=None, ge=1)
    requests_per_minute: float | None = Field(default=None, ge=1)
    tokens_per_minute: float | None = Field(default=None, ge=1)
    failure: float | None = Field(default=None, ge=0, le=1)
    jitter: float | None = Field(default=None, ge=0)


class StreamParams(StageParams):
    """The stream of queries and the LLMs' capacity; see `symbiosis.routing.capacity`."""

    queries_per_s: float = Field(gt=0)
    arrivals: Literal["even", "poisson"]
    workers: int = Field(ge=1)
    failure: float = Field(ge=0, le=1)
    jitter: float = Field(ge=0)
    llms: dict[str, CapacityParams]
    attempts: int = Field(ge=1, le=3)
    on_failure: Literal["fallback", "retry"]
    refresh_s: float = Field(ge=0)
    own_dispatches: bool
    limit_s: float = Field(gt=0)
    charge_dropped: bool


class DeadlineParams(StageParams):
    """When our router takes an LLM for too slow; see `symbiosis.routing.objectives.Deadline`."""

    share: float = Field(gt=0)
    weight: float = Field(ge=0)
    risk: float = Field(gt=0, le=1)


class PenaltyParams(StageParams):
    """MixLLM's waiting penalty; see `symbiosis.routing.decision.Rule`."""

    waiting: float = Field(ge=0)
    growth_per_s: float = Field(ge=0)
    onset: float = Field(ge=0)


class CompareStreamParams(StreamParams):
    """The test queries of the comparison as a timed stream; see `symbiosis.routing.comparison.stream`."""

    points: int = Field(ge=2)
    controls: tuple[str, ...]
    deadline: DeadlineParams
    penalty: PenaltyParams


class CompareRoutersParams(SplitsParams):
    """The comparison of routers on splits of its own; see `symbiosis.routing.comparison`."""

    forms: tuple[RouterForm, ...] = Field(min_length=1)
    baselines: tuple[str, ...]
    quality_share: float = Field(gt=0)
    leave_domains_out: tuple[str, ...]
    stream: CompareStreamParams | None

    @model_validator(mode="after")
    def _known(self) -> "CompareRoutersParams":
        if "router" not in self.forms:
            raise ValueError("forms: `router` must be among them")
        return self


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


class SamplingParams(StageParams):
    """How LLMs are tried that do not look best; see `symbiosis.routing.exploration.probabilities`."""

    kind: Literal["none", "epsilon", "softmax", "thompson"]
    amount: float = Field(ge=0)

    @model_validator(mode="after")
    def _share(self) -> "SamplingParams":
        if self.kind == "epsilon" and self.amount > 1:
            raise ValueError("amount: of epsilon it is a share of the queries, at most 1")
        return self


class LearningParams(StageParams):
    """How the router explores and learns on the stream; see `symbiosis.routing.replay.OnlineRouter`."""

    sampling: SamplingParams
    answers: int = Field(ge=1)
    burn_in: int = Field(ge=0)
    forgetting: float = Field(gt=0, le=1)


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
    """LLMs that join mid-stream; see `symbiosis.routing.adaptability`."""

    offline_share: float = Field(gt=0, lt=1)
    withheld: tuple[str, ...]
    probes: int = Field(ge=1)
    queries: int = Field(ge=1)
    every: int = Field(ge=1)


class StudyFeedbackParams(SplitsParams):
    """What feedback teaches, how LLMs join, and what logs tell of other policies."""

    offline_shares: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(min_length=1)
    adaptability: AdaptabilityParams
    logging: SamplingParams


class ReportRoutersParams(StageParams):
    """The report of the comparison and of the study of feedback."""

    seed: int = Field(ge=0)
    bootstrap_samples: int = Field(ge=100)
