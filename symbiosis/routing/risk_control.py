"""How sure of a cheap LLM must one be, if "asked it, and it failed" may happen at most so often?

The cheap LLM is asked where its predicted quality reaches a threshold. The higher the threshold, the rarer are its
failures among all queries, so the least threshold that is still safe is found from above. The promise is for queries
exchangeable with the calibration queries.
"""

from typing import Literal

import numpy as np

Bound = Literal["expectation", "probability"]


def threshold(
    predicted: np.ndarray, failed: np.ndarray, alpha: float, bound: Bound = "probability", error: float = 0.1
) -> float:
    """Return the least safe threshold of the cheap LLM's predicted quality; infinite if none is.

    Parameters
    ----------
    predicted
        (N,), its predicted quality for calibration queries.
    failed
        (N,), whether it fails on them.
    alpha
        Bearable share of all queries on which it is asked and fails.
    bound
        ``probability``: with probability 1 - `error` over the calibration queries the share is at most alpha, by the
        upper limit of Clopper and Pearson 1934 for every threshold from above to the first that fails (Bates et al.
        2021); ``expectation``: the mean of the share over calibration sets is (Angelopoulos et al. 2024, conformal
        risk control).
    error
        See `bound`.
    """
    n = len(predicted)
    order = np.argsort(-predicted, kind="stable")
    values, failures = predicted[order], np.cumsum(failed[order])
    last = np.append(values[1:] < values[:-1], True) if n else np.zeros(0, dtype=bool)  # equals are asked together
    values, failures = values[last], failures[last]
    if bound == "expectation":
        highest = (failures + 1) / (n + 1)
    else:
        from scipy.stats import beta

        highest = np.where(failures < n, beta.ppf(1 - error, failures + 1, np.maximum(n - failures, 1)), 1.0)
    safe = np.logical_and.accumulate(highest <= alpha)
    return float(values[safe][-1]) if safe.any() else float("inf")
