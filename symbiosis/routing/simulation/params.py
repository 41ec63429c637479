"""Params of the simulated stream and of the capacity of the LLMs."""

from typing import Literal

from pydantic import Field

from symbiosis.core.params import StageParams


class CapacityParams(StageParams):
    """What one LLM can bear and how reliable it is; null: as the stream says of all, or no limit."""

    workers: int | None = Field(default=None, ge=1)
    requests_per_minute: float | None = Field(default=None, ge=1)
    tokens_per_minute: float | None = Field(default=None, ge=1)
    failure: float | None = Field(default=None, ge=0, le=1)
    jitter: float | None = Field(default=None, ge=0)


class StreamParams(StageParams):
    """The stream of queries and the LLMs' capacity; see `symbiosis.routing.simulation.queues`."""

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
