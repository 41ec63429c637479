"""Three-step random walks between users and items, popular ends held back."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.base import Baseline, BaselineParams, strongest
from symbiosis.recommender.ranking import tie_order
from symbiosis.recommender.training_data import TrainingData


class RP3betaParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    alpha
        Exponent of the transition probabilities.
    beta
        Exponent of the popularity that an item's score is divided by; 0 is the plain walk P3alpha.
    neighbours
        Items kept per item that the walk comes through.
    """

    alpha: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    beta: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    neighbours: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class RP3beta(Baseline):
    """Score items by ``X W``, ``w_ij = Σ_u p_iu^alpha p_uj^alpha / |U_j|^beta`` off the diagonal.

    A walk steps from an item to one of its users, ``p_iu = 1 / |U_i|``, and from there to one of his items,
    ``p_uj = 1 / |I_u|``; of each item's links the strongest are kept, ties decided at random. The first step, from the
    user to one of his items, is the same for all of them and changes no order.

    References
    ----------
    Christoffel, Paudel, Newell and Bernstein 2015, Blockbusters and wallflowers: accurate, diverse, and scalable
    recommendations with random walks; neighbours as in Ferrari Dacrema, Cremonesi and Jannach 2019, Are we
    really making much progress?
    """

    Params = RP3betaParams

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.interactions = self.train.astype(np.float64)
        self.ties = tie_order(self.train.shape[1], seed)

    def fit(self, alpha: float, beta: float, neighbours: int) -> None:
        """Walk, and keep the strongest links of every item."""
        self.links = walk_links(self.interactions, alpha, beta, neighbours, self.ties)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """``X W`` of the users, float32 (B, I)."""
        return (self.interactions[users] @ self.links).toarray().astype(np.float32)


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
