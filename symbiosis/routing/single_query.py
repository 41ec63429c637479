"""Predictions for one query at a time, without work per LLM in Python: what a router that serves has to be fast at."""

import numpy as np

from symbiosis.routing.calibration import Calibration
from symbiosis.routing.predictors import LENGTH, QUALITY
from symbiosis.routing.router import Router


class SingleQuery:
    """The same predictions as `symbiosis.routing.router.Router.predict`, from arrays laid out for one query.

    The inverses are kept in float32: reading them is what a decision costs. Means are computed in float64.

    Parameters
    ----------
    router
        Its heads may go on learning: call `refresh` with the LLM that did.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        heads = router.heads
        self._inverse = heads.weights[:, :, : heads.dimension].astype(np.float32)
        self._weights = np.ascontiguousarray(heads.weights[:, :, heads.dimension :])
        self._curve = _Curves(router.calibration, len(router.llms))

    def refresh(self, arm: int) -> None:
        """Take over what an LLM's heads have learned."""
        heads = self._router.heads
        self._inverse[arm] = heads.weights[arm, :, : heads.dimension]
        self._weights[arm] = heads.weights[arm, :, heads.dimension :]

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Predict all LLMs for features (D,).

        Returns
        -------
        numpy.ndarray
            (L,), quality.
        numpy.ndarray
            (L,), response tokens.
        numpy.ndarray
            (L,), x A_l^-1 x^T.
        """
        router = self._router
        mean = np.matmul(x, self._weights) + router.prior(x[None])[0]
        single = x.astype(np.float32)
        variance = np.maximum((np.matmul(single, self._inverse) * single).sum(axis=1), 0.0).astype(np.float64)
        return (
            self._curve(mean[:, QUALITY]),
            router.lengths(mean[:, LENGTH]),
            router.heads.aged(variance),
        )


class _Curves:
    """The calibration curves of all LLMs, padded to one table."""

    def __init__(self, calibration: Calibration, n_llms: int) -> None:
        self._kind = calibration.kind
        tables = [table if table.size else None for table in calibration.tables] or [None] * n_llms
        if self._kind == "platt":
            self._plain = np.array([table is None for table in tables])
            lines = [np.zeros(2) if table is None else table[:, 0] for table in tables]
            self._slope, self._intercept = np.array(lines).T
        elif self._kind == "isotonic":
            curves = [np.array([[0.0, 1.0], [0.0, 1.0]]) if table is None else table for table in tables]
            self._count = np.array([curve.shape[1] for curve in curves])
            most = int(self._count.max())
            self._x = np.full((n_llms, most), np.inf)
            self._y = np.zeros((n_llms, most))
            for arm, curve in enumerate(curves):
                self._x[arm, : curve.shape[1]], self._y[arm, : curve.shape[1]] = curve
            self._arms = np.arange(n_llms)

    def __call__(self, quality: np.ndarray) -> np.ndarray:
        """Calibrate (L,)."""
        if self._kind == "platt":
            curve = 1 / (1 + np.exp(-(self._slope * quality + self._intercept)))
            return np.where(self._plain, np.clip(quality, 0.0, 1.0), curve)
        if self._kind == "none":
            return np.clip(quality, 0.0, 1.0)
        right = (self._x <= quality[:, None]).sum(axis=1)
        left = np.maximum(right - 1, 0)
        right = np.minimum(right, self._count - 1)
        x, y, arms = self._x, self._y, self._arms
        width = x[arms, right] - x[arms, left]
        share = np.where(width > 0, (quality - x[arms, left]) / np.where(width > 0, width, 1.0), 0.0)
        result: np.ndarray = y[arms, left] + share * (y[arms, right] - y[arms, left])
        return result
