"""Scores that others report for routers, so that anybody can put our row beside theirs.

All are computed from operating points (mean cost and mean quality per query, the test queries' own) and the two single
LLMs of `symbiosis.routing.metrics.curves.Reference`. AIQ (RouterBench, arXiv 2403.12031) stands in
`symbiosis.routing.metrics.metrics`. docs/methods.md, section 2.12, says where a definition had to be read for a pool of
more than two LLMs.
"""

import math

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.metrics.metrics import hull

ARENA_BETA = 0.1
ARENA_COSTS = (0.0044, 200.0)
"""USD per 1,000 queries that count as cost score 1 and 0."""

CALLS_FOR = (0.5, 0.8)
"""Shares of the quality gap whose call-performance threshold is reported."""


def arena_score(quality: float, cost_usd: float) -> float:
    """Score of RouterArena (arXiv 2510.00202; `compute_arena_score` in its repository), 0..1.

    With the cost score C, on a log scale from `ARENA_COSTS`, it is (1 + beta) A C / (beta A + C), a weighted harmonic
    mean of accuracy and C.

    Parameters
    ----------
    quality
        Mean quality A, 0..1.
    cost_usd
        Mean cost of a query; outside `ARENA_COSTS` it counts as the nearer end, as free LLMs do.
    """
    low, high = (math.log2(end) for end in ARENA_COSTS)
    logarithm = math.log2(1000 * cost_usd) if cost_usd > 0 else low
    cost = (high - min(max(logarithm, low), high)) / (high - low)
    below = ARENA_BETA * quality + cost
    return (1 + ARENA_BETA) * quality * cost / below if below > 0 else 0.0


def gap_recovered(quality: float, weak: float, strong: float) -> float | None:
    """Performance gap recovered, PGR (RouteLLM, arXiv 2406.18665): 0 as the weak LLM, 1 as the strong; None: no gap."""
    return (quality - weak) / (strong - weak) if strong > weak else None


def average_gap_recovered(calls: np.ndarray, quality: np.ndarray, weak: float, strong: float) -> float | None:
    """Average performance gap recovered, APGR (RouteLLM, arXiv 2406.18665): PGR over the share of strong calls.

    The integral is the trapezoid rule, as in its repository; None without a gap, or with fewer than two points.

    Parameters
    ----------
    calls
        (P,), share of calls to the strong LLM, rising.
    quality
        (P,), mean quality at each.
    weak, strong
        Mean quality of the two LLMs.
    """
    if strong <= weak or len(calls) < 2:
        return None
    recovered = (quality - weak) / (strong - weak)
    return float(np.trapezoid(recovered, calls) / (calls[-1] - calls[0]))


def call_threshold(calls: np.ndarray, quality: np.ndarray, share: float, weak: float, strong: float) -> float | None:
    """Call-performance threshold, CPT (RouteLLM, arXiv 2406.18665): least share of strong calls for a PGR of `share`.

    Parameters
    ----------
    calls, quality
        (P,) each, as for `average_gap_recovered`; between two points the straight line counts, which a random mix of
        the two reaches.
    share
        Of the gap.
    weak, strong
        Mean quality of the two LLMs.

    Returns
    -------
    float or None
        None if that share is never reached, or there is no gap.
    """
    if strong <= weak:
        return None
    wanted = weak + share * (strong - weak)
    reached = np.flatnonzero(quality >= wanted)
    if not len(reached):
        return None
    first = int(reached[0])
    if first == 0:
        return float(calls[0])
    before, after = first - 1, first
    part = (wanted - quality[before]) / (quality[after] - quality[before])
    return float(calls[before] + part * (calls[after] - calls[before]))


def gain_and_save(points: np.ndarray, best: np.ndarray) -> tuple[float | None, float | None]:
    """Performance gain and cost saving over the best single LLM (LLMRouterBench, arXiv 2601.07206).

    Parameters
    ----------
    points
        (P, 2), cost and quality of each setting of the router.
    best
        (2,), those of the best single LLM.

    Returns
    -------
    tuple
        Largest quality of a setting, as a share of the best single LLM's, less 1; and 1 less the least cost of a
        setting that is as good as the best single LLM, as a share of that LLM's cost. None: a division by zero, or no
        setting is as good ("n.a." in their table).
    """
    cost, quality = best.tolist()
    gain = float(points[:, 1].max() / quality - 1) if quality > 0 else None
    good = points[points[:, 1] >= quality]
    save = float(1 - good[:, 0].min() / cost) if len(good) and cost > 0 else None
    return gain, save


def standard_scores(points: np.ndarray, singles: np.ndarray) -> dict[str, float | None]:
    """Compute all scores of one curve but AIQ.

    RouteLLM's are for two LLMs. In a pool the weak LLM is the cheapest and the strong one the best single LLM, and the
    share of strong calls is read as the share of the way from the one's cost to the other's; with these two LLMs alone,
    each of one price, that is the share of calls. The curve is its hull, like that of AIQ.

    Parameters
    ----------
    points
        (P, 2), cost and quality of each operating point.
    singles
        (2, 2), those of the cheapest and of the best single LLM, over the same queries.

    Returns
    -------
    dict
        ``arena`` (the best of all operating points), ``apgr``, ``cpt_50``, ``cpt_80``, ``perf_gain``, ``cost_save``.
    """
    (low, weak), (high, strong) = singles.tolist()
    gain, save = gain_and_save(points, singles[1])
    scores: dict[str, float | None] = {
        "arena": max(arena_score(quality, cost) for cost, quality in points.tolist()),
        "perf_gain": gain,
        "cost_save": save,
        "apgr": None,
        **dict.fromkeys(map(_cpt, CALLS_FOR)),
    }
    if high > low and strong > weak:
        corners = hull(np.append(points[:, 0], low), np.append(points[:, 1], weak))
        inside = corners[(corners[:, 0] > low) & (corners[:, 0] < high), 0]
        cost = np.concatenate([[low], inside, [high]])
        calls, quality = (cost - low) / (high - low), np.interp(cost, corners[:, 0], corners[:, 1])
        scores["apgr"] = average_gap_recovered(calls, quality, weak, strong)
        for share in CALLS_FOR:
            scores[_cpt(share)] = call_threshold(calls, quality, share, weak, strong)
    return scores


def mean_scores(points: list[np.ndarray], singles: list[np.ndarray]) -> dict[str, float | None]:
    """Average the scores over splits; None where some split has none."""
    found = [standard_scores(one, two) for one, two in zip(points, singles, strict=True)]
    means: dict[str, float | None] = {}
    for name in found[0]:
        known = [value for scores in found if (value := scores[name]) is not None]
        means[name] = rounded(float(np.mean(known))) if len(known) == len(found) else None
    return means


def _cpt(share: float) -> str:
    return f"cpt_{round(100 * share)}"
