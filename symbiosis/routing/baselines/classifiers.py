"""Classifiers: which of two LLMs, or which of all, should answer."""

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import Baseline, BaselineParams, Sample, Training
from symbiosis.routing.baselines.lookups import LabelMeans
from symbiosis.routing.baselines.regressors import EmbedLLM, Network, NetworkParams
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.metrics.metrics import aiq, hull

if TYPE_CHECKING:
    import torch

STEPS = 41


def weak_and_strong(training: Training) -> tuple[int, int]:
    """Choose the pair of LLMs for a router between two: the best single LLM, and whom it is best mixed with.

    The weak one is the LLM for which a random mix of the two has the largest area under its quality-cost curve of the
    training queries.
    """
    cost, quality = training.outcomes.cost_usd.mean(axis=0), training.outcomes.quality.mean(axis=0)
    cheapest, strong = training.reference.cheapest, training.reference.best

    def mixed(weak: int) -> float:
        pair = [cheapest, weak, strong]
        return aiq(hull(cost[pair], quality[pair]), float(cost[cheapest]), float(cost[strong]))

    cheaper = [arm for arm in range(len(cost)) if cost[arm] < cost[strong]]
    return max(cheaper, key=mixed, default=strong), strong


def thresholds(scores: np.ndarray) -> np.ndarray:
    """Thresholds (P,) that part training scores (N,) in equal shares, from all above to all below."""
    return np.concatenate([np.quantile(scores, np.linspace(0, 1, STEPS - 1)), [np.inf]])


class Pair(Baseline):
    """Call the strong LLM where its chance of giving the better answer is above a threshold.

    Attributes
    ----------
    weak, strong
        The two LLMs.
    """

    category = "classifier"

    def __init__(self, training: Training) -> None:
        super().__init__(training)
        self.weak, self.strong = weak_and_strong(training)

    @abstractmethod
    def wins(self, sample: Sample) -> np.ndarray:
        """Score how likely the strong LLM is to beat the weak one, (N,)."""

    def choices(self, sample: Sample) -> np.ndarray:
        """Choose one of the two, (P, N); the thresholds part the training queries in equal shares."""
        strong = self.wins(sample) >= thresholds(self.wins(self.training.sample))[:, None]
        return np.where(strong, self.strong, self.weak)

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Call the chosen LLM."""
        return Curve.of(self.choices(sample), outcomes)


class LogisticParams(BaselineParams):
    """Inverse ridge penalties to be tried."""

    inverse_penalty: tuple[float, ...] = Field(default=(0.03, 0.1, 0.3, 1.0), min_length=1)


class RouteLLMLogistic(Pair):
    """Logistic regression of "the strong LLM's answer is better" (after RouteLLM, arXiv 2406.18665)."""

    Params = LogisticParams

    def fit(self, inverse_penalty: float) -> None:
        """Fit the classifier."""
        from sklearn.linear_model import LogisticRegression

        quality = self.training.outcomes.quality
        better = quality[:, self.strong] > quality[:, self.weak]
        self.model = None
        if better.any() and not better.all():
            model = LogisticRegression(C=inverse_penalty, max_iter=1000)
            self.model = model.fit(self.training.sample.embeddings, better)

    def wins(self, sample: Sample) -> np.ndarray:
        """Log odds, (N,); alike for all where nothing was to be learned."""
        if self.model is None:
            return np.zeros(len(sample))
        return np.asarray(self.model.decision_function(sample.embeddings))


class RouteLLMFactorisation(Pair):
    """Matrix factorisation of comparisons between all LLMs, used between two (RouteLLM, arXiv 2406.18665).

    The chance that one LLM beats another on a query is a sigmoid of the difference of their scores, as in a
    Bradley-Terry model; scores are as in `EmbedLLM`.
    """

    Params = NetworkParams

    def fit(self, decay: float) -> None:
        """Train on all pairs of LLMs with different quality."""
        self.scorer = _Compared(self.training)
        self.scorer.fit(decay)

    def wins(self, sample: Sample) -> np.ndarray:
        """Log odds, (N,)."""
        scores = self.scorer.logits(sample)
        return np.asarray(scores[:, self.strong] - scores[:, self.weak])


class _Compared(EmbedLLM):
    """Scores whose differences say which LLM gives the better answer."""

    def loss(self, logits: "torch.Tensor", quality: "torch.Tensor") -> "torch.Tensor":
        """Mean logistic loss of the pairs, each weighted by the difference in quality."""
        ahead = (quality[:, :, None] - quality[:, None, :]).clamp(min=0)
        lead = logits[:, :, None] - logits[:, None, :]
        loss: torch.Tensor = (ahead * (-lead).exp().log1p()).sum() / ahead.sum().clamp(min=1)
        return loss


class ZooterParams(NetworkParams):
    """Settings to be tried.

    Attributes
    ----------
    own
        Weight of a query's own rewards against the mean rewards of its sub-domain.
    """

    decay: tuple[float, ...] = Field(default=(1.0, 10.0), min_length=1)
    own: tuple[float, ...] = Field(default=(0.1, 0.3, 1.0), min_length=1)


class Zooter(Network):
    """A distribution over LLMs, distilled from rewards with tag-based label enhancement (Zooter, arXiv 2311.08692).

    The target is a softmax of the rewards, smoothed with the mean rewards of the query's tag, here its sub-domain,
    which is needed for training alone. Up to a constant per query the log of that softmax is the reward again, so
    that cost can be weighed against it.
    """

    category = "classifier"
    Params = ZooterParams
    temperature = 0.3

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Start from the overall rewards."""
        return {"output": np.zeros((self.training.projection.dimension, len(self.training.llms)))}

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Logits added, (n, L)."""
        return features @ self.weights["output"]

    def levels(self) -> np.ndarray:
        """Mean rewards as logits, (L,)."""
        return np.asarray(self.training.outcomes.quality.mean(axis=0) / self.temperature)

    def targets(self) -> np.ndarray:
        """Distributions over the LLMs, (N, L)."""
        outcomes, tags = self.training.outcomes, self.training.sample.subdomains
        reward = self.own * outcomes.quality + (1 - self.own) * LabelMeans(outcomes, tags)(tags)[0]
        odds = np.exp(reward / self.temperature)
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))

    def loss(self, logits: "torch.Tensor", quality: "torch.Tensor") -> "torch.Tensor":
        """Cross-entropy of the distributions, (n, L) each."""
        loss: torch.Tensor = -(quality * logits.log_softmax(dim=1)).sum(dim=1).mean()
        return loss

    def fit(self, decay: float, own: float = 1.0) -> None:
        """Train from the start."""
        self.own = own
        super().fit(decay)

    def quality(self, sample: Sample) -> np.ndarray:
        """Expected reward, (N, L), the mean over the LLMs being that of all training queries."""
        reward = self.temperature * self.logits(sample)
        reward -= reward.mean(axis=1, keepdims=True)
        return np.asarray(reward + self.training.outcomes.quality.mean())
