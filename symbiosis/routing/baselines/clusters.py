"""Means of clusters of queries."""

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample
from symbiosis.routing.baselines.means import LabelMeans


class KMeansParams(BaselineParams):
    """Numbers of clusters to be tried."""

    clusters: tuple[int, ...] = Field(default=(10, 20, 30, 40, 60), min_length=1)


class KMeans(Predictive):
    """Means per k-means cluster of the embeddings (Avengers, arXiv 2508.12631)."""

    category = "cluster"
    Params = KMeansParams

    def fit(self, clusters: int) -> None:
        """Cluster, and take the means."""
        from sklearn.cluster import KMeans as Clusters

        embeddings = self.training.sample.embeddings
        self.model = Clusters(min(clusters, len(embeddings)), n_init=4, random_state=self.training.seed).fit(embeddings)
        self.means = LabelMeans(self.training.outcomes, [str(label) for label in self.model.labels_])

    def quality(self, sample: Sample) -> np.ndarray:
        """Mean of the query's cluster, (N, L)."""
        return self.predict(sample)[0]

    def predict(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Means of the query's cluster, (N, L) each."""
        return self.means([str(label) for label in self.model.predict(sample.embeddings)])
