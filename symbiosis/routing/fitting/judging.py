"""Judge predictions for held-out queries by what they are used for: routing, with the noise of the queries.

Bootstrap samples of the queries are the same for all predictions that one judge sees, so differences are paired: what
makes a sample easy or hard cancels.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.metrics.curves import Curve, Reference, summarise, sweep
from symbiosis.routing.metrics.metrics import aiq, hull
from symbiosis.routing.metrics.utility import cost_scale_of, scaled_cost, utility
from symbiosis.routing.model.predictors import LENGTH, QUALITY, fit_lengths

SAMPLES = 100
LEVEL = 0.95


@dataclass(frozen=True)
class Verdict:
    """How well predictions route queries that they were not fitted to.

    Attributes
    ----------
    brier
        Mean squared error of quality.
    aiq, aiq_log
        Areas under the quality-cost curve; see `symbiosis.routing.metrics.curves.Summary`.
    samples
        (B,), AIQ over bootstrap samples of the queries, the same for all predictions of one judge.
    """

    brier: float
    aiq: float
    aiq_log: float
    samples: np.ndarray = field(repr=False)

    def lead(self, other: "Verdict") -> "Lead":
        """Compare with other predictions for the same queries."""
        differences = self.samples - other.samples
        low, high = np.quantile(differences, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
        return Lead(self.aiq - other.aiq, float(differences.std()), low, high)

    def report(self) -> dict[str, Any]:
        """Return the numbers for ``reports/router_train.json``."""
        numbers = {"brier": self.brier, "aiq": self.aiq, "aiq_log": self.aiq_log}
        return {name: rounded(value) for name, value in numbers.items() if not np.isnan(value)}


@dataclass(frozen=True)
class Lead:
    """By how much one AIQ is above another on the same queries: difference, its standard error, and 95 % interval.

    No name here is ``error``: `dvc metrics show` takes a number of that name for a file that it could not read.
    """

    difference: float
    standard_error: float
    low: float
    high: float

    def report(self) -> dict[str, float]:
        """Return the numbers for ``reports/router_train.json``."""
        return {name: rounded(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class Judge:
    """Judges predictions for the same N queries.

    Attributes
    ----------
    outcomes, llms
        Of the queries.
    cost_scale
        Dollars that count as 1.
    weights
        (B, N), of the queries in the bootstrap samples.
    """

    outcomes: Outcomes
    llms: Llms
    cost_scale: float
    weights: np.ndarray

    @classmethod
    def of(cls, outcomes: Outcomes, llms: Llms, seed: int, samples: int = SAMPLES) -> "Judge":
        """Draw the bootstrap samples."""
        n = len(outcomes)
        drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=samples) / n
        return cls(outcomes, llms, cost_scale_of(outcomes), drawn)

    def curve(self, held_out: np.ndarray) -> Curve:
        """Route by predictions (N, L, 2) under every trade-off."""
        return curve_of(held_out, self.outcomes, self.llms, self.cost_scale)

    @cached_property
    def singles(self) -> Curve:
        """The cheapest and the best single LLM."""
        return Reference.choose(self.outcomes).curve(self.outcomes)

    @cached_property
    def ends(self) -> np.ndarray:
        """(B, 2, 2), cost and quality of both in every bootstrap sample."""
        return self.singles.points(self.weights)

    def verdict(self, held_out: np.ndarray, curve: Curve) -> Verdict:
        """Judge predictions (N, L, 2) and the curve of routing by them."""
        summary = summarise(curve.points(), self.singles.points())
        pairs = zip(curve.points(self.weights), self.ends, strict=True)
        samples = np.array([aiq_of(points, ends) for points, ends in pairs])
        return Verdict(brier_of(held_out, self.outcomes), summary.aiq, summary.aiq_log, samples)

    def aiq(self, curve: Curve, rows: np.ndarray) -> float:
        """AIQ by some of the rows alone, (n,)."""
        points, ends = (
            np.column_stack([one.cost[:, rows].mean(axis=1), one.quality[:, rows].mean(axis=1)])
            for one in (curve, self.singles)
        )
        return aiq_of(points, ends)


def aiq_of(points: np.ndarray, singles: np.ndarray) -> float:
    """AIQ of operating points (P, 2) between two single LLMs (2, 2), as in `symbiosis.routing.metrics.curves`."""
    (low, floor), (high, _) = singles.tolist()
    return aiq(hull(np.append(points[:, 0], low), np.append(points[:, 1], floor)), low, high)


def curve_of(held_out: np.ndarray, outcomes: Outcomes, llms: Llms, cost_scale: float) -> Curve:
    """Route by held-out predictions (N, L, 2) of quality and log length, under every trade-off."""
    quality = np.clip(held_out[:, :, QUALITY], 0, 1)
    length = fit_lengths(held_out[:, :, LENGTH], outcomes)(held_out[:, :, LENGTH])
    cost = scaled_cost(llms.cost_usd(outcomes.prompt_tokens, length), cost_scale)
    return Curve.of(sweep(lambda trade_off: utility(quality, cost, trade_off)), outcomes)


def brier_of(held_out: np.ndarray, outcomes: Outcomes) -> float:
    """Mean squared error of held-out quality, (N, L, 2)."""
    return float(outcomes.observed((np.clip(held_out[:, :, QUALITY], 0, 1) - outcomes.quality) ** 2).mean())


def judge(held_out: np.ndarray, outcomes: Outcomes, llms: Llms, cost_scale: float) -> dict[str, float]:
    """Brier score and AIQ of held-out predictions, without noise."""
    points = curve_of(held_out, outcomes, llms, cost_scale).points()
    summary = summarise(points, Reference.choose(outcomes).curve(outcomes).points())
    return {"brier": brier_of(held_out, outcomes), "aiq": summary.aiq}
