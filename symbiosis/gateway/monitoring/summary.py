"""What `GET /v1/summary` says: spend, savings, latency, quality and state, from the store and the live process.

**Savings.** The best single LLM is the one whose mean expected quality over the window's routed queries is highest, by
the expectations that were written down with each decision; of equals the cheaper one. Its cost on a query is what the
query did cost where it answered it, and what was expected otherwise. Only routed queries whose cost is known are
compared. Of more than `MOST_ARMS` decisions each k-th stands for k.
"""

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import polars as pl

from symbiosis.gateway.monitoring.drift import drift
from symbiosis.gateway.monitoring.errors import CLIENT
from symbiosis.gateway.monitoring.frames import ROUTED, Frames
from symbiosis.gateway.monitoring.intervals import mean_difference, quality_difference, wilson
from symbiosis.routing.serving.workspace import Training

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

CONTROL = "control"
POINTS = 48
"""Of the series."""
Document = dict[str, Any]


@dataclass(frozen=True)
class LiveState:
    """What only the running gateway knows.

    Attributes
    ----------
    upstreams
        Name of the upstream of each LLM that can be asked.
    circuits, in_flight
        State of each LLM's circuit breaker, and its calls that are under way.
    drained
        LLMs that take no new queries.
    mode
        `apply`, `observe` or `off`.
    router, version
        Digest of the trained router, and the version that decides.
    training
        What the window's queries are compared with.
    """

    upstreams: Mapping[str, str] = field(default_factory=dict)
    circuits: Mapping[str, str] = field(default_factory=dict)
    in_flight: Mapping[str, int] = field(default_factory=dict)
    drained: Collection[str] = ()
    mode: str = "apply"
    router: str = ""
    version: int = 0
    training: Training = field(default_factory=Training)


def summary(store: "Store | Frames", hours: float, live: LiveState, now: float | None = None) -> Document:
    """Sum up the last hours.

    Parameters
    ----------
    store
        Of the gateway, or what was read from it.
    hours
        Length of the window.
    live
        State of the running gateway.
    now
        End of the window, seconds since the epoch; None: the present.
    """
    end = time.time() if now is None else now
    begin = end - hours * 3600
    frames = store if isinstance(store, Frames) else Frames.read(store, begin, fits_after=live.training.fits_after)
    compared = savings(frames)
    spend = float(frames.calls["cost_usd"].sum())
    overhead = frames.decisions["overhead_ms"].drop_nulls()
    found = drift(frames, live.training.reference)
    baseline = float(compared.queries["baseline_usd"].sum()) * compared.weight
    routed = float(compared.queries["spend_usd"].sum()) * compared.weight
    return {
        "window_hours": hours,
        "queries": frames.decisions.height,
        "spend_usd": _rounded(spend),
        "best_single": None if compared.llm is None else {"llm": compared.llm, "usd": _rounded(baseline)},
        "routed": {"queries": compared.total, "spend_usd": _rounded(routed)},
        "saved_usd": _rounded(baseline - routed),
        "saved_share": _rounded((baseline - routed) / baseline) if baseline > 0 else None,
        "overhead_ms": {"p50": _quantile(overhead, 0.5), "p99": _quantile(overhead, 0.99)},
        "feedback": {"n": frames.feedback.height, "rate": found.feedback_rate},
        "llms": _llms(frames, live),
        "series": _series(frames, compared, begin, end),
        "ab": experiment(frames),
        "drift": found.to_dict() if found.judged or found.priced or found.seen else None,
        "mode": live.mode,
        "router": live.router,
        "version": live.version,
    }


@dataclass(frozen=True)
class Savings:
    """The routed queries against the best single LLM.

    Attributes
    ----------
    llm
        The best single LLM; None: nothing to compare.
    queries
        Those compared: ``at``, ``spend_usd``, ``baseline_usd``.
    total
        Routed queries whose cost is known.
    weight
        How many of them each of `queries` stands for.
    """

    llm: str | None
    queries: pl.DataFrame
    total: int

    @property
    def weight(self) -> float:
        """Queries that each compared one stands for."""
        return self.total / self.queries.height if self.queries.height else 0.0


def savings(frames: Frames) -> Savings:
    """Compare the routed queries with the best single LLM; see the head of this module."""
    routed = frames.decisions.filter(pl.col("mode") == ROUTED).join(frames.spent(), on="id")
    expected = frames.arms.join(routed.select("id", "at", "served", "spend_usd"), left_on="decision", right_on="id")
    nothing = pl.DataFrame(schema={"at": pl.Float64, "spend_usd": pl.Float64, "baseline_usd": pl.Float64})
    if expected.is_empty():
        return Savings(None, nothing, routed.height)
    means = expected.group_by("llm").agg(
        pl.col("quality").mean(), pl.col("cost_usd").mean(), pl.len().alias("decisions")
    )
    # An LLM that joined within the window was expected of some queries only: compared are those of most queries.
    usual = means.filter(pl.col("decisions") * 2 >= means["decisions"].max())
    best = usual.sort(["quality", "cost_usd", "llm"], descending=[True, False, False])["llm"][0]
    baseline = pl.when(pl.col("served") == best).then(pl.col("spend_usd")).otherwise(pl.col("cost_usd"))
    queries = expected.filter(pl.col("llm") == best).select("at", "spend_usd", baseline.alias("baseline_usd"))
    return Savings(str(best), queries, routed.height)


def experiment(frames: Frames) -> Document | None:
    """Compare routed queries with those of the control group, which the default served; None if a side is empty.

    Quality is observed, of the answers with feedback. Cost is per query, of those whose cost is known.
    """
    sides = {name: frames.decisions.filter(pl.col("mode") == name) for name in (ROUTED, CONTROL)}
    if any(side.is_empty() for side in sides.values()):
        return None
    judged, spent = frames.judged(), frames.spent()
    quality = {name: judged.filter(pl.col("mode") == name)["observed"].to_numpy() for name in sides}
    costs = {name: side.join(spent, on="id")["spend_usd"].to_numpy() for name, side in sides.items()}
    groups = {
        name: {
            "queries": side.height,
            "quality": _plain(wilson(quality[name])),
            "usd_per_query": _rounded(costs[name].mean()) if len(costs[name]) else None,
        }
        for name, side in sides.items()
    }
    return {
        "routed": groups[ROUTED],
        "control": groups[CONTROL],
        "quality_difference": _plain(quality_difference(quality[ROUTED], quality[CONTROL])),
        "usd_difference": _plain(mean_difference(costs[ROUTED], costs[CONTROL])),
    }


def _llms(frames: Frames, live: LiveState) -> list[Document]:
    """Describe each LLM that can be asked or that answered, in the order of the config."""
    answered = frames.decisions.filter(pl.col("served").is_not_null())
    names = list(dict.fromkeys([*live.upstreams, *answered["served"].unique().sort(), *frames.calls["llm"].unique()]))
    judged = frames.judged()
    documents = []
    for name in names:
        calls = frames.calls.filter(pl.col("llm") == name)
        good = calls.filter(pl.col("error").is_null() & (pl.col("status") < 400))
        # Other statuses from 400 on are errors of the client's own.
        bad = (pl.col("status") == 429) | (pl.col("status") >= 500) | pl.col("error").is_not_null()
        failed = calls.filter(bad & ~pl.col("error").str.starts_with(f"{CLIENT}:").fill_null(False))
        queries = answered.filter(pl.col("served") == name).height
        documents.append(
            {
                "llm": name,
                "upstream": live.upstreams.get(name) or (calls["upstream"][-1] if calls.height else None),
                "share": _rounded(queries / answered.height) if answered.height else 0.0,
                "queries": queries,
                "spend_usd": _rounded(float(calls["cost_usd"].sum())),
                "latency_s": _quantiles(good["total_s"]),
                "first_token_s": _quantiles(good["first_token_s"]),
                "quality": _plain(wilson(judged.filter(pl.col("served") == name)["observed"].to_numpy())),
                "errors": failed.height,
                "circuit": live.circuits.get(name, "closed"),
                "in_flight": live.in_flight.get(name, 0),
                "drained": name in live.drained,
            }
        )
    return documents


def _series(frames: Frames, compared: Savings, begin: float, end: float) -> list[Document]:
    """Sum up the window's parts of equal length, the oldest first."""
    width = (end - begin) / POINTS
    part = ((pl.col("at") - begin) / width).floor().clip(0, POINTS - 1).cast(pl.Int64).alias("part")
    asked = frames.decisions.group_by(part).agg(pl.len().alias("queries"))
    spent = frames.calls.group_by(part).agg(pl.col("cost_usd").sum().alias("spend_usd"))
    # What the routed queries would have cost more comes on top of what was spent on all.
    more = ((pl.col("baseline_usd") - pl.col("spend_usd")).sum() * compared.weight).alias("more_usd")
    baseline = compared.queries.group_by(part).agg(more)
    rows = pl.DataFrame({"part": range(POINTS)}, schema={"part": pl.Int64})
    for sums in (asked, spent, baseline):
        rows = rows.join(sums, on="part", how="left")
    return [
        {
            "at": round(begin + row["part"] * width, 3),
            "queries": row["queries"] or 0,
            "spend_usd": _rounded(row["spend_usd"] or 0.0),
            "baseline_usd": _rounded((row["spend_usd"] or 0.0) + (row["more_usd"] or 0.0)),
        }
        for row in rows.sort("part").iter_rows(named=True)
    ]


def _quantiles(values: pl.Series) -> Document:
    known = values.drop_nulls()
    return {"p50": _quantile(known, 0.5), "p90": _quantile(known, 0.9)}


def _quantile(values: pl.Series, level: float) -> float | None:
    return None if values.is_empty() else _rounded(values.quantile(level, "linear"))


def _plain(estimate: Any) -> Document | None:
    return None if estimate is None else estimate.to_dict()


def _rounded(value: Any) -> float:
    return round(float(value), 9)
