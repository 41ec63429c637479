"""What routing gains, as RouteLLM and LLMRouterBench count it, and whether it collapses to one LLM."""

import numpy as np

from symbiosis.routing.metrics import cost_at, hull


def gap_recovered(quality: np.ndarray, weak: float, strong: float) -> np.ndarray:
    """Share of the gap between a weak and a strong LLM's quality that is recovered (PGR; RouteLLM, arXiv 2406.18665).

    Parameters
    ----------
    quality
        Mean quality of operating points, any shape.
    weak, strong
        Mean quality of the two LLMs over the same queries; they differ.
    """
    recovered: np.ndarray = (quality - weak) / (strong - weak)
    return recovered


def average_gap_recovered(calls: np.ndarray, quality: np.ndarray, weak: float, strong: float) -> float:
    """Area under the recovered gap over the share of calls to the strong LLM (APGR; RouteLLM).

    RouteLLM averages over evenly spaced shares; this is the same with lines between the operating points.

    Parameters
    ----------
    calls
        (P,), share of the queries that the strong LLM gets, 0..1.
    quality, weak, strong
        (P,), and see `gap_recovered`.
    """
    return float(np.trapezoid(*_gap_by_calls(calls, quality, weak, strong)[::-1]))


def calls_for(share: float, calls: np.ndarray, quality: np.ndarray, weak: float, strong: float) -> float:
    """Least share of calls to the strong LLM that recovers a share of the gap (CPT; RouteLLM).

    Parameters
    ----------
    share
        0..1; CPT(50 %) is that for 0.5.
    calls, quality, weak, strong
        See `average_gap_recovered`. The first crossing counts, so the curve need not rise everywhere.
    """
    x, y = _gap_by_calls(calls, quality, weak, strong)
    after = int((y >= share).argmax())  # there is one: with all calls the whole gap is recovered
    if after == 0 or y[after] == y[after - 1]:
        return float(x[after])
    return float(x[after - 1] + (share - y[after - 1]) / (y[after] - y[after - 1]) * (x[after] - x[after - 1]))


def _gap_by_calls(calls: np.ndarray, quality: np.ndarray, weak: float, strong: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares of calls in rising order and the recovered gap at each, from no calls (0) to all (1)."""
    order = np.argsort(calls, kind="stable")
    gap = gap_recovered(quality[order], weak, strong)
    return np.concatenate([[0.0], calls[order], [1.0]]), np.concatenate([[0.0], gap, [1.0]])


def performance_gain(points: np.ndarray, best: np.ndarray) -> float:
    """Highest quality of all operating points against the best single LLM's, less 1 (PerfGain; LLMRouterBench).

    Parameters
    ----------
    points
        (P, 2), mean cost and quality.
    best
        (2,), of the best single LLM over the same queries.
    """
    return float(points[:, 1].max() / best[1] - 1)


def cost_save(points: np.ndarray, best: np.ndarray) -> float | None:
    """Share of the best single LLM's cost saved at its own quality (CostSave; LLMRouterBench, arXiv 2601.07206).

    Read off the hull; negative if the same quality costs more; None if it is never reached.

    Parameters
    ----------
    points, best
        See `performance_gain`.
    """
    cost = cost_at(hull(points[:, 0], points[:, 1]), float(best[1]))
    return None if cost is None else 1 - cost / float(best[0])


def pareto_distance(points: np.ndarray, others: np.ndarray) -> float:
    """Mean distance of a router's undominated operating points from the frontier (after LLMRouterBench's ParetoDist).

    The frontier holds the undominated points of all routers compared. Cost and quality are scaled by their ranges
    along it, so that the distance has no unit; 0 if all of the router's points lie on the frontier.

    Parameters
    ----------
    points
        (P, 2), mean cost and quality of the router.
    others
        (Q, 2), of all others.
    """
    own, frontier = undominated(points), undominated(np.vstack([points, others]))
    span = np.ptp(frontier, axis=0)
    scale = np.where(span > 0, span, 1.0)
    apart = (own[:, None, :] - frontier[None, :, :]) / scale
    return float(np.sqrt((apart**2).sum(axis=2)).min(axis=1).mean())


def undominated(points: np.ndarray) -> np.ndarray:
    """Return the points (m, 2) that no other is as cheap as and better than, by rising cost."""
    ordered = points[np.lexsort((-points[:, 1], points[:, 0]))]
    before = np.concatenate([[-np.inf], np.maximum.accumulate(ordered[:, 1])[:-1]])
    return np.asarray(ordered[ordered[:, 1] > before])


def share_of_dearest(choices: np.ndarray, cost_usd: np.ndarray) -> np.ndarray:
    """Share of the queries that the LLM with the highest mean cost gets, (P,): routing collapse (arXiv 2602.03478).

    Parameters
    ----------
    choices
        (P, N), arms at each operating point.
    cost_usd
        (N, L).
    """
    share: np.ndarray = (choices == cost_usd.mean(axis=0).argmax()).mean(axis=1)
    return share
