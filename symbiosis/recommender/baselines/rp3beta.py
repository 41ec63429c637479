"""Three-step random walks between users and items, popular ends held back."""

from typing import Annotated

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.metrics.ranking import tie_order
from symbiosis.recommender.network.walks import walk_links


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
        return (self.history[users].astype(np.float64) @ self.links).toarray().astype(np.float32)
