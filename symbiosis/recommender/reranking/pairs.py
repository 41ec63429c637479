"""What connects each item of a history with each candidate: the entries of R where it counts (arXiv 2402.09617, eq. 4).

Among a user's own items R is nearly constant (docs/methods.md, section 1.11, F1). Between his items and candidates it
varies, and says why a candidate was proposed. Walks come from users of other folds in training, so that a hidden item
is never connected by the very user whom it is hidden from.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from symbiosis.recommender.reranking.candidate_terms import CandidateTerms

_LOOKED_UP = ("walk", "long walk", "next", "previous", "text walk")
CONNECTIONS = (*_LOOKED_UP, "text", "brand", "category")
"""Kinds of connection between two items."""

_STEEPNESS = 50
"""Strengths of links are a few hundredths: ``log(1 + 50 x)`` spreads them."""


def latest(histories: Sequence[np.ndarray], count: int) -> np.ndarray:
    """Put the last items of each history into a table.

    Returns
    -------
    int64 array of shape (B, count)
        The latest item last, filled up with -1 on the left: the latest has the same place in every row.

    Examples
    --------
    >>> latest([np.array([4, 7, 9]), np.array([2])], 2)
    array([[ 7,  9],
           [-1,  2]])
    """
    table = np.full((len(histories), count), -1, dtype=np.int64)
    for row, history in enumerate(histories):
        kept = history[-count:]
        if len(kept):
            table[row, -len(kept) :] = kept
    return table


class Connections:
    """Looks up how items are connected, in links of one fit.

    Parameters
    ----------
    terms
        Hold the links, and what items have in common.
    """

    def __init__(self, terms: CandidateTerms) -> None:
        self._links = [_Links(terms.links.matrices[name]) for name in _LOOKED_UP]
        self._relations = terms.content.relations
        groups = self._relations.brands, self._relations.categories
        self._groups = [csr_array(group) for group in groups]

    def __call__(self, histories: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Strengths of all connections, float32 (B, H, K, len(CONNECTIONS)).

        Parameters
        ----------
        histories
            int64 (B, H), as `latest` gives them; nothing is connected with what only fills up.
        candidates
            int64 (B, K).
        """
        shape = (*histories.shape, candidates.shape[1])
        known = np.broadcast_to((histories >= 0)[:, :, None], shape)
        first = np.broadcast_to(np.maximum(histories, 0)[:, :, None], shape)[known]
        second = np.broadcast_to(candidates[:, None, :], shape)[known]
        found = np.zeros((*shape, len(CONNECTIONS)), dtype=np.float32)
        for kind, links in enumerate(self._links):
            found[..., kind][known] = np.log1p(_STEEPNESS * links(first, second))
        texts = self._relations.texts
        cosines = np.einsum("bhd,bkd->bhk", texts[np.maximum(histories, 0)], texts[candidates])
        found[..., len(_LOOKED_UP)] = np.where(known, np.maximum(cosines, 0), 0)
        for kind, groups in enumerate(self._groups, start=len(_LOOKED_UP) + 1):
            found[..., kind][known] = _inner(groups, first, second)
        return found


class _Links:
    """Entries of a sparse matrix by row and column, zero where nothing is stored; no dense row is made."""

    def __init__(self, links: csr_array) -> None:
        ordered = links.copy()
        ordered.sort_indices()
        self._columns = links.shape[1]
        rows = np.repeat(np.arange(links.shape[0], dtype=np.int64), np.diff(ordered.indptr))
        self._keys, self._values = rows * self._columns + ordered.indices, ordered.data

    def __call__(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Look up pairs: float32 (N,)."""
        if not len(self._keys):
            return np.zeros(len(rows), dtype=np.float32)
        wanted = rows * self._columns + columns
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[place] == wanted, self._values[place], np.float32(0))


def _inner(groups: csr_array, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Inner products of the rows of pairs of items, float32 (N,); equal pairs are computed once."""
    keys, place = np.unique(first * groups.shape[0] + second, return_inverse=True)
    rows, columns = np.divmod(keys, groups.shape[0])
    products: np.ndarray = np.asarray((groups[rows] * groups[columns]).sum(axis=1), dtype=np.float32).ravel()
    return products[place]
