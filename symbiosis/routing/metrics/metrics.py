"""Quality against cost, calibration and regret."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def hull(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Non-decreasing concave hull of operating points: what a random mix of them can reach.

    Parameters
    ----------
    cost, quality
        (P,), means per query.

    Returns
    -------
    numpy.ndarray
        (m, 2), corners (cost, quality), both strictly increasing, slopes strictly decreasing.
    """
    corners: list[tuple[float, float]] = []
    for row in np.lexsort((-quality, cost)).tolist():
        x, y = float(cost[row]), float(quality[row])
        if corners and y <= corners[-1][1]:
            continue
        while len(corners) > 1:
            (x0, y0), (x1, y1) = corners[-2:]
            if (y1 - y0) * (x - x0) > (y - y0) * (x1 - x0):
                break
            corners.pop()
        corners.append((x, y))
    return np.array(corners)


def area(corners: np.ndarray, low: float, high: float) -> float:
    """Integrate quality over cost from `low` to `high` along a hull that is level outside its corners."""
    inside = corners[(corners[:, 0] > low) & (corners[:, 0] < high), 0]
    cost = np.concatenate([[low], inside, [high]])
    return float(np.trapezoid(np.interp(cost, corners[:, 0], corners[:, 1]), cost))


def aiq(corners: np.ndarray, low: float, high: float) -> float:
    """Average quality over a range of cost (AIQ of RouterBench, arXiv 2403.12031); at one cost, the quality there."""
    if high <= low:
        return float(np.interp(low, corners[:, 0], corners[:, 1]))
    return area(corners, low, high) / (high - low)


def log_aiq(corners: np.ndarray, low: float, high: float) -> float:
    """Average quality over a range of log cost: every halving of the cost counts the same.

    The hull stays that of plain cost, since a mix of two operating points lies on the straight line between them;
    only the axis that quality is averaged over is logarithmic.

    Parameters
    ----------
    corners
        (m, 2), from `hull`.
    low, high
        Ends of the range, USD. At one cost, the quality there; NaN if `low` is 0, where the axis has no end.
    """
    if high <= low:
        return float(np.interp(low, corners[:, 0], corners[:, 1]))
    if low <= 0:
        return float("nan")
    inside = corners[(corners[:, 0] > low) & (corners[:, 0] < high), 0]
    cost = np.concatenate([[low], inside, [high]])
    quality = np.interp(cost, corners[:, 0], corners[:, 1])
    slope = np.diff(quality) / np.diff(cost)
    # On each segment quality is a + b c, and the integral of (a + b c) / c is a ln c + b c.
    pieces = (quality[:-1] - slope * cost[:-1]) * np.diff(np.log(cost)) + slope * np.diff(cost)
    return float(pieces.sum() / np.log(high / low))


def cost_at(corners: np.ndarray, quality: float) -> float | None:
    """Least cost at which the hull reaches a quality; None if it never does."""
    if corners[-1, 1] < quality:
        return None
    return float(np.interp(quality, corners[:, 1], corners[:, 0]))


def calibration_error(predicted: np.ndarray, observed: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap between predicted and observed quality over bins of equal width.

    Parameters
    ----------
    predicted, observed
        (N,), 0..1.
    bins
        Number of bins, each weighted by its share of the queries.
    """
    place = np.minimum((predicted * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=predicted - observed, minlength=bins)
    return float(np.abs(gaps).sum() / len(predicted))


def brier(predicted: np.ndarray, observed: np.ndarray) -> float:
    """Mean squared difference of predicted and observed quality, arrays of one shape (Brier 1950)."""
    return float(((predicted - observed) ** 2).mean())


def coverage(low: np.ndarray, high: np.ndarray, observed: np.ndarray) -> float:
    """Share of the outcomes that lie within their intervals, ends included; arrays of one shape."""
    return float(((low <= observed) & (observed <= high)).mean())


def discrimination(predicted: np.ndarray, observed: np.ndarray) -> float | None:
    """Area under the ROC curve of "quality above one half"; None where all or no queries are above."""
    good = observed > 0.5
    if good.all() or not good.any():
        return None
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(good, predicted))


def cumulative_regret(gained: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Sum up to each round of what the reference gained and the policy did not, (N,)."""
    return np.cumsum(best - gained)


def cost_key(share: float) -> str:
    """Key of the cost at a share of the best single LLM's quality: ``cost_at_97_25`` for 0.9725."""
    return f"cost_at_{100 * share:g}".replace(".", "_")


def ratio(part: Any, whole: Any) -> Any:
    """Divide, 0 where the whole is 0 (all LLMs free, or all answers wrong)."""
    return np.divide(part, whole, out=np.zeros(np.shape(part)), where=np.asarray(whole) != 0)


def rounded(value: float) -> float:
    """Round to six digits, so that what is reported does not depend on the last bits of a sum."""
    return float(f"{value:.6g}")


def all_rounded(values: Any) -> Any:
    """Round every number below a mapping or list to six digits; integers, texts and nulls stay as they are."""
    if isinstance(values, Mapping):
        return {key: all_rounded(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [all_rounded(value) for value in values]
    return rounded(float(values)) if isinstance(values, float | np.floating) else values
