"""What users tell after an answer, and how the router learns from it while it runs.

Refined feedback is the answer's quality and length; binary feedback is satisfied or not (MixLLM, arXiv 2502.18482,
Eq. 15 to 22). Both may update the same posterior, `Router.learn`: an answer that came in time and satisfied is a noisy
observation of its quality (`Satisfaction`). Or binary feedback has a head of its own, whose output joins the score, as
published. Where the printed equations would not learn, this differs from them:

- Eq. 20 descends on log pi * r, so that a reward makes the rewarded LLM rarer: the sign is turned.
- Actions come from argmax s', not from the softmax that is differentiated: either a known share of the actions is
  drawn from the softmax and weighted by its propensity (``policy_gradient``), or the head is a predictor of
  satisfaction, which may be trained on any actions (``supervised``).
- kappa, an inverse variance, is unbounded for a head that knows nothing: it is bounded, and 0 during a warm-up.
- One output layer for all LLMs would have to be rebuilt for a new one: each LLM has its own weights on a shared trunk.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.model.router import Router


class Feedback(NamedTuple):
    """What is told of an answer: its quality, and its length if that is known, or whether it satisfied.

    Attributes
    ----------
    quality
        0..1; refined feedback.
    response_tokens
        Not below 0.
    satisfied
        Binary feedback; in the place of quality.
    """

    quality: float | None = None
    response_tokens: float | None = None
    satisfied: bool | None = None


@dataclass(frozen=True)
class Noise:
    """Where the errors of predicted quality come from: the query, or the LLM that answers it.

    Offline every LLM answers every query, so how hard a query is cancels in the comparison of LLMs. Online few answer.
    Their errors are put down to the query as far as the variances say, and what is left counts the less towards the
    LLM the less sure that is: a random effect per query. With one answer the whole error is the LLM's, but noisier
    than offline; with two, their difference is almost as good as full feedback.

    Attributes
    ----------
    own, common
        Variance of an LLM's own error, and of what all LLMs' errors have in common.
    """

    own: float
    common: float

    @classmethod
    def fit(cls, errors: np.ndarray, known: np.ndarray | None = None) -> "Noise":
        """Estimate from errors of full feedback, (N, L): the mean covariance of two LLMs is common.

        Where `known`, (N, L) bool, is given, from the errors of those answers: a pair of LLMs counts by the queries
        that both have answered.
        """
        if known is not None:
            return cls._of_known(errors, known)
        covariance = np.atleast_2d(np.cov(errors.T))
        n_llms = len(covariance)
        variance = float(np.trace(covariance)) / n_llms
        pairs = n_llms * (n_llms - 1)
        common = float(covariance.sum() - np.trace(covariance)) / pairs if pairs else 0.0
        common = min(max(common, 0.0), 0.95 * variance)
        return cls(max(variance - common, 1e-6), common)

    @classmethod
    def _of_known(cls, errors: np.ndarray, known: np.ndarray) -> "Noise":
        count = known.sum(axis=0)
        mean = np.where(known, errors, 0.0).sum(axis=0) / np.maximum(count, 1)
        centred = np.where(known, errors - mean, 0.0)
        products, both = centred.T @ centred, known.T.astype(np.float64) @ known
        seen = count > 1
        if not seen.any():
            return CAUTIOUS.noise
        variance = float((products.diagonal()[seen] / (count[seen] - 1)).mean())
        apart = ~np.eye(len(count), dtype=bool)
        pairs = np.maximum(both - 1, 0)[apart].sum()
        common = float(products[apart].sum() / pairs) if pairs else 0.0
        common = min(max(common, 0.0), 0.95 * variance)
        return cls(max(variance - common, 1e-6), common)

    def attribute(self, errors: np.ndarray) -> tuple[np.ndarray, float]:
        """Put errors of k LLMs on one query, (k,), down to the query and the LLMs.

        Returns
        -------
        numpy.ndarray
            (k,), for each LLM what the others' errors say of the query.
        float
            Weight of each observation, 0..1, where one of full feedback counts 1.
        """
        others = len(errors) - 1
        if self.common == 0 or others == 0:
            return np.zeros_like(errors), self.own / (self.own + self.common)
        variance = 1 / (1 / self.common + others / self.own)
        shared: np.ndarray = variance * (errors.sum() - errors) / self.own
        return shared, self.own / (self.own + variance)


@dataclass(frozen=True)
class Satisfaction:
    """What satisfied or not says of quality.

    Attributes
    ----------
    satisfied, dissatisfied
        Mean quality of answers above and not above the user's bar.
    variance
        Of quality around these two means.
    """

    satisfied: float
    dissatisfied: float
    variance: float

    @classmethod
    def fit(cls, quality: np.ndarray, bar: float) -> "Satisfaction":
        """Estimate from offline qualities of any shape; a side without any has its middle for a mean."""
        good = quality > bar
        high = float(quality[good].mean()) if good.any() else (1 + bar) / 2
        low = float(quality[~good].mean()) if not good.all() else bar / 2
        return cls(high, low, float(((quality - np.where(good, high, low)) ** 2).mean()))

    def quality(self, satisfied: np.ndarray) -> np.ndarray:
        """Return the expected quality of answers, of any shape, that satisfied or did not."""
        return np.where(satisfied, self.satisfied, self.dissatisfied)


@dataclass(frozen=True)
class Experience:
    """What offline data say of feedback.

    Attributes
    ----------
    noise
        Of predicted quality.
    satisfaction
        What satisfied or not says of quality.
    """

    noise: Noise
    satisfaction: Satisfaction

    @classmethod
    def fit(cls, router: Router, embeddings: np.ndarray, outcomes: Outcomes, satisfied_above: float) -> "Experience":
        """Estimate from the offline queries, embeddings (N, d), and the quality above which a user is satisfied."""
        predicted = router.predict(router.feature_map(embeddings)).quality
        noise = Noise.fit(outcomes.quality - predicted, outcomes.known)
        return cls(noise, Satisfaction.fit(outcomes.observed(outcomes.quality), satisfied_above))


# Popoviciu: no quality in 0..1 has a larger variance. Satisfied counts as quality 1, dissatisfied as 0.
CAUTIOUS = Experience(Noise(own=0.25, common=0.0), Satisfaction(1.0, 0.0, 0.0))
"""What is presumed where no offline data were looked at."""
