"""Recall, NDCG and reciprocal rank of full rankings, for all users at once, and which of them a split asks for."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import PROTOCOL


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


def reciprocal_rank(ranking: np.ndarray, held_out: csr_array, k: int) -> np.ndarray:
    """One over the place of the best held-out item of every user, 0 if none is among the first k.

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
    >>> ranking = np.array([[1, 2, 3, 4], [4, 3, 2, 1]])
    >>> held_out = csr_array(np.array([[0, 0, 1, 0, 1], [1, 0, 0, 0, 0]]))
    >>> reciprocal_rank(ranking, held_out, 4)
    array([0.5, 0. ])
    """
    sizes = np.diff(held_out.indptr)
    users = np.repeat(np.arange(len(sizes)), sizes)
    best = np.full(len(sizes), k)
    np.minimum.at(best, users, places(ranking, held_out, k))
    return np.where(sizes > 0, np.where(best < k, 1 / (best + 1), 0), np.nan)


Metric = Callable[[np.ndarray, csr_array], np.ndarray]

DEPTH = 100
"""Places that any metric looks at."""


@dataclass(frozen=True)
class Protocol:
    """What a split asks of every method.

    Attributes
    ----------
    metrics
        By name: what methods are measured by.
    chosen_by
        Settings and epochs are chosen by the sum of these on validation.
    history_grows
        Whether a user's validation items are in his history at test, as they lie before what he has to be given.
    """

    metrics: Mapping[str, Metric]
    chosen_by: tuple[str, ...]
    history_grows: bool

    def history_at_test(self, train: csr_array, validation: csr_array) -> csr_array:
        """Return what a method reads of every user at test, (U, I); nobody is given any of it again."""
        return csr_array(train + validation) if self.history_grows else train

    def score(self, means: Mapping[str, float]) -> float:
        """Sum the metrics that settings and epochs are chosen by."""
        return sum(means[name] for name in self.chosen_by)

    def per_user(self, ranking: np.ndarray, held_out: csr_array) -> dict[str, np.ndarray]:
        """Every metric of every user: float64 (U,) each, NaN for a user without held-out items."""
        return {name: metric(ranking, held_out) for name, metric in self.metrics.items()}

    def means(self, ranking: np.ndarray, held_out: csr_array) -> dict[str, float]:
        """Every metric, its mean over the users that have held-out items.

        Raises
        ------
        ValueError
            No user has a held-out item.

        Examples
        --------
        >>> HELD_OUT_SETS.means(np.array([[1, 0]]), csr_array(np.array([[1, 0]])))
        {'recall@20': 1.0, 'recall@40': 1.0, 'ndcg@100': 0.6309297535714575}
        """
        if not held_out.nnz:
            raise ValueError("no user has a held-out item")
        return {name: float(np.nanmean(values)) for name, values in self.per_user(ranking, held_out).items()}


HELD_OUT_SETS = Protocol(
    {"recall@20": partial(recall, k=20), "recall@40": partial(recall, k=40), "ndcg@100": partial(ndcg, k=100)},
    ("recall@20", "recall@40", "ndcg@100"),
    history_grows=False,
)
"""Of arXiv 2402.09617: find the items that were held out from anywhere in a user's history."""

NEXT_ITEM = Protocol(
    {
        "hr@5": partial(recall, k=5),  # the recall of one item is whether it was hit
        "ndcg@5": partial(ndcg, k=5),
        "hr@10": partial(recall, k=10),
        "ndcg@10": partial(ndcg, k=10),
        "mrr": partial(reciprocal_rank, k=DEPTH),
    },
    ("ndcg@10",),
    history_grows=True,
)
"""Of sequential recommendation, such as Kang and McAuley 2018 (Self-attentive sequential recommendation): find the last
item of a user among all items, the last but one being validation. MRR counts the first `DEPTH` places."""

_PROTOCOLS = {"random": HELD_OUT_SETS, "last_out": NEXT_ITEM}


def protocol_of(folder: Path | str) -> Protocol:
    """Read which protocol belongs to the split that the stage `clean` made.

    Raises
    ------
    InputError
        ``protocol.json`` is damaged.
    """
    path = Path(folder) / PROTOCOL.name
    if not path.exists():  # earlier releases knew one protocol
        return HELD_OUT_SETS
    try:
        return _PROTOCOLS[read_json(path)["protocol"]]
    except (KeyError, TypeError):
        raise InputError(f"{path} must name one of {', '.join(_PROTOCOLS)}: run `dvc repro clean`") from None


def protocol_with(names: Iterable[str]) -> Protocol:
    """Return the protocol that has all its metrics among the names of a report.

    Raises
    ------
    InputError
        None has.
    """
    given = set(names)
    for protocol in _PROTOCOLS.values():
        if given.issuperset(protocol.metrics):
            return protocol
    raise InputError(f"a report with the measures {', '.join(sorted(given))} is of no known protocol: make it again")


def ranking_depth(validation: csr_array) -> int:
    """Places a ranking needs so that `DEPTH` are left once a user's validation items are dropped."""
    return min(validation.shape[1], DEPTH + int(np.diff(validation.indptr).max(initial=0)))
