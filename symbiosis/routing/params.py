"""Params of the routing stages."""

from typing import Literal

from pydantic import Field

from symbiosis.stage import StageParams


class SyntheticRouting(StageParams):
    """Size of the synthetic routing table; see `symbiosis.routing.synthetic`."""

    queries: int = Field(ge=50)


class DownloadRoutingParams(StageParams):
    """Where the table of queries answered by several LLMs comes from."""

    seed: int = Field(ge=0)
    source: Literal["synthetic", "table", "routerbench"]
    path: str
    synthetic: SyntheticRouting


class CleanRoutingParams(StageParams):
    """How the table is split: offline and online training queries, and test queries."""

    seed: int = Field(ge=0)
    test_share: float = Field(gt=0, lt=1)
    online_share: float = Field(ge=0, lt=1)


class EmbedQueriesParams(StageParams):
    """The sentence encoder."""

    encoder: str
    maximum_tokens: int = Field(ge=8)
    batch: int = Field(ge=1)


class RouterTrainParams(StageParams):
    """The predictors of quality and response length."""

    seed: int = Field(ge=0)


class OnlineReplayParams(StageParams):
    """The replayed stream of queries, its waiting times and its feedback."""

    seed: int = Field(ge=0)
