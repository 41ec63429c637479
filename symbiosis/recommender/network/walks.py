"""Links between items by random walks over users."""

import numpy as np
from scipy.sparse import csr_array

from symbiosis.recommender.metrics.ranking import strongest


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
    walk = (interactions.T @ from_user).tocoo()
    apart = walk.row != walk.col
    item, other = walk.row[apart], walk.col[apart]
    strength = walk.data[apart] * counts[item] ** -float(alpha) * counts[other] ** -float(beta)
    # Rounded, so that links that are equal stay equal in whatever order the users are summed.
    strength = strength.astype(np.float32)
    kept = strongest(item, strength, neighbours, ties[other])
    return csr_array((strength[kept].astype(np.float64), (item[kept], other[kept])), shape=(n_items, n_items))
