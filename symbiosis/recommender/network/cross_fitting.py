"""Walks between items, fitted for each fold of the users on the users of the other folds.

What a user hides in training stands in his own row of the interactions. Walks over the other folds' users have never
seen that row (cross-fitting, Chernozhukov et al. 2018, Double machine learning, section 3), so the strengths that they
give are, in training, what they are for a user who comes later.
"""

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.progress import tqdm
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.metrics.ranking import tie_order
from symbiosis.recommender.network.graph_terms import TERMS, Propagation, flows
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations
from symbiosis.recommender.network.walks import walk_links

_SAMPLED_USERS = 500


def fit_propagation(train: csr_array, relations: Relations, params: PropagationParams) -> Propagation:
    """Draw the folds and walk.

    Parameters
    ----------
    train
        float32 (U, I), 1 where the user took the item in training.
    relations
        What items have in common.
    params
        Folds, exponent and neighbours.
    """
    rng = np.random.default_rng(params.seed)
    n_users, n_items = train.shape
    folds = (rng.permutation(n_users) % params.folds).astype(np.uint8)
    parts = [np.flatnonzero(folds != fold) for fold in range(params.folds)]
    ties = tie_order(n_items, params.seed)

    def links(users: np.ndarray) -> csr_array:
        return walk_links(train[users], params.alpha, 0, params.neighbours, ties).astype(np.float32)

    without = tuple(links(users) for users in tqdm(parts, desc="walks by fold", unit="fold"))
    parts.append(np.arange(n_users))
    counts = [np.bincount(train[users].indices, minlength=n_items) * n_users / len(users) for users in parts]
    sample = rng.permutation(n_users)[:_SAMPLED_USERS]
    spread = Spread(len(TERMS) - 1)
    for fold in range(params.folds):
        items = [items_of(train, user) for user in sample[folds[sample] == fold]]
        if items:
            spread.add(flows(items, without[fold], relations))
    units = spread.deviations()
    units[units == 0] = 1  # a connection that no item has
    degrees = np.stack(counts).astype(np.float32)
    return Propagation(folds, without, links(parts[-1]), degrees, relations, units.astype(np.float32))


class Spread:
    """Standard deviations of numbers that come in blocks.

    References
    ----------
    Chan, Golub and LeVeque 1979, Updating formulae and a pairwise algorithm for computing sample variances.
    """

    def __init__(self, n_rows: int) -> None:
        self._count = 0
        self._mean, self._squares = np.zeros(n_rows), np.zeros(n_rows)

    def add(self, block: np.ndarray) -> None:
        """Add a block, (n_rows, ...)."""
        for row, values in enumerate(block):  # row by row: the double precision of one is in memory at a time
            mean, variance = values.mean(dtype=np.float64), values.var(dtype=np.float64)
            apart, total = mean - self._mean[row], self._count + values.size
            self._squares[row] += variance * values.size + apart**2 * self._count * values.size / total
            self._mean[row] += apart * values.size / total
        self._count += block[0].size

    def deviations(self) -> np.ndarray:
        """Return the standard deviation of each row."""
        spread: np.ndarray = np.sqrt(self._squares / self._count)
        return spread
