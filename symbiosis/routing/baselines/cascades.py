"""Cascades: ask an LLM, judge its answer, ask the next one. Every call is paid for."""

import itertools
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import Baseline, BaselineParams, Sample, Training
from symbiosis.routing.baselines.classifiers import thresholds, weak_and_strong
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.curves import NOBODY, TRADE_OFFS, Curve
from symbiosis.routing.metrics.metrics import hull
from symbiosis.routing.metrics.utility import utility

LEVELS = np.array([0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
LONGEST = 3
POOL = 12  # LLMs that cascades are made of: their number grows with its third power
CHECK_TOKENS = 10  # that a self-check writes


class Scorer:
    """The chance that an LLM's answer is good, from the query and the length of the answer.

    The answers' texts are not in the tables, so their length is all that an answer tells. One logistic regression per
    LLM.

    Parameters
    ----------
    training
        The training queries.
    rows
        Those to be used.
    inverse_penalty
        Of the logistic regressions.
    """

    def __init__(self, training: Training, rows: np.ndarray, inverse_penalty: float) -> None:
        self.training = training
        part = training.outcomes.take(rows)
        logarithms = np.log(np.maximum(part.response_tokens, 1.0))
        self.middle, self.spread = logarithms.mean(axis=0), np.maximum(logarithms.std(axis=0), 1e-9)
        sample = training.sample.take(rows)
        self.models = [
            _logistic(self._features(sample, arm, part.response_tokens[:, arm]), part.quality[:, arm], inverse_penalty)
            for arm in range(len(training.llms))
        ]

    def _features(self, sample: Sample, arm: int, response_tokens: np.ndarray) -> np.ndarray:
        length = (np.log(np.maximum(response_tokens, 1.0)) - self.middle[arm]) / self.spread[arm]
        return np.column_stack([self.training.projection(sample.embeddings), length, length**2])

    def __call__(self, sample: Sample, arm: int, response_tokens: np.ndarray) -> np.ndarray:
        """Score the answers of one LLM to N queries, (N,), each answer of so many tokens."""
        weights, level = self.models[arm]
        logits = self._features(sample, arm, response_tokens) @ weights + level
        scores: np.ndarray = 1 / (1 + np.exp(-logits))
        return scores


def _logistic(features: np.ndarray, quality: np.ndarray, inverse_penalty: float) -> tuple[np.ndarray, float]:
    """Weights and level of a logistic regression; a quality between 0 and 1 counts as partly good, partly bad."""
    from sklearn.linear_model import LogisticRegression

    good, bad = np.flatnonzero(quality > 0), np.flatnonzero(quality < 1)
    if not len(good) or not len(bad):
        return np.zeros(features.shape[1]), 20.0 if len(good) else -20.0
    rows, labels = np.concatenate([good, bad]), np.repeat([1, 0], [len(good), len(bad)])
    weights = np.concatenate([quality[good], 1 - quality[bad]])
    model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(features[rows], labels, sample_weight=weights)
    return model.coef_[0], float(model.intercept_[0])


def crossed_scores(training: Training, inverse_penalty: float) -> np.ndarray:
    """Scores of all training answers, (N, L), each by a scorer that has not seen the query."""
    scores = np.empty_like(training.outcomes.quality)
    everyone = np.arange(len(training.sample))
    for _, own in training.folds:
        scorer = Scorer(training, np.setdiff1d(everyone, own), inverse_penalty)
        sample, tokens = training.sample.take(own), training.outcomes.response_tokens[own]
        for arm in range(tokens.shape[1]):
            scores[own, arm] = scorer(sample, arm, tokens[:, arm])
    return scores


@dataclass(frozen=True)
class Cascade:
    """An order of LLMs, and the score from which an answer is kept.

    Attributes
    ----------
    arms
        The LLMs, first to last.
    keep
        A threshold for each but the last, whose answer is always kept.
    checks
        The LLM's own check of its answer is paid for: prompt and answer are read again, a verdict is written.
    """

    arms: tuple[int, ...]
    keep: tuple[float, ...]
    checks: bool = False

    def play(self, scorer: Scorer, sample: Sample, outcomes: Outcomes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Answer queries.

        Parameters
        ----------
        scorer
            Judges the answers.
        sample, outcomes
            N queries. Only outcomes of LLMs that were called are read.

        Returns
        -------
        numpy.ndarray
            (N,), quality of the answer kept.
        numpy.ndarray
            (N,), dollars for all calls.
        numpy.ndarray
            (N, L), who was called.
        """
        quality, cost = np.empty(len(sample)), np.zeros(len(sample))
        called = np.zeros(outcomes.quality.shape, dtype=bool)
        llms = scorer.training.llms
        open_ = np.arange(len(sample))
        for arm, keep in zip(self.arms, (*self.keep, -np.inf), strict=True):
            called[open_, arm] = True
            quality[open_] = outcomes.quality[open_, arm]
            cost[open_] += outcomes.cost_usd[open_, arm]
            if arm == self.arms[-1]:
                break
            tokens = outcomes.response_tokens[open_, arm]
            if self.checks:
                read = outcomes.prompt_tokens[open_, arm] + tokens
                cost[open_] += read * llms.price_prompt[arm] + CHECK_TOKENS * llms.price_response[arm]
            open_ = open_[scorer(sample.take(open_), arm, tokens) < keep]
        return quality, cost, called

    def calls(self, called: np.ndarray, longest: int) -> np.ndarray:
        """Return the LLMs asked, (N, longest) int16 in their order, given who was called (N, L)."""
        calls = np.full((len(called), longest), NOBODY, dtype=np.int16)
        for place, arm in enumerate(self.arms):
            calls[called[:, arm], place] = arm
        return calls


class CascadeParams(BaselineParams):
    """Inverse ridge penalties of the scorers to be tried."""

    inverse_penalty: tuple[float, ...] = Field(default=(0.001, 0.01, 0.1), min_length=1)


class Cascading(Baseline):
    """Play one cascade per operating point."""

    category = "cascade"
    seeded = True
    Params = CascadeParams

    def fit(self, inverse_penalty: float) -> None:
        """Train the scorers, then choose the cascades by scores of queries that the scorers have not seen."""
        self.scorer = Scorer(self.training, np.arange(len(self.training.sample)), inverse_penalty)
        self.cascades = self.choose(crossed_scores(self.training, inverse_penalty))

    @abstractmethod
    def choose(self, scores: np.ndarray) -> list[Cascade]:
        """Choose a cascade for each operating point, given scores (N, L)."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Play the cascades."""
        played = {cascade: cascade.play(self.scorer, sample, outcomes) for cascade in set(self.cascades)}
        longest = max(len(cascade.arms) for cascade in played)
        quality, cost, called = zip(*(played[cascade] for cascade in self.cascades), strict=True)
        calls = [cascade.calls(own, longest) for cascade, own in zip(self.cascades, called, strict=True)]
        return Curve(np.stack(quality), np.stack(cost), np.stack(calls))


class FrugalGPT(Cascading):
    """The best cascade of up to three LLMs for each trade-off (FrugalGPT, arXiv 2305.05176).

    All cascades of LLMs with rising mean cost are tried on the training queries, with all thresholds of a grid. Of
    many LLMs those nearest to the hull of single LLMs are used.
    """

    def choose(self, scores: np.ndarray) -> list[Cascade]:
        """Choose by mean quality and mean cost of the training queries."""
        outcomes, scale = self.training.outcomes, self.training.cost_scale
        quality, cost = outcomes.quality, outcomes.cost_usd / scale
        kept = (scores[:, :, None] >= LEVELS).astype(np.float64)  # (N, L, T)
        order = pool(quality.mean(axis=0), cost.mean(axis=0), POOL)
        cascades, points = [], []
        for size in range(1, LONGEST + 1):
            for arms in itertools.combinations(order, size):
                # Means over the queries for all thresholds of the grid, by one product per LLM of the cascade.
                paid, gained = _means([cost[:, arm] for arm in arms], quality, kept, arms)
                for place in np.ndindex(paid.shape):
                    cascades.append(Cascade(arms, tuple(LEVELS[list(place)].tolist())))
                    points.append((gained[place], paid[place]))
        gained, paid = np.array(points).T
        return [cascades[int(utility(gained, paid, float(weight)).argmax())] for weight in TRADE_OFFS]


def pool(quality: np.ndarray, cost: np.ndarray, size: int) -> list[int]:
    """Return the LLMs whose mean quality (L,) is least below the hull at their mean cost (L,), by rising cost."""
    corners = hull(cost, quality)
    below = np.interp(cost, corners[:, 0], corners[:, 1]) - quality
    kept = np.argsort(below, kind="stable")[:size]
    return [int(arm) for arm in kept[np.argsort(cost[kept], kind="stable")]]


def _means(
    cost: list[np.ndarray], quality: np.ndarray, kept: np.ndarray, arms: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cost and quality of a cascade, arrays with one axis of thresholds per LLM but the last."""
    n = len(quality)
    if len(arms) == 1:
        return cost[0].mean(), quality[:, arms[0]].mean()
    first, left = kept[:, arms[0]], 1 - kept[:, arms[0]]
    here = first.T @ quality[:, arms[0]] / n
    if len(arms) == 2:
        return cost[0].mean() + left.T @ cost[1] / n, here + left.T @ quality[:, arms[1]] / n
    second = kept[:, arms[1]]
    on = 1 - second
    paid = cost[0].mean() + (left.T @ cost[1] / n)[:, None] + left.T @ (on * cost[2][:, None]) / n
    then = left.T @ (second * quality[:, [arms[1]]] + on * quality[:, [arms[2]]]) / n
    return paid, here[:, None] + then


class AutoMix(Cascading):
    """A weak LLM that checks its own answer, and a strong one to fall back on (AutoMix, arXiv 2310.12963).

    The check is the scorer's, for want of the texts, and paid for like a prompt that holds question and answer. The
    threshold is swept; the pair is that of the RouteLLM lines.
    """

    def choose(self, scores: np.ndarray) -> list[Cascade]:
        """Part the training queries in equal shares."""
        weak, strong = weak_and_strong(self.training)
        if weak == strong:
            return [Cascade((strong,), ())] * len(thresholds(scores[:, weak]))
        return [Cascade((weak, strong), (float(keep),), checks=True) for keep in thresholds(scores[:, weak])]
