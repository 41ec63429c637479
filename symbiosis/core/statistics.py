"""Bootstrap intervals."""

import numpy as np

_CONFIDENCE = 0.95


_RESAMPLED_AT_ONCE = 1 << 22
"""Draws of the bootstrap held at once: 32 MiB."""


def bootstrap(values: np.ndarray, samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Percentile intervals of column means, the rows (users) resampled with replacement.

    Every column sees the same samples, so a column of differences between two methods has the paired interval.

    Parameters
    ----------
    values
        float64 (N, C).
    samples
        Number of samples of N rows each.
    seed
        Seed of the samples.

    Returns
    -------
    low, high
        float64 (C,), bounds of the 95 % intervals.

    References
    ----------
    Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    n = len(values)
    rng = np.random.default_rng(seed)
    drawn = np.empty((samples, values.shape[1]))
    step = max(1, _RESAMPLED_AT_ONCE // n)
    for start in range(0, samples, step):
        rows = min(step, samples - start)
        chosen = rng.integers(n, size=(rows, n)) + np.arange(rows)[:, None] * n
        weights = np.bincount(chosen.ravel(), minlength=rows * n).reshape(rows, n)
        drawn[start : start + rows] = weights @ values / n
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return low, high
