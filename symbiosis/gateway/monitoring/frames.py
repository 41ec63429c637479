"""The part of the store that summaries and reports are made from: one window, as tables."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

ROUTED = "apply"
"""Mode of the decisions whose query went where the router chose."""
NOT_ROUTED = ("explicit", "failed-open")
"""Modes in which the router expected nothing."""
MOST_ARMS = 4_000
"""Decisions whose arms are looked at for a summary; of more, each k-th."""
MOST_VECTORS = 1_000
"""Queries whose vectors are looked at: with more, differences too small to matter would stand out."""
ARMS = {
    "decision": pl.String,
    "llm": pl.String,
    "quality": pl.Float64,
    "quality_low": pl.Float64,
    "quality_high": pl.Float64,
    "cost_usd": pl.Float64,
    "wait_s": pl.Float64,
    "completion_s": pl.Float64,
    "score": pl.Float64,
    "admissible": pl.Boolean,
    "probability": pl.Float64,
}


@dataclass(frozen=True)
class Frames:
    """Decisions since a time, with their calls, their feedback and what was expected of each LLM.

    Attributes
    ----------
    decisions, calls, feedback
        As the store keeps them, without vectors and texts.
    arms
        One row per LLM and decision, the columns of `ARMS`; of many decisions a sample.
    vectors
        (n, d), of the queries; of many a sample.
    """

    decisions: pl.DataFrame
    calls: pl.DataFrame
    feedback: pl.DataFrame
    arms: pl.DataFrame
    vectors: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @classmethod
    def read(cls, store: "Store", since: float, most_arms: int = MOST_ARMS, fits_after: int = 0) -> "Frames":
        """Read a store.

        Parameters
        ----------
        store
            Of the gateway.
        since
            Seconds since the epoch.
        most_arms
            Decisions whose arms are read; a systematic sample if there are more. 0: none, for whoever needs none of
            them: they are most of what is read.
        fits_after
            Vectors of decisions up to this sequence are of another form than the router's.
        """
        decisions = store.decisions_frame(since)
        step = -(-max(decisions.height, 1) // most_arms) if most_arms else 0
        empty = pl.DataFrame(schema=ARMS)
        return cls(
            decisions,
            store.calls_frame(since),
            store.feedback_frame(since),
            pl.concat([empty, *(arms(part) for part in store.details_frames(since, step))] if step else [empty]),
            store.vectors(since, fits_after, MOST_VECTORS),
        )

    def judged(self) -> pl.DataFrame:
        """Return the decisions with feedback: their columns, and ``observed`` quality, 0..1, of the LLM that served."""
        told = self.feedback.select(
            pl.col("decision").alias("id"),
            pl.coalesce(pl.col("quality"), pl.col("satisfied").cast(pl.Float64)).alias("observed"),
        ).drop_nulls()
        return self.decisions.join(told, on="id").filter(pl.col("served").is_not_null())

    def spent(self) -> pl.DataFrame:
        """Return ``id`` and ``spend_usd`` of the decisions whose calls' cost is known; failed calls count, too."""
        known = self.calls.filter(pl.col("cost_usd").is_not_null() & pl.col("decision").is_not_null())
        return known.group_by(pl.col("decision").alias("id")).agg(pl.col("cost_usd").sum().alias("spend_usd"))


def arms(details: pl.DataFrame) -> pl.DataFrame:
    """Return one row per LLM and decision from explanations.

    Parameters
    ----------
    details
        Columns ``id`` and ``details``, the JSON text of `Decision.to_dict`.
    """
    fields = {name: kind for name, kind in ARMS.items() if name != "decision"}
    kind = pl.Struct({"arms": pl.List(pl.Struct(fields))})
    return (
        details.filter(pl.col("details").is_not_null())
        .select(pl.col("id").alias("decision"), pl.col("details").str.json_decode(kind).struct.field("arms"))
        .explode("arms")
        .unnest("arms")
        .drop_nulls("llm")
        .select(list(ARMS))
    )
