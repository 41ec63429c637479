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
        self.lengths = np.diff(self.train.indptr)
        self.counts = np.maximum(1, np.bincount(self.train.indices, minlength=self.train.shape[1]))
        self.ties = tie_order(self.train.shape[1], seed)

    def fit(self, alpha: float, beta: float, neighbours: int) -> None:
        """Walk, and keep the strongest links of every item."""
        from_user = self.interactions.copy()
        from_user.data = np.repeat(self.lengths, self.lengths).astype(np.float64) ** -alpha
        walk = (self.interactions.T @ from_user).tocoo()
        apart = walk.row != walk.col
        item, other = walk.row[apart], walk.col[apart]
        strength = walk.data[apart] * self.counts[item] ** -float(alpha) * self.counts[other] ** -float(beta)
        # Rounded, so that links that are equal stay equal in whatever order the users are summed.
        strength = strength.astype(np.float32)
        kept = strongest(item, strength, neighbours, self.ties[other])
        self.links = csr_array(
            (strength[kept].astype(np.float64), (item[kept], other[kept])), shape=(len(self.counts),) * 2
        )

    def scores(self, users: np.ndarray) -> np.ndarray:
        """``X W`` of the users, float32 (B, I)."""
        return (self.interactions[users] @ self.links).toarray().astype(np.float32)
