"""Mean quality and cost of each LLM over training queries of the same kind."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from symbiosis.routing.baselines.base import Predictive, Sample
from symbiosis.routing.outcomes import Outcomes


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
    """Means per label of a kind to be told."""

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
