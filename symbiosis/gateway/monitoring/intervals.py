"""95 % intervals of means and of differences of means, by formulas: cheap enough for every look at the console."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit  # scipy.stats would take 50 MB of a gateway, minutes after its start

Z = 1.959963984540054
"""97.5 % point of the normal distribution."""


class Estimate(NamedTuple):
    """A mean or a difference with its 95 % interval; n is how many values it comes from."""

    mean: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int]:
        """Return plain values, to six places."""
        return {
            "mean": round(self.mean, 6),
            "low": round(self.low, 6),
            "high": round(self.high, 6),
            "n": self.n,
        }


def wilson(values: np.ndarray) -> Estimate | None:
    """Estimate the mean of qualities in 0..1; None without any.

    The score interval of a proportion (Wilson 1927). Graded qualities spread less than 0 and 1 with the same mean do,
    so that for them the interval is wider than it need be, never narrower.

    Parameters
    ----------
    values
        (N,), 0..1.
    """
    n = len(values)
    if n == 0:
        return None
    mean = float(values.mean())
    centre = (mean + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return Estimate(mean, min(max(centre - half, 0.0), mean), max(min(centre + half, 1.0), mean), n)


def quality_difference(treated: np.ndarray, control: np.ndarray) -> Estimate | None:
    """Estimate the difference of two mean qualities of different queries; None if a side is empty.

    Newcombe's hybrid of two score intervals (1998, method 10); n is that of the smaller side.

    Parameters
    ----------
    treated, control
        (N,) and (M,), 0..1.
    """
    one, other = wilson(treated), wilson(control)
    if one is None or other is None:
        return None
    difference = one.mean - other.mean
    low = difference - math.hypot(one.mean - one.low, other.high - other.mean)
    high = difference + math.hypot(one.high - one.mean, other.mean - other.low)
    return Estimate(difference, low, high, min(one.n, other.n))


def mean_interval(values: np.ndarray) -> Estimate | None:
    """Estimate the mean of any numbers by Student's t; None with fewer than two.

    Parameters
    ----------
    values
        (N,).
    """
    n = len(values)
    if n < 2:
        return None
    half = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, n)


def mean_difference(treated: np.ndarray, control: np.ndarray) -> Estimate | None:
    """Estimate the difference of two means of different queries by Welch's t; None with fewer than two on a side.

    Parameters
    ----------
    treated, control
        (N,) and (M,), of any numbers, such as costs.
    """
    if min(len(treated), len(control)) < 2:
        return None
    difference = float(treated.mean() - control.mean())
    n = min(len(treated), len(control))
    if treated.std() == 0 and control.std() == 0:
        return Estimate(difference, difference, difference, n)
    variances = np.array([values.var(ddof=1) / len(values) for values in (treated, control)])
    freedom = variances.sum() ** 2 / (variances**2 / [len(treated) - 1, len(control) - 1]).sum()
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variances.sum())
    return Estimate(difference, difference - half, difference + half, n)
