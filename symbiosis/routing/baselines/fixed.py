"""Choices that look at no query, and the choice that has seen all answers."""

from abc import abstractmethod

import numpy as np

from symbiosis.routing.baselines.base import Baseline, Sample
from symbiosis.routing.curves import Curve, sweep
from symbiosis.routing.decision import scaled_cost, utility
from symbiosis.routing.outcomes import Outcomes


class Single(Baseline):
    """Always the same LLM: one operating point."""

    category = "trivial"

    @abstractmethod
    def arm(self) -> int:
        """Return the LLM."""

    def fit(self) -> None:
        """Learn nothing but which LLM."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Call it for all queries."""
        return Curve.of(np.full((1, len(sample)), self.arm()), outcomes)


class Cheapest(Single):
    """The LLM with the lowest mean cost of the training queries."""

    def arm(self) -> int:
        """Return the cheapest LLM."""
        return self.training.reference.cheapest


class BestSingle(Single):
    """The LLM with the highest mean quality of the training queries."""

    def arm(self) -> int:
        """Return the best LLM."""
        return self.training.reference.best


class Random(Baseline):
    """Every LLM with the same chance; in expectation, not one draw."""

    category = "trivial"

    def fit(self) -> None:
        """Learn nothing."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Return the mean over the LLMs."""
        return Curve(outcomes.quality.mean(axis=1)[None], outcomes.cost_usd.mean(axis=1)[None])


class Zero(Baseline):
    """A random mix of single LLMs: the hull of their points is RouterBench's zero router (arXiv 2403.12031)."""

    category = "trivial"

    def fit(self) -> None:
        """Learn nothing."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Return one operating point per LLM."""
        return Curve(outcomes.quality.T, outcomes.cost_usd.T)


class Oracle(Baseline):
    """The best trade-off of each query, knowing all its outcomes."""

    category = "trivial"
    told_outcomes = True

    def fit(self) -> None:
        """Learn nothing."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Choose by true quality and cost."""
        scaled = scaled_cost(outcomes.cost_usd, self.training.cost_scale)
        return Curve.of(sweep(lambda trade_off: utility(outcomes.quality, scaled, trade_off)), outcomes)


def cheapest_of_best(outcomes: Outcomes) -> np.ndarray:
    """Cheapest of the best LLMs of each query, knowing all outcomes, (N,)."""
    best = outcomes.quality.max(axis=1, keepdims=True)
    return np.where(outcomes.quality == best, outcomes.cost_usd, np.inf).argmin(axis=1)
