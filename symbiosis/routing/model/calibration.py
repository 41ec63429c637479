"""How sure a prediction is: calibrated quality, intervals of quality, and distributions of length.

Calibration is one monotone map per LLM from predicted to observed quality. Intervals come from split conformal
prediction (Lei et al. 2018, normalised residuals; Vovk et al. 2003, one quantile per group of queries). Their coverage
holds for new queries exchangeable with the calibration queries; after a shift, fit them again on recent queries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from symbiosis.routing.model.lengths import LengthDistribution

LEAST_SPREAD = 0.05  # a predicted quality of 0 or 1 is not certain
Kind = Literal["none", "platt", "isotonic"]


@dataclass(frozen=True)
class Calibration:
    """Calibration of each LLM's predicted quality.

    Attributes
    ----------
    kind
        ``none``; ``platt``: a logistic curve (Platt 1999); ``isotonic``: a non-decreasing piecewise linear curve
        (Zadrozny and Elkan 2002).
    tables
        One array (2, m) per LLM: predicted over calibrated quality at the curve's knots (isotonic), or slope over
        intercept (Platt, m = 1). m = 0: as predicted. No arrays for ``none``.
    """

    kind: Kind
    tables: tuple[np.ndarray, ...]

    def __call__(self, quality: np.ndarray) -> np.ndarray:
        """Calibrate predicted quality, (N, L); the result lies in 0..1."""
        if self.kind == "none":
            return np.clip(quality, 0.0, 1.0)
        curve = _logistic if self.kind == "platt" else _piecewise
        columns = [
            curve(quality[:, arm], table) if table.size else np.clip(quality[:, arm], 0.0, 1.0)
            for arm, table in enumerate(self.tables)
        ]
        return np.column_stack(columns)


def _logistic(quality: np.ndarray, table: np.ndarray) -> np.ndarray:
    curve: np.ndarray = 1 / (1 + np.exp(-(table[0, 0] * quality + table[1, 0])))
    return curve


def _piecewise(quality: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.interp(quality, table[0], table[1])


def fit(kind: Kind, predicted: np.ndarray, observed: np.ndarray, known: np.ndarray | None = None) -> Calibration:
    """Fit on predictions for queries that the predictor was not trained on.

    Parameters
    ----------
    kind
        See `Calibration`.
    predicted, observed
        (N, L).
    known
        (N, L) bool, which LLM has answered which query; None: all have. An LLM without any answer stays as predicted.
    """
    if kind == "none":
        return Calibration(kind, ())
    fit_one = _fit_platt if kind == "platt" else _fit_isotonic
    tables = []
    for arm in range(predicted.shape[1]):
        rows = slice(None) if known is None else known[:, arm]
        own, seen = predicted[rows, arm], observed[rows, arm]
        tables.append(fit_one(own, seen) if len(own) else np.zeros((2, 0)))
    return Calibration(kind, tuple(tables))


def _fit_isotonic(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0).fit(predicted, observed)
    return np.stack([model.X_thresholds_, model.y_thresholds_]).astype(np.float64)


def _fit_platt(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Least logistic loss with graded labels, the slope not below zero so that the map stays monotone."""
    from scipy.optimize import minimize

    def loss(curve: np.ndarray) -> tuple[float, np.ndarray]:
        logits = curve[0] * predicted + curve[1]
        error = 1 / (1 + np.exp(-logits)) - observed
        value = (np.logaddexp(0, logits) - observed * logits).mean() + 1e-4 * (curve**2).sum()
        return float(value), np.array([(error * predicted).mean(), error.mean()]) + 2e-4 * curve

    best = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)])
    return np.asarray(best.x, dtype=np.float64)[:, None]


def spread(quality: np.ndarray, variance: np.ndarray | float = 0.0) -> np.ndarray:
    """Expected deviation of the outcome from its prediction: of a Bernoulli variable, more where little was seen.

    Parameters
    ----------
    quality
        Predicted, 0..1.
    variance
        x A^-1 x^T, of the same shape.
    """
    bounded = np.clip(quality, 0.0, 1.0)
    deviation: np.ndarray = np.sqrt((bounded * (1 - bounded) + LEAST_SPREAD**2) * (1 + variance))
    return deviation


@dataclass(frozen=True)
class Intervals:
    """Conformal intervals of each LLM's quality.

    Attributes
    ----------
    factor
        (L, G), by LLM and group of queries: what the spread is multiplied with; infinite where too few queries were
        seen for the level, so that the interval is all of 0..1.
    """

    factor: np.ndarray

    @classmethod
    def fit(
        cls,
        predicted: np.ndarray,
        observed: np.ndarray,
        spread: np.ndarray,
        level: float = 0.9,
        groups: np.ndarray | None = None,
        n_groups: int = 1,
        known: np.ndarray | None = None,
    ) -> "Intervals":
        """Fit to predictions for queries that the predictor was not trained on.

        Parameters
        ----------
        predicted, observed, spread
            (N, L).
        level
            Share of new outcomes that an interval shall cover.
        groups
            (N,), 0..n_groups-1, the domain of each query; None: one group.
        n_groups
            G.
        known
            (N, L) bool, which LLM has answered which query; None: all have.
        """
        group = np.zeros(len(predicted), dtype=np.int64) if groups is None else groups
        scores = np.abs(observed - predicted) / spread
        if known is not None:
            scores = np.where(known, scores, np.nan)
        factor = np.full((predicted.shape[1], n_groups), np.inf)
        for number in range(n_groups):
            own = np.sort(scores[group == number], axis=0)  # what is not known stands last
            counts = np.isfinite(own).sum(axis=0)
            places = np.ceil((counts + 1) * level - 1e-9).astype(np.int64)
            enough = (places <= counts).nonzero()[0]
            factor[enough, number] = own[places[enough] - 1, enough]
        return cls(factor)

    def __call__(
        self, predicted: np.ndarray, spread: np.ndarray, groups: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower and the upper end, (N, L) each, within 0..1; arguments as for `fit`."""
        group = np.zeros(len(predicted), dtype=np.int64) if groups is None else groups
        radius = self.factor[:, group].T * spread
        return np.clip(predicted - radius, 0.0, 1.0), np.clip(predicted + radius, 0.0, 1.0)


@dataclass(frozen=True)
class Ranges:
    """Fitted to predictions for queries that the predictor was not trained on.

    Attributes
    ----------
    intervals
        Of quality, in units of `symbiosis.routing.model.calibration.spread`.
    lengths
        Of response tokens.
    """

    intervals: Intervals
    lengths: LengthDistribution

    @classmethod
    def fit(
        cls,
        quality: np.ndarray,
        tokens: np.ndarray,
        observed_quality: np.ndarray,
        observed_tokens: np.ndarray,
        known: np.ndarray | None = None,
        counted: np.ndarray | None = None,
    ) -> "Ranges":
        """Fit to predicted and observed quality and response tokens, (N, L) each, where they are known.

        Parameters
        ----------
        quality, tokens, observed_quality, observed_tokens
            (N, L).
        known, counted
            (N, L) bool, whose quality and whose tokens are known; None: all, and the same as `known`.
        """
        return cls(
            Intervals.fit(quality, observed_quality, spread(quality), known=known),
            LengthDistribution.fit(tokens, observed_tokens, known if counted is None else counted),
        )

    def quality(self, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the 90 % interval of quality, (N, L) each, for predictions, (N, L)."""
        return self.intervals(predicted, spread(predicted))

    def take(self, arms: Sequence[int]) -> "Ranges":
        """Return the ranges of the given LLMs, in that order."""
        kept = list(arms)
        own = self.lengths
        return Ranges(
            Intervals(self.intervals.factor[kept]),
            LengthDistribution(own.centre[kept], own.sigma[kept], own.longest[kept]),
        )

    def with_widest(self) -> "Ranges":
        """Return these ranges and, for one LLM more of which nothing is known, the widest."""
        factor, own = self.intervals.factor, self.lengths
        return Ranges(
            Intervals(np.vstack([factor, np.full((1, factor.shape[1]), np.inf)])),
            LengthDistribution(
                np.append(own.centre, own.centre.mean()),
                np.append(own.sigma, own.sigma.max()),
                np.append(own.longest, own.longest.max()),
            ),
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all arrays by name."""
        own = self.lengths
        return {
            "factor": self.intervals.factor,
            "centre": own.centre,
            "sigma": own.sigma,
            "longest": own.longest,
        }

    @classmethod
    def of(cls, tensors: dict[str, np.ndarray]) -> "Ranges":
        """Return what `tensors` gave."""
        return cls(
            Intervals(tensors["factor"]),
            LengthDistribution(tensors["centre"], tensors["sigma"], tensors["longest"]),
        )
