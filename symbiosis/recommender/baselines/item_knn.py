"""Items like those the user took: cosine similarity with shrinkage, the nearest neighbours kept."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.metrics.ranking import strongest, tie_order


class ItemKNNParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    neighbours
        Similar items kept per item.
    shrinkage
        Added to the denominator of the cosine: similarities that rest on few users count less.
    """

    neighbours: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    shrinkage: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)


class ItemKNN(Baseline):
    """Score an item by its summed similarity to the user's items.

    ``s_ij = |U_i ∩ U_j| / (sqrt(|U_i| |U_j|) + shrinkage)`` for the users U_i of item i; of every item's similarities
    the largest are kept, ties decided at random.

    References
    ----------
    Sarwar et al. 2001, Item-based collaborative filtering recommendation algorithms; shrinkage as in Ferrari Dacrema,
    Cremonesi and Jannach 2019, Are we really making much progress?
    """

    Params = ItemKNNParams

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        # float64 throughout: similarities that are equal stay equal in whatever order they are summed.
        self.interactions = self.train.astype(np.float64)
        common = (self.interactions.T @ self.interactions).tocoo()
        apart = common.row != common.col
        self.item, self.other, self.common = common.row[apart], common.col[apart], common.data[apart]
        self.counts = np.bincount(self.train.indices, minlength=self.train.shape[1]).astype(np.float64)
        self.ties = tie_order(self.train.shape[1], seed)[self.other]

    def fit(self, neighbours: int, shrinkage: float) -> None:
        """Keep the most similar items of every item."""
        similarity = self.common / (np.sqrt(self.counts[self.item] * self.counts[self.other]) + shrinkage)
        kept = strongest(self.item, similarity, neighbours, self.ties)
        # Column i holds the neighbours of item i.
        self.similarity = csr_array(
            (similarity[kept], (self.other[kept], self.item[kept])), shape=(len(self.counts),) * 2
        )

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Summed similarities, float32 (B, I)."""
        return (self.history[users].astype(np.float64) @ self.similarity).toarray().astype(np.float32)
