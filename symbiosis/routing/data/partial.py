"""What an LLM that was not asked would have answered: estimates for the gaps of a partial matrix.

They keep the gaps harmless where a method must have a number for every query and LLM: baselines, forests, what all LLMs
have in common, curves of queries that nobody knows completely. What belongs to one LLM is fitted without them.
"""

import numpy as np

EVIDENCE = 2.0  # answers that the mean over all counts as, beside an LLM's or a query's own


def estimated_quality(quality: np.ndarray) -> np.ndarray:
    """Fill the gaps (NaN) of quality, (N, L), by the LLM's mean and how hard the query was for those that were asked.

    Both are shrunk towards the mean over all, as if that had been seen `EVIDENCE` times.

    Returns
    -------
    numpy.ndarray
        (N, L), within 0..1; what is known stays as it is.
    """
    return np.where(np.isnan(quality), np.clip(_additive(quality), 0.0, 1.0), quality)


def estimated_amounts(amounts: np.ndarray) -> np.ndarray:
    """Fill the gaps (NaN) of tokens or dollars, (N, L), none below 0, in the same way but as factors.

    The estimates of an LLM are scaled to have the mean of what is known of it, so that gaps make nothing
    cheaper.

    Returns
    -------
    numpy.ndarray
        (N, L); what is known stays as it is.
    """
    known = ~np.isnan(amounts)
    paid = known & (amounts > 0)
    if not paid.any():
        return np.where(known, amounts, 0.0)
    logs = _additive(np.log(np.where(paid, amounts, np.nan), where=paid, out=np.full(amounts.shape, np.nan)))
    guess = np.exp(logs)
    count = known.sum(axis=0)
    total = np.where(known, amounts, 0.0).sum(axis=0)
    expected = np.where(known, guess, 0.0).sum(axis=0)
    factor = np.where(count > 0, total / np.where(expected > 0, expected, 1.0), 1.0)
    return np.where(known, amounts, guess * factor)


def _additive(values: np.ndarray) -> np.ndarray:
    """Mean of the LLM plus the query's mean deviation from its LLMs' means, both shrunk; (N, L)."""
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    whole = filled.sum() / max(known.sum(), 1)
    of_llm = (filled.sum(axis=0) + EVIDENCE * whole) / (known.sum(axis=0) + EVIDENCE)
    left = np.where(known, values - of_llm, 0.0).sum(axis=1)
    of_query = left / (known.sum(axis=1) + EVIDENCE)
    result: np.ndarray = of_llm + of_query[:, None]
    return result
