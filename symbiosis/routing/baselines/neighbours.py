"""Means of the most similar training queries."""

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample

CHUNK = 2048  # queries at a time: bounds memory at CHUNK x N numbers


class NearestNeighboursParams(BaselineParams):
    """Numbers of neighbours to be tried."""

    neighbours: tuple[int, ...] = Field(default=(20, 40, 80, 160, 320), min_length=1)


class NearestNeighbours(Predictive):
    """Means over the most similar training queries (RouterBench, arXiv 2403.12031; Li 2025, arXiv 2505.12601)."""

    category = "predictor"
    Params = NearestNeighboursParams

    def fit(self, neighbours: int) -> None:
        """Learn nothing but how many."""
        self.neighbours = min(neighbours, len(self.training.sample))

    def quality(self, sample: Sample) -> np.ndarray:
        """Mean of the query's neighbours, (N, L)."""
        return self.predict(sample)[0]

    def predict(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Means of the query's neighbours, (N, L) each."""
        outcomes = self.training.outcomes
        nearest = np.concatenate([self._nearest(rows) for rows in _chunks(sample.embeddings)])
        return outcomes.quality[nearest].mean(axis=1), outcomes.cost_usd[nearest].mean(axis=1)

    def _nearest(self, embeddings: np.ndarray) -> np.ndarray:
        """Rows of the neighbours in the training queries, (n, neighbours), sorted."""
        similarity = embeddings @ self.training.sample.embeddings.T
        nearest: np.ndarray = np.argpartition(-similarity, self.neighbours - 1, axis=1)[:, : self.neighbours]
        nearest.sort(axis=1)
        return nearest


def _chunks(embeddings: np.ndarray) -> list[np.ndarray]:
    """Parts of at most `CHUNK` rows."""
    return np.split(embeddings, range(CHUNK, len(embeddings), CHUNK))
