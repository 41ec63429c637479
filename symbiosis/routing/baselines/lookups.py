"""Mean quality and cost of each LLM over training queries of the same kind.

Means of the most similar training queries.

Means of clusters of queries.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample, Training
from symbiosis.routing.data.outcomes import Outcomes


class LabelMeans:
    """Means per label.

    Parameters
    ----------
    outcomes
        Of N queries.
    labels
        N labels.
    """

    def __init__(self, outcomes: Outcomes, labels: Sequence[str]) -> None:
        self.known = {label: number for number, label in enumerate(sorted(set(labels)))}
        member = np.eye(len(self.known))[[self.known[label] for label in labels]]
        counts = member.sum(axis=0)[:, None]
        # The last row, over all queries, is for a label never seen.
        self.quality, self.cost = (
            np.vstack([member.T @ values / counts, values.mean(axis=0)])
            for values in (outcomes.quality, outcomes.cost_usd)
        )

    def __call__(self, labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return mean quality and cost, (M, L) each, for M labels."""
        rows = np.array([self.known.get(label, len(self.known)) for label in labels])
        return self.quality[rows], self.cost[rows]


class Means(Predictive):
    """Means per label; a subclass says which label."""

    category = "trivial"
    told_labels = True

    @abstractmethod
    def labels(self, sample: Sample) -> list[str]:
        """Return the label of each query."""

    def fit(self) -> None:
        """Take the means."""
        self.means = LabelMeans(self.training.outcomes, self.labels(self.training.sample))

    def quality(self, sample: Sample) -> np.ndarray:
        """Look up, (N, L)."""
        return self.means(self.labels(sample))[0]

    def cost(self, sample: Sample) -> np.ndarray:
        """Look up, (N, L)."""
        return self.means(self.labels(sample))[1]


class DomainMean(Means):
    """The dataset mean: what a router would know that had learned the query's dataset and no more."""

    def labels(self, sample: Sample) -> list[str]:
        """Return the true domains."""
        return sample.domains


class SubdomainMean(Means):
    """The same for sub-domains."""

    def labels(self, sample: Sample) -> list[str]:
        """Return the true sub-domains."""
        return sample.subdomains


class GlobalMean(Means):
    """One mean per LLM: all queries are alike."""

    told_labels = False

    def labels(self, sample: Sample) -> list[str]:
        """Return the same label for all."""
        return [""] * len(sample)


class KMeansParams(BaselineParams):
    """Numbers of clusters to be tried."""

    clusters: tuple[int, ...] = Field(default=(10, 20, 30, 40, 60), min_length=1)


class KMeans(Predictive):
    """Means per k-means cluster of the embeddings (Avengers, arXiv 2508.12631)."""

    category = "cluster"
    seeded = True
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


CHUNK = 2048  # queries at a time: bounds memory at CHUNK x N numbers


WIDEST = 320  # neighbours looked up at once: settings that need no more share the search


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
