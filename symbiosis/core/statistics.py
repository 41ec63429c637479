"""The bootstrap and its intervals, for users, queries and ratings alike.

Every column of a bootstrap sees the same samples, so the interval of a column of differences between two methods is the
paired interval of their difference.

References
----------
Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13 (percentile intervals).
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
DRAWN_AT_ONCE = 1 << 22
"""Draws held at once: 32 MiB."""

Draw = Literal["rows", "counts"]
"""How samples are drawn, alike in distribution: N row numbers each, or how often each row occurs (a multinomial)."""


def resample(n: int, samples: int, seed: int) -> np.ndarray:
    """Draw bootstrap weights of n observations: float64 (samples, n), each row with sum 1."""
    return np.concatenate([counts / n for counts in _counts(n, samples, seed, "counts")])


def resampled_means(values: np.ndarray, samples: int, seed: int, draw: Draw = "rows") -> np.ndarray:
    """Average the columns over bootstrap samples of the rows.

    Parameters
    ----------
    values
        float64 (N, C).
    samples
        Number of samples of N rows each.
    seed
        Seed of the samples.
    draw
        How they are drawn.

    Returns
    -------
    numpy.ndarray
        float64 (samples, C).
    """
    return np.concatenate([counts @ values / len(values) for counts in _counts(len(values), samples, seed, draw)])


def _counts(n: int, samples: int, seed: int, draw: Draw) -> Iterator[np.ndarray]:
    """Yield how often each of n rows occurs in each sample, int64 (some of the samples, n)."""
    rng = np.random.default_rng(seed)
    step = max(1, DRAWN_AT_ONCE // n)
    for start in range(0, samples, step):
        size = min(step, samples - start)
        if draw == "counts":
            yield rng.multinomial(n, np.full(n, 1 / n), size=size)
        else:
            chosen = rng.integers(n, size=(size, n)) + np.arange(size)[:, None] * n
            yield np.bincount(chosen.ravel(), minlength=size * n).reshape(size, n)


def bounds(samples: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper bound of the percentile interval of each column of bootstrap samples (B, ...)."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.asarray(samples), [tail, 1 - tail], axis=0)
    return low, high


def interval(samples: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Return the 95 % percentile interval of bootstrap samples (B,) as ``low`` and ``high``, to six places."""
    low, high = bounds(samples)
    return {"low": round(float(low), 6), "high": round(float(high), 6)}


def means_with_intervals(values: np.ndarray, samples: int, seed: int, digits: int = 5) -> list[dict[str, float]]:
    """Return ``mean``, ``low`` and ``high`` (95 %) of every column, rounded; the rows are resampled.

    Parameters
    ----------
    values
        float64 (N, C), C columns measured on the same N users.
    samples, seed
        Of the bootstrap.
    digits
        Places after the point.
    """
    low, high = bounds(resampled_means(values, samples, seed))
    columns = np.stack([values.mean(axis=0), low, high], axis=1).tolist()
    return [
        {name: round(value, digits) for name, value in zip(("mean", "low", "high"), column, strict=True)}
        for column in columns
    ]
