"""Links between items by random walks over users."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from symbiosis.recommender.metrics.ranking import strongest

_WALKS = 1 << 22
"""Links between items held at once before the strongest are chosen: about 300 MiB."""


def walk_links(train: csr_array, alpha: float, beta: float, neighbours: int, ties: np.ndarray) -> csr_array:
    """Strengths of the walks between items, see `RP3beta`.

    Parameters
    ----------
    train
        (U, I), 1 where the user took the item.
    alpha, beta, neighbours
        As in `RP3betaParams`.
    ties
        int (I,): of equal links of an item the one to the item with the larger number stays.

    Returns
    -------
    float64 csr_array of shape (I, I)
        Row: the item that the walk comes through, column: the item that it ends at; no diagonal.
    """
    n_items = train.shape[1]
    interactions = train.astype(np.float64)
    lengths, counts = np.diff(train.indptr), np.maximum(1, np.bincount(train.indices, minlength=n_items))
    from_user = interactions.copy()
    from_user.data = np.repeat(lengths, lengths).astype(np.float64) ** -alpha
    from_item = csr_array(interactions.T)
    found = []
    for first, last in _blocks(from_item, lengths):
        walk = (from_item[first:last] @ from_user).tocoo()
        row = walk.row + first
        apart = row != walk.col
        item, other = row[apart], walk.col[apart]
        strength = walk.data[apart] * counts[item] ** -float(alpha) * counts[other] ** -float(beta)
        # Rounded, so that links that are equal stay equal in whatever order the users are summed.
        strength = strength.astype(np.float32)
        kept = strongest(item - first, strength, neighbours, ties[other])
        found.append((strength[kept], item[kept], other[kept]))
    strength, item, other = (np.concatenate(column) for column in zip(*found, strict=True))
    return csr_array((strength.astype(np.float64), (item, other)), shape=(n_items, n_items))


def _blocks(from_item: csr_array, lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield ranges of items whose walks, at most as many as their users have items together, are few enough."""
    walks = np.concatenate([[0], np.cumsum(lengths[from_item.indices])])[from_item.indptr]
    first, n_items = 0, from_item.shape[0]
    while first < n_items:
        last = max(first + 1, int(np.searchsorted(walks, walks[first] + _WALKS, side="right")) - 1)
        yield first, last
        first = last
