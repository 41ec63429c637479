"""A latent-class model of who answers what: how much of the way to the oracle is more than luck.

Every query belongs to one of K classes, and given its class the LLMs answer it well or not independently of each other
(Lazarsfeld and Henry 1968; fitted by EM, Dempster et al. 1977). Whatever a text could tell a router about a query is
then its class: a policy that knows the class is a ceiling, and the oracle's lead over it is coin-flipping. K is what
predicts held-out queries best.
"""

from dataclasses import dataclass

import numpy as np

SMOOTHING = 2.0
"""Answers of the LLM's overall quality that every class starts with, so that no rate is 0 or 1."""
LEAST_RATE = 1e-4
ROUNDS = 200
TOLERANCE = 1e-6  # of the mean log-likelihood of a query
CLASSES = (1, 2, 4, 8, 12, 16, 24, 32, 48)
FOLDS = 4


@dataclass(frozen=True)
class LatentClasses:
    """The fitted model.

    Attributes
    ----------
    share
        (K,), of the queries, sum 1.
    rate
        (K, L), mean quality of each LLM in each class, between 0 and 1.
    """

    share: np.ndarray
    rate: np.ndarray

    @classmethod
    def fit(cls, quality: np.ndarray, classes: int, seed: int) -> "LatentClasses":
        """Fit by EM from random classes.

        Parameters
        ----------
        quality
            (N, L), 0..1; a quality between is taken as that share of a good answer. NaN: not known.
        classes
            K.
        seed
            Of the start.
        """
        known = np.isfinite(quality)
        good = np.where(known, quality, 0.0)
        overall = good.sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        member = np.random.default_rng(seed).dirichlet(np.full(classes, 0.3), len(quality))
        before = -np.inf
        model = cls._of(member, good, known, overall)
        for _ in range(ROUNDS):
            member, likelihood = model._members(good, known)
            if likelihood - before < TOLERANCE:
                break
            before = likelihood
            model = cls._of(member, good, known, overall)
        return model

    @classmethod
    def _of(cls, member: np.ndarray, good: np.ndarray, known: np.ndarray, overall: np.ndarray) -> "LatentClasses":
        share = (member.sum(axis=0) + 1) / (len(member) + member.shape[1])
        answered = member.T @ known + SMOOTHING
        rate = (member.T @ good + SMOOTHING * overall) / answered
        return cls(share, np.clip(rate, LEAST_RATE, 1 - LEAST_RATE))

    def members(self, quality: np.ndarray) -> np.ndarray:
        """Probability of each class given all answers to each query, (N, K)."""
        known = np.isfinite(quality)
        return self._members(np.where(known, quality, 0.0), known)[0]

    def log_likelihood(self, quality: np.ndarray) -> float:
        """Mean log-likelihood of a query, nats."""
        known = np.isfinite(quality)
        return self._members(np.where(known, quality, 0.0), known)[1]

    def _members(self, good: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, float]:
        right, wrong = np.log(self.rate), np.log1p(-self.rate)
        joint = np.log(self.share) + good @ right.T + (known - good) @ wrong.T
        top = joint.max(axis=1, keepdims=True)
        odds = np.exp(joint - top)
        total = odds.sum(axis=1, keepdims=True)
        return odds / total, float((top + np.log(total)).mean())


def choose_classes(
    quality: np.ndarray, seed: int, candidates: tuple[int, ...] = CLASSES
) -> tuple[int, dict[int, float]]:
    """Choose K by the log-likelihood of held-out queries, `FOLDS` folds; stops when more classes no longer help.

    Parameters
    ----------
    quality
        (N, L).
    seed
        Of folds and starts.
    candidates
        Rising numbers of classes; those above a tenth of the queries are left out.

    Returns
    -------
    tuple
        K, and the held-out mean log-likelihood of every K that was tried.
    """
    fold = np.random.default_rng(seed).permutation(len(quality)) % FOLDS
    tried: dict[int, float] = {}
    for classes in candidates:
        if tried and classes > len(quality) / 10:
            break
        held_out = [
            (LatentClasses.fit(quality[fold != f], classes, seed).log_likelihood(quality[fold == f]), (fold == f).sum())
            for f in range(min(FOLDS, len(quality)))
            if (fold != f).any()
        ]
        values, sizes = zip(*held_out, strict=True) if held_out else ((0.0,), (1,))
        tried[classes] = float(np.average(values, weights=sizes))
        best = max(tried, key=lambda number: tried[number])
        if list(tried).index(best) < len(tried) - 2:  # two larger numbers were worse
            break
    return max(tried, key=lambda number: tried[number]), tried
