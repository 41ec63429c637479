"""Monotone maps, one per LLM, that turn predicted quality into observed quality."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

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


def fit(kind: Kind, predicted: np.ndarray, observed: np.ndarray) -> Calibration:
    """Fit on predictions for queries that the predictor was not trained on.

    Parameters
    ----------
    kind
        See `Calibration`.
    predicted, observed
        (N, L).
    """
    if kind == "none":
        return Calibration(kind, ())
    fit_one = _fit_platt if kind == "platt" else _fit_isotonic
    return Calibration(kind, tuple(fit_one(predicted[:, arm], observed[:, arm]) for arm in range(predicted.shape[1])))


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
