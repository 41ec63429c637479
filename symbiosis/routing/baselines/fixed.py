"""Choices that look at no query, and the choice that has seen all answers."""

from abc import abstractmethod

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.baselines.base import Baseline, Sample
from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.curves import TRADE_OFFS, Curve, sweep
from symbiosis.routing.metrics.latent_classes import LatentClasses, choose_classes
from symbiosis.routing.metrics.metrics import hull
from symbiosis.routing.metrics.utility import scaled_cost, utility

MIXES = 12  # of single LLMs, in a stream


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
    """Every LLM with the same chance: in expectation, but in a stream, where calls take up time, one draw."""

    category = "trivial"

    def fit(self) -> None:
        """Learn nothing."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Return the mean over the LLMs."""
        return Curve(outcomes.quality.mean(axis=1)[None], outcomes.cost_usd.mean(axis=1)[None])

    def stream(self, sample: Sample, outcomes: Outcomes, played: Curve) -> Curve:
        """Draw an LLM for each query."""
        rng = np.random.default_rng(self.training.seed)
        return Curve.of(rng.integers(len(self.training.llms), size=(1, len(sample))), outcomes)


class Zero(Baseline):
    """A random mix of single LLMs: the hull of their points is RouterBench's zero router (arXiv 2403.12031)."""

    category = "trivial"

    def fit(self) -> None:
        """Learn nothing."""

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Return one operating point per LLM."""
        return Curve(outcomes.quality.T, outcomes.cost_usd.T)

    def stream(self, sample: Sample, outcomes: Outcomes, played: Curve) -> Curve:
        """Draw one of two LLMs for each query: neighbours on the hull of the training queries, in `MIXES` shares.

        Where LLMs wait, a mix is not what lies between its ends: each of the two gets only a part of the queries.
        """
        known = self.training.outcomes
        cost, quality = known.cost_usd.mean(axis=0), known.quality.mean(axis=0)
        corners = hull(cost, quality)
        # Of LLMs alike in both, the first.
        arms = np.array([int(np.flatnonzero((cost == x) & (quality == y))[0]) for x, y in corners.tolist()])
        places = np.linspace(0, len(arms) - 1, MIXES)
        lower = np.minimum(places.astype(int), max(len(arms) - 2, 0))
        upper = np.minimum(lower + 1, len(arms) - 1)
        luck = np.random.default_rng(self.training.seed).random(len(sample))
        choices = np.where(luck < (places - lower)[:, None], arms[upper][:, None], arms[lower][:, None])
        return Curve.of(choices, outcomes)


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


class KnownClass(Baseline):
    """The best trade-off of each query's latent class: the noise ceiling of any router that reads only the text.

    Classes, and which LLM to ask for each, are learned from training queries. A test query counts in every class by
    its probability given all its answers, which makes the mean unbiased if the model holds: what is left between this
    ceiling and the oracle is luck. See `symbiosis.routing.metrics.latent_classes`.
    """

    category = "trivial"
    told_outcomes = True
    seeded = True

    def fit(self) -> None:
        """Choose the number of classes by held-out likelihood, and fit them."""
        outcomes, seed = self.training.outcomes, self.training.seed
        quality = _known(outcomes)
        classes, tried = choose_classes(quality, seed)
        self.model = LatentClasses.fit(quality, classes, seed)
        member = self.model.members(quality)
        self.cost = member.T @ outcomes.cost_usd / np.maximum(member.sum(axis=0), 1e-12)[:, None]
        self.notes = {"classes": classes, "held_out_log_likelihood": {str(k): rounded(v) for k, v in tried.items()}}

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Choose by class, and expect over the classes of each query."""
        arms = self._arms()
        member = self.model.members(_known(outcomes))
        # (P, N): the classes' LLMs, weighted by the probability of each class.
        shares = np.zeros((len(arms), *outcomes.quality.shape))
        for number, row in enumerate(arms):
            for known, arm in enumerate(row.tolist()):
                shares[number, :, arm] += member[:, known]
        return Curve((shares * outcomes.quality).sum(axis=2), (shares * outcomes.cost_usd).sum(axis=2))

    def stream(self, sample: Sample, outcomes: Outcomes, played: Curve) -> Curve:
        """Draw a class for each query by its probabilities."""
        member = self.model.members(_known(outcomes))
        luck = np.random.default_rng(self.training.seed).random((len(member), 1))
        drawn = np.minimum((member.cumsum(axis=1) < luck).sum(axis=1), member.shape[1] - 1)
        return Curve.of(self._arms()[:, drawn], outcomes)

    def _arms(self) -> np.ndarray:
        """Return the LLM to ask for each class at every trade-off, (P, classes)."""
        scaled = scaled_cost(self.cost, self.training.cost_scale)
        return np.stack([utility(self.model.rate, scaled, float(weight)).argmax(axis=1) for weight in TRADE_OFFS])


def _known(outcomes: Outcomes) -> np.ndarray:
    """Return quality (N, L), NaN where an LLM has not answered."""
    return outcomes.quality if outcomes.known is None else np.where(outcomes.known, outcomes.quality, np.nan)


def cheapest_of_best(outcomes: Outcomes) -> np.ndarray:
    """Cheapest of the best LLMs of each query, knowing all outcomes, (N,)."""
    best = outcomes.quality.max(axis=1, keepdims=True)
    return np.where(outcomes.quality == best, outcomes.cost_usd, np.inf).argmin(axis=1)
