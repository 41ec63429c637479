"""What a gateway's log says of its policy and of others: the A/B test, and off-policy estimates.

Off-policy estimates use the answers with feedback that the chosen LLM gave itself, the propensity with which it was
chosen, and the qualities that were expected of all LLMs at that moment. They hold as far as the feedback does: where
users judge good and bad answers with different zeal, every number here is off by that.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from symbiosis.gateway.monitoring.frames import ROUTED, Frames
from symbiosis.gateway.monitoring.summary import Document, LiveState, summary
from symbiosis.routing.learning import off_policy
from symbiosis.routing.policy.goals import Goal
from symbiosis.routing.policy.objectives import Budget, Outlook, decide

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

MOST_JUDGED = 20_000
"""Decisions whose arms are read for estimates; of more, each k-th."""
LOGGED, GREEDY = "as logged", "best score"


@dataclass(frozen=True)
class Judged:
    """Routed queries with feedback; N queries, L LLMs.

    Attributes
    ----------
    llms
        L names.
    logged
        What was done, how probably, and what came of it.
    arms
        Columns of `symbiosis.gateway.monitoring.frames.ARMS`, (N, L) each.
    passed_over
        Queries with feedback that were decided among other LLMs than the last.
    """

    llms: tuple[str, ...]
    logged: off_policy.Logged
    arms: Mapping[str, np.ndarray]
    passed_over: int


def report(
    store: "Store | Frames",
    hours: float,
    goals: Mapping[str, Goal] | None = None,
    cost_scale: float = 1.0,
    now: float | None = None,
) -> Document:
    """Estimate how the policy of the last hours compares with others.

    Parameters
    ----------
    store
        Of the gateway, or what was read from it.
    hours
        Length of the window.
    goals
        Policies by name, such as those of the config; budgets are left out, as they depend on what was spent before.
    cost_scale
        Dollars that count as 1 in a trade-off: the trained router's.
    now
        End of the window, seconds since the epoch; None: the present.
    """
    end = time.time() if now is None else now
    frames = store if isinstance(store, Frames) else Frames.read(store, end - hours * 3600, MOST_JUDGED)
    summed = summary(frames, hours, LiveState(), end)
    kept = ("window_hours", "queries", "spend_usd", "best_single", "routed", "saved_usd", "saved_share", "feedback")
    judged = judged_queries(frames)
    return {
        **{name: summed[name] for name in kept},
        "ab": summed["ab"],
        "drift": summed["drift"],
        "judged": 0 if judged is None else len(judged.logged.arm),
        "passed_over": 0 if judged is None else judged.passed_over,
        "certain_share": None if judged is None else round(float((judged.logged.propensity >= 1).mean()), 6),
        "policies": [] if judged is None else estimates(judged, goals or {}, cost_scale),
    }


def judged_queries(frames: Frames) -> Judged | None:
    """Collect the routed queries with feedback that were decided among the present LLMs; None if there are none."""
    told = frames.judged().filter((pl.col("mode") == ROUTED) & (pl.col("served") == pl.col("llm")))
    told = told.select("id", "at", "served", "propensity", "observed")
    known = told.join(frames.arms, left_on="id", right_on="decision")
    if known.is_empty():
        return None
    last = known.filter(pl.col("at") == known["at"].max())
    llms = tuple(last.filter(pl.col("id") == last["id"][-1])["llm"])
    own = known.group_by("id").agg(pl.col("llm").sort()).filter(pl.col("llm") == sorted(llms))["id"]
    order = pl.DataFrame({"llm": llms, "arm": range(len(llms))})
    rows = known.filter(pl.col("id").is_in(own.implode())).join(order, on="llm").sort("at", "id", "arm")
    arms = {
        name: rows[name].cast(pl.Float64).fill_null(0.0).to_numpy().reshape(-1, len(llms))
        for name in frames.arms.columns
        if name not in ("decision", "llm")
    }
    queries = rows.filter(pl.col("llm") == pl.col("served"))
    logged = off_policy.Logged(
        queries["arm"].to_numpy(), queries["propensity"].to_numpy(), queries["observed"].to_numpy()
    )
    return Judged(llms, logged, arms, known["id"].n_unique() - queries.height)


def estimates(judged: Judged, goals: Mapping[str, Goal], cost_scale: float) -> list[Document]:
    """Estimate the quality and cost per query of each policy: the logged one, each LLM alone, the given goals."""
    n, n_llms = judged.arms["quality"].shape
    allowed = judged.arms["admissible"] > 0
    probability = judged.arms["probability"]
    total = probability.sum(axis=1, keepdims=True)
    targets = {LOGGED: np.divide(probability, total, out=np.eye(n_llms)[judged.logged.arm], where=total > 0)}
    targets[GREEDY] = np.eye(n_llms)[np.where(allowed, judged.arms["score"], -np.inf).argmax(axis=1)]
    outlook = _outlook(judged, cost_scale)
    for name, goal in goals.items():
        if not isinstance(goal.objective, Budget):
            targets[name] = np.eye(n_llms)[_choices(goal, outlook, allowed)]
    for arm, llm in enumerate(judged.llms):
        targets[f"always {llm}"] = np.eye(n_llms)[np.full(n, arm)]
    return [_estimate(name, target, judged) for name, target in targets.items()]


def _outlook(judged: Judged, cost_scale: float) -> Outlook:
    """Return what was expected of each LLM, as objectives look at it."""
    arms = judged.arms
    half = (arms["quality_high"] - arms["quality_low"]) / 2
    return Outlook(
        quality=arms["quality"],
        lower=arms["quality_low"],
        upper=arms["quality_high"],
        uncertainty=half,
        cost_usd=arms["cost_usd"],
        wait_s=arms["wait_s"],
        service_s=np.maximum(arms["completion_s"] - arms["wait_s"], 0.0),
        startup_s=np.zeros(len(judged.llms)),
        cost_scale=cost_scale,
    )


def _choices(goal: Goal, outlook: Outlook, allowed: np.ndarray) -> np.ndarray:
    """Return the arm of each query, (N,), that a goal prefers among those that were allowed."""
    verdict = decide(goal.objective, outlook, goal.deadline)
    able = verdict.admissible & allowed
    able = np.where(able.any(axis=1, keepdims=True), able, allowed)
    chosen: np.ndarray = np.where(able, verdict.total, -np.inf).argmax(axis=1)
    return chosen


def _estimate(name: str, target: np.ndarray, judged: Judged) -> Document:
    found = off_policy.evaluate_policy(judged.logged, target, judged.arms["quality"])
    best = found.estimates["dr"]
    return {
        "policy": name,
        "quality": {"mean": round(best.value, 6), "low": round(best.low, 6), "high": round(best.high, 6)},
        "usd_per_query": round(float((target * judged.arms["cost_usd"]).sum(axis=1).mean()), 9),
        "effective_sample_size": round(found.effective_sample_size, 1),
        "estimators": {kind: round(estimate.value, 6) for kind, estimate in found.estimates.items()},
        "alarms": list(found.alarms),
    }


def text(document: Document) -> str:
    """Return a report for people."""
    lines = [
        f"last {document['window_hours']:g} h: {document['queries']:,} queries, {document['spend_usd']:.4f} USD",
    ]
    if best := document["best_single"]:
        routed = document["routed"]
        share = document["saved_share"]
        saved = "" if share is None else f" ({share:.1%})"
        lines.append(
            f"{routed['queries']:,} routed queries cost {routed['spend_usd']:.4f} USD; {best['llm']}, the best single "
            f"LLM by expectation, {best['usd']:.4f}: saved {document['saved_usd']:.4f} USD{saved}"
        )
    rate = document["feedback"]["rate"]
    lines.append(f"feedback on {document['feedback']['n']:,} answers" + ("" if rate is None else f" ({rate:.1%})"))
    lines += ["", *_experiment(document["ab"]), "", *_drift(document["drift"]), "", *_policies(document)]
    return "\n".join(lines)


def _experiment(ab: Document | None) -> list[str]:
    if ab is None:
        return ["A/B: no control group in the window (`share` below 1 makes one)"]
    lines = [f"A/B: {ab['routed']['queries']:,} routed, {ab['control']['queries']:,} control queries"]
    for name, label in (("quality_difference", "quality"), ("usd_difference", "USD per query")):
        told = _interval(ab[name], sign=True) if ab[name] else "too little was observed"
        lines.append(f"  routed less control, {label}: {told}")
    return lines


def _drift(drift: Document | None) -> list[str]:
    if drift is None or drift["bias"] is None:
        return ["drift: too little feedback in the window"]
    bias = {"mean": drift["bias"], "low": drift["bias_low"], "high": drift["bias_high"]}
    trained = drift["training_error"]
    lines = [
        f"drift: observed less expected quality {_interval(bias, sign=True)}",
        f"  calibration error {drift['calibration_error']:.4f}" + (f", in training {trained:.4f}" if trained else ""),
    ]
    if drift["cost_log_ratio"] is not None:
        lines.append(f"  actual over expected cost {np.exp(drift['cost_log_ratio']):.3f}")
    return lines


def _policies(document: Document) -> list[str]:
    if not document["policies"]:
        return ["other policies: no routed query with feedback and an explanation in the window"]
    rows = [
        ["policy", "quality (doubly robust)", "USD per query", "effective n", ""],
        *(
            [
                one["policy"],
                _interval(one["quality"]),
                f"{one['usd_per_query']:.6f}",
                f"{one['effective_sample_size']:.0f}",
                "see alarms" if one["alarms"] else "",
            ]
            for one in document["policies"]
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    head = f"policies, estimated from {document['judged']:,} answers with feedback:"
    # The first alarm of each says enough for people; the document has all.
    alarms = [f"  {one['policy']}: {one['alarms'][0]}" for one in document["policies"] if one["alarms"]]
    if document["certain_share"] == 1:
        reason = "every choice of the log was certain (propensity 1): what it did not choose rests on predictions alone"
        alarms = [f"  {reason}"]
    return [head, *lines, *(["alarms:", *alarms] if alarms else [])]


def _interval(estimate: Document, *, sign: bool = False) -> str:
    form = "+.4f" if sign else ".4f"
    return f"{estimate['mean']:{form}} [{estimate['low']:{form}}, {estimate['high']:{form}}]"
