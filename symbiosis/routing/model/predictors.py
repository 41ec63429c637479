"""Quality and response length of every LLM for a query: a prior fixed offline, and linear heads that keep learning.

The prior is how hard and how long-winded a query is (``linear``), two regressors per LLM (``forest``, as in MixLLM), a
forest (``stacked``) or a neural network (``network``) that all LLMs share, or a mean of such priors
(``linear+stacked``). The heads learn the difference between the outcomes and the prior: what an LLM does better or
worse than the others on a tag, a group of tags, or along the embedding. An LLM's predictors share only the features
with the others', so LLMs come and go without touching each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.model.forests import SharedForest
from symbiosis.routing.model.mixllm_predictor import ForestPrior
from symbiosis.routing.model.networks import SharedNetwork

QUALITY, LENGTH = 0, 1
N_TARGETS = 2
LEVEL_COUNT = 5.0  # of a tag's level and lengths: the mean over all queries counts as so many of its own


@dataclass(frozen=True)
class TagPrior:
    """What is common to all LLMs, and how long each LLM's answers are, by the probability of the query's tag.

    The common part of quality changes no comparison between LLMs, but without it every head would have to learn it
    again, under a penalty that is meant for differences between LLMs; and feedback on one LLM alone would take a hard
    query for a bad LLM.

    Attributes
    ----------
    means
        (L, T, 2), quality (the same for all LLMs) and log length.
    common
        (D, 2), weights of the features.
    """

    means: np.ndarray
    common: np.ndarray

    @classmethod
    def fit(
        cls, features: np.ndarray, tags: np.ndarray, n_tags: int, targets: np.ndarray, common: Sequence[float]
    ) -> "TagPrior":
        """Fit to offline queries.

        Parameters
        ----------
        features
            (N, D), with the true tags.
        tags
            (N,), 0..n_tags-1.
        n_tags
            T.
        targets
            (N, L, 2).
        common
            Ridge penalty of the common part, per target.
        """
        onehot = np.eye(n_tags)[tags]
        counts = onehot.sum(axis=0)[:, None]
        level = targets.mean(axis=1)
        levels = (onehot.T @ level + LEVEL_COUNT * level.mean(axis=0)) / (counts + LEVEL_COUNT)
        differences = targets[:, :, LENGTH] - level[:, None, LENGTH]
        sums = onehot.T @ differences + LEVEL_COUNT * differences.mean(axis=0)
        means = np.tile(levels, (targets.shape[1], 1, 1))
        means[:, :, LENGTH] += (sums / (counts + LEVEL_COUNT)).T
        bare = cls(means, np.zeros((features.shape[1], N_TARGETS)))
        left = (targets - bare(features)).mean(axis=1)
        gram, moments = features.T @ features, features.T @ left
        eye = np.eye(len(gram))
        columns = [np.linalg.solve(gram + weight * eye, moments[:, target]) for target, weight in enumerate(common)]
        return cls(means, np.column_stack(columns))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (N, L, 2) for features (N, D), whose first T columns are the tags' probabilities."""
        tags = np.ascontiguousarray(features[:, : self.means.shape[1]])
        return np.matmul(tags, self.means).swapaxes(0, 1) + (features @ self.common)[:, None, :]

    def take(self, arms: Sequence[int]) -> "TagPrior":
        """Return the prior of the given LLMs, in that order."""
        return replace(self, means=self.means[list(arms)])

    def with_average(self) -> "TagPrior":
        """Return this prior and, for one LLM more, the mean over the others."""
        return replace(self, means=np.concatenate([self.means, self.means.mean(axis=0, keepdims=True)]))


Part = TagPrior | SharedForest | SharedNetwork


@dataclass(frozen=True)
class AveragePrior:
    """The mean of several fixed parts, for an average of forms.

    Attributes
    ----------
    parts
        On the same features; two or more.
    """

    parts: tuple[Part, ...]

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (N, L, 2) for features (N, D)."""
        total = self.parts[0](features)
        for part in self.parts[1:]:
            total = total + part(features)
        return total / len(self.parts)

    def take(self, arms: Sequence[int]) -> "AveragePrior":
        """Return the prior of the given LLMs, in that order."""
        return AveragePrior(tuple(part.take(arms) for part in self.parts))

    def with_average(self) -> "AveragePrior":
        """Return this prior and, for one LLM more, the mean over the others."""
        return AveragePrior(tuple(part.with_average() for part in self.parts))


Prior = Part | ForestPrior | AveragePrior


@dataclass(frozen=True)
class Lengths:
    """From predicted log length to expected tokens.

    Attributes
    ----------
    smear
        (L,), mean of exp(error of the log length), Duan's (1983) correction: exp of a mean log is below the mean.
    longest
        (L,), the longest response seen offline; no prediction goes beyond.
    """

    smear: np.ndarray
    longest: np.ndarray

    def __call__(self, log_length: np.ndarray) -> np.ndarray:
        """Expected response tokens for predicted log lengths, (N, L)."""
        ceiling = np.log(self.longest)
        tokens: np.ndarray = np.minimum(np.exp(np.minimum(log_length, ceiling)) * self.smear, self.longest)
        return tokens


def targets_of(outcomes: Outcomes) -> np.ndarray:
    """What the predictors are trained on, (N, L, 2): quality, and the log of the response tokens."""
    return np.stack([outcomes.quality, np.log(np.maximum(outcomes.response_tokens, 1.0))], axis=2)


def fit_lengths(predicted: np.ndarray, outcomes: Outcomes) -> Lengths:
    """Fit to held-out predictions of log length, (N, L)."""
    observed = np.maximum(outcomes.response_tokens, 1.0)
    factors = np.exp(np.log(observed) - predicted)
    if outcomes.known is not None:
        factors = np.where(outcomes.known, factors, np.nan)
        factors[:, ~outcomes.known.any(axis=0)] = 1.0  # of an LLM of which nothing was seen
        return Lengths(np.nanmean(factors, axis=0), observed.max(axis=0))
    return Lengths(factors.mean(axis=0), observed.max(axis=0))
