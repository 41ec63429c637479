"""Numbers of the router's report from what policies chose and got."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from symbiosis.core.statistics import interval
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.curves import Curve, Reference, Summary, summarise
from symbiosis.routing.metrics.metrics import cost_key, ratio, rounded
from symbiosis.routing.simulation.replay import Log


def tested(
    choices: Mapping[str, np.ndarray], outcomes: Outcomes, reference: Reference, weights: np.ndarray
) -> dict[str, Any]:
    """Quality and cost of each policy at the headline trade-off, and as shares of the best single LLM's."""
    rows = np.arange(len(outcomes))
    base_quality, base_cost = outcomes.quality[:, reference.best], outcomes.cost_usd[:, reference.best]
    results = {}
    for name, arms in choices.items():
        quality, cost = outcomes.quality[rows, arms], outcomes.cost_usd[rows, arms]
        if name == "random":  # its expectation, not one draw
            quality, cost = outcomes.quality.mean(axis=1), outcomes.cost_usd.mean(axis=1)
        results[name] = {
            "quality": rounded(quality.mean()),
            "quality_95": interval(weights @ quality),
            "quality_share": rounded(ratio(quality.mean(), base_quality.mean())),
            "quality_share_95": interval(ratio(weights @ quality, weights @ base_quality)),
            "cost_usd": rounded(cost.mean()),
            "cost_share": rounded(ratio(cost.mean(), base_cost.mean())),
            "cost_share_95": interval(ratio(weights @ cost, weights @ base_cost)),
        }
    return results


def timed(logs: Mapping[str, Log], outcomes: Outcomes, reference: Reference, late_s: float) -> dict[str, Any]:
    """Quality, cost, drops and times under the time limit; shares of the best single LLM without limit."""
    base_quality = outcomes.quality[:, reference.best].mean()
    base_cost = outcomes.cost_usd[:, reference.best].mean()
    return {
        name: {
            **_spent(log),
            "quality_share": rounded(ratio(log.quality.mean(), base_quality)),
            "cost_share": rounded(ratio(log.cost_usd.mean(), base_cost)),
            "late": rounded((log.trace.wait_s >= late_s).mean()),
        }
        for name, log in logs.items()
    }


def _spent(log: Log) -> dict[str, float]:
    times = log.trace.completion_s
    return {
        "quality": rounded(log.quality.mean()),
        "cost_usd": rounded(log.cost_usd.mean()),
        "dropped": rounded(log.trace.dropped.mean()),
        "failed": rounded(log.trace.failed.mean()),
        "p50_s": rounded(np.quantile(times, 0.5)) if len(times) else 0.0,
        "p99_s": rounded(np.quantile(times, 0.99)) if len(times) else 0.0,
    }


def streamed(log: Log, per_query: np.ndarray, fixed: np.ndarray) -> dict[str, float]:
    """Quality, cost, drops, times and final regret of a stream."""
    return {
        **_spent(log),
        "regret_per_query_best": rounded(per_query[-1]),
        "regret_fixed_best": rounded(fixed[-1]),
    }


def curved(
    curves: Mapping[str, Curve],
    summarised: Mapping[str, tuple[np.ndarray, Summary]],
    headline: str,
    outcomes: Outcomes,
    reference: Reference,
    weights: np.ndarray,
) -> dict[str, Any]:
    """AIQ and the headline router's lead, with paired intervals, and cost at shares of the best single's quality."""
    singles = reference.curve(outcomes).points(weights)
    sampled = {
        name: np.array([summarise(p, s).aiq for p, s in zip(curve.points(weights), singles, strict=True)])
        for name, curve in curves.items()
    }
    results: dict[str, Any] = {}
    for name, (_, summary) in summarised.items():
        results[name] = {
            "aiq": rounded(summary.aiq),
            "aiq_95": interval(sampled[name]),
            "aiq_to_zero": rounded(summary.aiq_to_zero),
            "highest_quality_share": rounded(ratio(summary.corners[-1, 1], outcomes.quality[:, reference.best].mean())),
            # A share that is never reached has no cost, and no key.
            **{cost_key(share): rounded(cost) for share, cost in summary.cost_at.items() if cost is not None},
        }
        if name != headline:
            results[name]["router_lead"] = rounded(summarised[headline][1].aiq - summary.aiq)
            results[name]["router_lead_95"] = interval(sampled[headline] - sampled[name])
    return results


def shares(choices: np.ndarray, n_llms: int) -> np.ndarray:
    """Share of the queries that each LLM gets, (L,)."""
    return np.bincount(choices, minlength=n_llms) / len(choices)
