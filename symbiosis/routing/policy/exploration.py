"""Which LLM is tried although another looks better: always with known probabilities, for off-policy evaluation."""

from collections.abc import Callable
from typing import Literal

import numpy as np

Kind = Literal["none", "epsilon", "softmax", "thompson"]
NODES = 96  # of the quadrature for Thompson sampling
REACH = 5.0  # standard deviations around the means that it covers


def probabilities(scores: np.ndarray, deviation: np.ndarray, kind: Kind, amount: float) -> np.ndarray:
    """Probability with which each LLM is chosen for one query.

    Parameters
    ----------
    scores
        (L,), the decision's scores.
    deviation
        (L,), posterior standard deviation of the scores; only Thompson sampling looks at it.
    kind
        ``none``: the best. ``epsilon``: any LLM in the share `amount` of the queries. ``softmax``: by exp(score /
        amount). ``thompson``: as often as the LLM is the best under independent normal scores with `amount` times
        the given deviations (Thompson 1933).
    amount
        See `kind`; 0 chooses the best.

    Returns
    -------
    numpy.ndarray
        (L,), sums to 1.
    """
    best = np.zeros(len(scores))
    best[scores.argmax()] = 1.0
    if kind == "none" or amount == 0:
        return best
    if kind == "epsilon":
        return (1 - amount) * best + amount / len(scores)
    if kind == "softmax":
        odds = np.exp((scores - scores.max()) / amount)
        chance: np.ndarray = odds / odds.sum()
        return chance
    return _best_of_normals(scores, np.maximum(amount * deviation, 1e-9))


def among_best(
    scores: np.ndarray, deviation: np.ndarray, admissible: np.ndarray, most: int, kind: Kind, amount: float
) -> np.ndarray:
    """Probability of each LLM when only the best admissible ones are tried.

    Parameters
    ----------
    scores, deviation, kind, amount
        See `probabilities`.
    admissible
        (L,), whether an LLM may be chosen; at least one.
    most
        How many of them are tried, at least 1.

    Returns
    -------
    numpy.ndarray
        (L,), sums to 1; 0 for all others.
    """
    order = np.argsort(np.where(admissible, -scores, np.inf), kind="stable")
    tried = order[: min(most, int(admissible.sum()))]
    chance = np.zeros(len(scores))
    chance[tried] = probabilities(scores[tried], deviation[tried], kind, amount)
    return chance


def _best_of_normals(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the probability that each of some independent normal variables is the largest, (L,).

    The integral over the density of one times the distribution functions of the others, by the midpoint rule.
    """
    from scipy.special import ndtr

    z = (np.arange(NODES) + 0.5) / NODES * 2 * REACH - REACH
    density = np.exp(-0.5 * z**2)
    values = mean[:, None] + deviation[:, None] * z  # (L, NODES)
    below = ndtr((values[:, :, None] - mean) / deviation)  # (L, NODES, L)
    own = np.arange(len(mean))
    below[own, :, own] = 1.0
    chance: np.ndarray = (density * below.prod(axis=2)).sum(axis=1)
    return chance / chance.sum()


def prefer_idle(scores: np.ndarray, admissible: np.ndarray, wait_s: np.ndarray, near_tie: float) -> np.ndarray:
    """Give the best score to the LLM with the shortest wait among those within `near_tie` of it, against herding.

    Parameters
    ----------
    scores, admissible, wait_s
        (L,).
    near_tie
        In units of the score, above 0.

    Returns
    -------
    numpy.ndarray
        (L,), the scores with two of them exchanged, or as they were.
    """
    best = np.where(admissible, scores, -np.inf)
    near = np.flatnonzero(best >= best.max() - near_tie)
    first, shortest = int(best.argmax()), int(near[wait_s[near].argmin()])
    if wait_s[shortest] >= wait_s[first]:
        return scores
    exchanged = scores.copy()
    exchanged[[first, shortest]] = scores[[shortest, first]]
    return exchanged


def with_burn_in(chances: np.ndarray, new: np.ndarray, share: float) -> np.ndarray:
    """Mix chances (L,) with an even draw, in the given share of the queries, among the new LLMs, (L,) of bool."""
    return (1 - share) * chances + share * new / new.sum() if new.any() else chances


def drawn(chances: np.ndarray, draw: Callable[[], float]) -> int:
    """Draw an LLM by the chances (L,) and a number in [0, 1); no draw is used up where one is certain."""
    arm = int(chances.argmax())
    if chances[arm] < 1:
        arm = min(int(np.searchsorted(chances.cumsum(), draw(), side="right")), len(chances) - 1)
    return arm
