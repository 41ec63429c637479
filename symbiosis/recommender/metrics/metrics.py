"""Recall and NDCG of full rankings, for all users at once."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.sparse import csr_array


def places(ranking: np.ndarray, held_out: csr_array, k: int) -> np.ndarray:
    """Find the place of every held-out item in its user's ranking.

    Parameters
    ----------
    ranking
        int (U, depth), best first, padded with -1.
    held_out
        (U, I); its stored entries are the items to be found.
    k
        Places that are looked at.

    Returns
    -------
    np.ndarray
        int64, one number per stored entry of `held_out`, in its order: 0 is the best place; k, not among the first k.

    Raises
    ------
    ValueError
        The ranking has other users, or fewer than k places although there are more items than places.

    Examples
    --------
    >>> places(np.array([[3, 0, 2]]), csr_array(np.array([[1, 1, 0, 0]])), k=3)
    array([1, 3])
    """
    n_users, n_items = held_out.shape
    if len(ranking) != n_users or ranking.shape[1] < min(k, n_items):
        raise ValueError(f"a ranking {ranking.shape} cannot tell the first {k} of {n_items} items for {n_users} users")
    users = np.repeat(np.arange(n_users), np.diff(held_out.indptr))
    found = ranking[users, :k] == held_out.indices[:, None]
    return np.where(found.any(axis=1), found.argmax(axis=1), k)


def recall(ranking: np.ndarray, held_out: csr_array, k: int) -> np.ndarray:
    """Recall@k of every user, ``|L_k ∩ T| / min(k, |T|)``.

    Dividing by min(k, \\|T\\|) rather than \\|T\\| lets a perfect ranking reach 1 for every k, as in Liang et al. 2018
    (Variational autoencoders for collaborative filtering, section 4.2).

    Parameters
    ----------
    ranking
        int (U, depth), best first, padded with -1.
    held_out
        (U, I); the stored entries of row u are the items T of user u.
    k
        Length of the list L_k; may exceed the number of items.

    Returns
    -------
    np.ndarray
        float64 (U,); NaN for a user without held-out items.

    Examples
    --------
    Items 1, 4 and 7 are held out; the list begins 1, 2, 3, 4:

    >>> ranking = np.array([[1, 2, 3, 4, 5, 6, 7]])
    >>> held_out = csr_array(np.array([[0, 1, 0, 0, 1, 0, 0, 1]]))
    >>> recall(ranking, held_out, 2), recall(ranking, held_out, 4).round(4)
    (array([0.5]), array([0.6667]))
    """
    sizes = np.diff(held_out.indptr)
    users = np.repeat(np.arange(len(sizes)), sizes)
    hits = np.bincount(users[places(ranking, held_out, k) < k], minlength=len(sizes))
    return np.divide(hits, np.minimum(k, sizes), out=np.full(len(sizes), np.nan), where=sizes > 0)


def ndcg(ranking: np.ndarray, held_out: csr_array, k: int) -> np.ndarray:
    """NDCG@k of every user: discounted gain over that of the best possible ranking.

    ``DCG@k = Σ_{r ≤ k} rel_r / log2(r + 1)`` with relevance 1 for held-out items and 0 for others, and
    ``IDCG@k = Σ_{r ≤ min(k, |T|)} 1 / log2(r + 1)`` (Järvelin and Kekäläinen 2002, with binary relevance).

    Parameters
    ----------
    ranking, held_out, k
        As in `recall`.

    Returns
    -------
    np.ndarray
        float64 (U,); NaN for a user without held-out items.

    Examples
    --------
    The hits are at places 1 and 4: (1 + 1/log2 5) / (1 + 1/log2 3 + 1/2).

    >>> ranking = np.array([[1, 2, 3, 4, 5, 6, 7]])
    >>> held_out = csr_array(np.array([[0, 1, 0, 0, 1, 0, 0, 1]]))
    >>> ndcg(ranking, held_out, 4).round(5)
    array([0.67139])
    """
    sizes = np.diff(held_out.indptr)
    users = np.repeat(np.arange(len(sizes)), sizes)
    place = places(ranking, held_out, k)
    discounts = np.append(1 / np.log2(np.arange(k) + 2), 0)  # the last: not among the first k
    ideal = np.concatenate([[0], np.cumsum(discounts[:k])])[np.minimum(k, sizes)]
    gains = np.bincount(users, weights=discounts[place], minlength=len(sizes))
    return np.divide(gains, ideal, out=np.full(len(sizes), np.nan), where=sizes > 0)


Metric = Callable[[np.ndarray, csr_array], np.ndarray]

METRICS: dict[str, Metric] = {
    "recall@20": partial(recall, k=20),
    "recall@40": partial(recall, k=40),
    "ndcg@100": partial(ndcg, k=100),
}
"""What every method is measured by."""

DEPTH = 100
"""Places that `METRICS` look at."""


def ranking_depth(validation: csr_array) -> int:
    """Places a ranking needs so that `DEPTH` are left once a user's validation items are dropped."""
    return min(validation.shape[1], DEPTH + int(np.diff(validation.indptr).max(initial=0)))


def per_user(ranking: np.ndarray, held_out: csr_array) -> dict[str, np.ndarray]:
    """Every metric of every user: float64 (U,) each, NaN for a user without held-out items."""
    return {name: metric(ranking, held_out) for name, metric in METRICS.items()}


def means(ranking: np.ndarray, held_out: csr_array) -> dict[str, float]:
    """Every metric, its mean over the users that have held-out items.

    Settings and epochs are chosen by the sum of these on validation.

    Raises
    ------
    ValueError
        No user has a held-out item.

    Examples
    --------
    >>> means(np.array([[1, 0]]), csr_array(np.array([[1, 0]])))
    {'recall@20': 1.0, 'recall@40': 1.0, 'ndcg@100': 0.6309297535714575}
    """
    if not held_out.nnz:
        raise ValueError("no user has a held-out item")
    return {name: float(np.nanmean(values)) for name, values in per_user(ranking, held_out).items()}
