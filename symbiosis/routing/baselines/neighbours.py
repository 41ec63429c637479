"""Means of the most similar training queries."""

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample, Training

CHUNK = 2048  # queries at a time: bounds memory at CHUNK x N numbers
WIDEST = 320  # so many neighbours are looked up at once, for all settings that want no more


class NearestNeighboursParams(BaselineParams):
    """Numbers of neighbours to be tried."""

    neighbours: tuple[int, ...] = Field(default=(10, 20, 40, 80, 160, 320), min_length=1)


class NearestNeighbours(Predictive):
    """Means over the most similar training queries (RouterBench, arXiv 2403.12031; Li 2025, arXiv 2505.12601)."""

    category = "predictor"
    Params = NearestNeighboursParams

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self._asked: tuple[Sample, np.ndarray] | None = None

    def fit(self, neighbours: int) -> None:
        """Learn nothing but how many."""
        self.neighbours = min(neighbours, len(self.training.sample))

    def quality(self, sample: Sample) -> np.ndarray:
        """Mean of the query's neighbours, (N, L)."""
        return self.predict(sample)[0]

    def predict(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Means of the query's neighbours, (N, L) each."""
        outcomes = self.training.outcomes
        nearest = np.sort(self._ordered(sample)[:, : self.neighbours], axis=1)
        return outcomes.quality[nearest].mean(axis=1), outcomes.cost_usd[nearest].mean(axis=1)

    def _ordered(self, sample: Sample) -> np.ndarray:
        """Rows of the neighbours in the training queries, (N, at least `neighbours`), the most similar first.

        Those of the last sample are remembered, as all settings are tried on the same one.
        """
        if self._asked is None or self._asked[0] is not sample or self._asked[1].shape[1] < self.neighbours:
            width = min(max(self.neighbours, WIDEST), len(self.training.sample))
            parts = np.split(sample.embeddings, range(CHUNK, len(sample), CHUNK))
            self._asked = sample, np.concatenate([self._nearest(part, width) for part in parts])
        return self._asked[1]

    def _nearest(self, embeddings: np.ndarray, width: int) -> np.ndarray:
        """Rows of so many neighbours, (n, width), the most similar first, of equal ones the first."""
        similarity = embeddings @ self.training.sample.embeddings.T
        nearest = np.sort(np.argpartition(-similarity, width - 1, axis=1)[:, :width], axis=1)
        order = np.argsort(-np.take_along_axis(similarity, nearest, axis=1), axis=1, kind="stable")
        return np.take_along_axis(nearest, order, axis=1)
