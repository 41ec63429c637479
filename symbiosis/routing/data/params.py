"""Params of downloading and cleaning the routing table."""

from typing import Literal

from pydantic import Field, model_validator

from symbiosis.core.params import StageParams


class SyntheticRouting(StageParams):
    """Size of the synthetic routing table; see `symbiosis.routing.data.synthetic`."""

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


class QualityScale(StageParams):
    """How the marks of a table become qualities from 0 to 1.

    Attributes
    ----------
    worst, best
        The marks that become 0 and 1; those between become shares of the way, so `best` may be the lower one.
    words
        Marks of words, such as {good: 1, bad: 0}; true and false are 1 and 0 anyway.
    """

    worst: float
    best: float
    words: dict[str, float]

    @model_validator(mode="after")
    def _apart(self) -> "QualityScale":
        if self.worst == self.best:
            raise ValueError("quality: `worst` and `best` must differ")
        return self


class CleanRoutingParams(StageParams):
    """Which part of the table is used, and how it is split: offline and online training queries, and test queries."""

    seed: int = Field(ge=0)
    domains: tuple[str, ...]
    llms: tuple[str, ...]
    exclude_llms: tuple[str, ...]
    incomplete_queries: Literal["refuse", "drop", "keep"]
    repeated_texts: Literal["keep", "drop"]
    missing_tokens: Literal["refuse", "label", "estimate"]
    missing_costs: Literal["refuse", "estimate"]
    quality: QualityScale
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


class CollectFeedbackParams(StageParams):
    """Which of the frozen feedback is trained on.

    Attributes
    ----------
    maximum_age_days
        Older feedback than this, counted from the newest, is left out; null: none is.
    maximum_rows
        So many of the newest answers are kept; null: all.
    """

    maximum_age_days: float | None = Field(gt=0)
    maximum_rows: int | None = Field(ge=1)
