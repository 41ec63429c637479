"""A store's tables made by hand, for the tests of summaries, reports and drift."""

from typing import Any

import polars as pl

from symbiosis.gateway.monitoring.frames import ARMS, Frames

DECISIONS = {
    "id": pl.String,
    "at": pl.Float64,
    "llm": pl.String,
    "served": pl.String,
    "propensity": pl.Float64,
    "cost_usd": pl.Float64,
    "quality": pl.Float64,
    "mode": pl.String,
    "policy": pl.String,
    "overhead_ms": pl.Float64,
}
CALLS = {
    "decision": pl.String,
    "attempt": pl.Int64,
    "llm": pl.String,
    "upstream": pl.String,
    "at": pl.Float64,
    "status": pl.Int64,
    "error": pl.String,
    "first_token_s": pl.Float64,
    "total_s": pl.Float64,
    "cost_usd": pl.Float64,
}
FEEDBACK = {
    "decision": pl.String,
    "at": pl.Float64,
    "quality": pl.Float64,
    "satisfied": pl.Boolean,
    "source": pl.String,
}
Row = dict[str, Any]


def decision(number: int, llm: str = "small", **others: Any) -> Row:
    """A decision that its own LLM answered, one second after the one before."""
    row: Row = {
        "id": f"d{number}",
        "at": float(number),
        "llm": llm,
        "served": llm,
        "propensity": 1.0,
        "cost_usd": 1.0,
        "quality": 0.5,
        "mode": "apply",
        "policy": "auto",
        "overhead_ms": 2.0,
    }
    return row | others


def call(number: int, llm: str = "small", cost_usd: float | None = 1.0, **others: Any) -> Row:
    """A call that went well."""
    row: Row = {
        "decision": f"d{number}",
        "attempt": 0,
        "llm": llm,
        "upstream": "one",
        "at": float(number),
        "status": 200,
        "error": None,
        "first_token_s": 0.5,
        "total_s": 2.0,
        "cost_usd": cost_usd,
    }
    return row | others


def arm(number: int, llm: str, quality: float, cost_usd: float, **others: Any) -> Row:
    """What was expected of an LLM."""
    row: Row = {
        "decision": f"d{number}",
        "llm": llm,
        "quality": quality,
        "quality_low": quality - 0.1,
        "quality_high": quality + 0.1,
        "cost_usd": cost_usd,
        "wait_s": 0.0,
        "completion_s": 1.0,
        "score": quality,
        "admissible": True,
        "probability": 0.5,
    }
    return row | others


def told(number: int, quality: float | None = None, satisfied: bool | None = None) -> Row:
    """Feedback of a user."""
    return {
        "decision": f"d{number}",
        "at": float(number),
        "quality": quality,
        "satisfied": satisfied,
        "source": "user",
    }


def frames(
    decisions: list[Row] | None = None,
    calls: list[Row] | None = None,
    feedback: list[Row] | None = None,
    arms: list[Row] | None = None,
) -> Frames:
    """Tables of these rows."""
    return Frames(
        pl.DataFrame(decisions or [], DECISIONS),
        pl.DataFrame(calls or [], CALLS),
        pl.DataFrame(feedback or [], FEEDBACK),
        pl.DataFrame(arms or [], ARMS),
    )
