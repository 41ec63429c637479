"""What users took next: counts of the steps between items, no training."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array, diags_array

from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.training_data import TrainingData, count_steps


class TransitionsParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    decay
        Weight of an item against that of the next one of the same user, both in counting and in scoring.
    backward
        Weight of a step backwards; with 1 the order of two items means nothing.
    popularity
        Exponent of the number of steps from an item that its row is divided by.
    """

    decay: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    backward: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)
    popularity: list[Annotated[float, Field(ge=0, le=1)]] = Field(min_length=1)


class Transitions(Baseline):
    """Score items by ``Σ_k decay^(n-k) T[h_k, j]`` of a user's items ``h_1 .. h_n`` in order of time.

    ``T[i, j] = (N[i, j] + backward N[j, i]) / steps(i)^popularity``; N sums ``decay^(g-1)`` over users and over every
    pair of an item i and a later item j, g places apart.

    References
    ----------
    arXiv 2605.07125 finds such counts ahead of trained sequential recommenders on ten of fourteen data sets.
    """

    Params = TransitionsParams

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.sequences = data.sequences()

    def read(self, histories: TrainingData) -> None:
        """Read these histories, in order of time, from now on."""
        super().read(histories)
        self.sequences = histories.sequences()

    def fit(self, decay: float, backward: float, popularity: float) -> None:
        """Count the steps of the training sequences."""
        self.decay = decay
        steps = count_steps(self.sequences, decay)
        both = csr_array(steps + backward * steps.T)
        both.setdiag(0)
        leaving = np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1)
        self.transitions = csr_array(diags_array(leaving**-popularity) @ both)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Sums of transitions from the users' items, the latest first, float32 (B, I)."""
        rows = self.sequences[users]
        from_end = np.repeat(rows.indptr[1:], np.diff(rows.indptr)) - 1 - np.arange(rows.nnz)
        recent = csr_array((self.decay ** from_end.astype(np.float64), rows.indices, rows.indptr), shape=rows.shape)
        return (recent @ self.transitions).toarray().astype(np.float32)
