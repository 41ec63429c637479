"""Predictions for one query at a time, without work per LLM in Python: what a router that serves has to be fast at."""

from collections.abc import Callable

import numpy as np

from symbiosis.routing.model.calibration import Calibration
from symbiosis.routing.model.forests import SharedForest, Walk
from symbiosis.routing.model.mixllm_predictor import ForestPrior
from symbiosis.routing.model.networks import SharedNetwork
from symbiosis.routing.model.predictors import LENGTH, N_TARGETS, QUALITY, AveragePrior, Prior, TagPrior
from symbiosis.routing.model.router import Router


class SingleQuery:
    """The same predictions as `symbiosis.routing.model.router.Router.predict`, from arrays laid out for one query.

    Everything that does not depend on the query is folded into as few products as there can be: the classifier of tags
    and the principal components into one matrix, the prior into the heads' weights. All products run per LLM inside,
    so an LLM's numbers do not depend on which others there are, to the last bit. The inverses are kept in float32:
    reading them is what the variance costs. Means are computed in float64.

    Parameters
    ----------
    router
        Its heads may go on learning: call `refresh` with the LLM that did.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        features, heads = router.feature_map, router.heads
        self._mixing = np.ascontiguousarray(np.hstack([features.tag_weights, features.components]).T)
        self._offset = np.concatenate([features.tag_bias, -(features.mean @ features.components)])
        self._sums = np.hstack([features.groups, np.ones((features.n_tags, 1))])
        self._tags, self._constant = features.n_tags, features.n_tags + features.groups.shape[1]
        self._known = np.zeros((len(router.llms), N_TARGETS, heads.dimension))
        self._prior = _prior_of(router.prior)
        if isinstance(router.prior, TagPrior):
            self._known += router.prior.common.T
            self._known[:, :, : self._tags] += router.prior.means.swapaxes(1, 2)
        self._weights = self._known + heads.weights[:, :, heads.dimension :].swapaxes(1, 2)
        self._inverse = heads.weights[:, :, : heads.dimension].astype(np.float32)
        self._curve = _Curves(router.calibration, len(router.llms))
        self._smear, self._longest = router.lengths.smear, router.lengths.longest
        self._ceiling = np.log(self._longest)

    def refresh(self, arm: int) -> None:
        """Take over what an LLM's heads have learned."""
        heads = self._router.heads
        self._inverse[arm] = heads.weights[arm, :, : heads.dimension]
        self._weights[arm] = self._known[arm] + heads.weights[arm, :, heads.dimension :].T

    def features(self, vector: np.ndarray) -> np.ndarray:
        """Return the features (D,) of an embedding (d,), as `symbiosis.routing.model.features.FeatureMap` does."""
        mixed = np.dot(self._mixing, vector)
        mixed += self._offset
        tags, constant = self._tags, self._constant
        x = np.empty(constant + 1 + len(mixed) - tags)
        logits, odds = mixed[:tags], x[:tags]
        logits -= logits[logits.argmax()]
        np.exp(logits, out=odds)
        # The last of these sums is over all tags; what it is divided by gives the constant 1.
        x[tags : constant + 1] = np.dot(odds, self._sums)
        x[: constant + 1] /= x[constant]
        x[constant + 1 :] = mixed[tags:]
        return x

    def means(self, x: np.ndarray, prior: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Predict quality (L,) and response tokens (L,) of all LLMs.

        Parameters
        ----------
        x
            (D,), features.
        prior
            (L, 2), ``router.prior(x[None])[0]`` where it is at hand; of use where the prior is not linear.
        """
        mean = np.matmul(self._weights, x)
        if self._prior is not None:
            mean += self._prior(x) if prior is None else prior
        tokens = np.exp(np.minimum(mean[:, LENGTH], self._ceiling))
        tokens *= self._smear
        return self._curve(mean[:, QUALITY]), np.minimum(tokens, self._longest)

    def variance(self, x: np.ndarray) -> np.ndarray:
        """Return x A_l^-1 x^T of all LLMs, (L,), for features (D,); it takes most of a prediction's time."""
        single = x.astype(np.float32)
        variance = np.maximum(np.matmul(np.matmul(self._inverse, single), single), 0.0).astype(np.float64)
        return self._router.heads.aged(variance)


def _prior_of(prior: Prior) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what gives the prior (L, 2) for features (D,) where it is not linear."""
    if isinstance(prior, TagPrior):
        return None
    if isinstance(prior, AveragePrior):
        parts = [_single(part) for part in prior.parts]
        return lambda x: sum((part(x) for part in parts[1:]), parts[0](x)) / len(parts)
    return _single(prior)


def _single(prior: TagPrior | SharedForest | SharedNetwork | ForestPrior) -> Callable[[np.ndarray], np.ndarray]:
    if isinstance(prior, SharedForest):
        return Walk(prior)
    if isinstance(prior, SharedNetwork):
        return prior.single
    return lambda x: prior(x[None])[0]


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
            # One column more than knots: the end of the last piece lies beyond every prediction.
            columns = max(curve.shape[1] for curve in curves) + 1
            self._ends = np.full((n_llms, columns), np.inf)
            self._starts, self._bases, self._slopes = np.zeros((3, n_llms, columns))
            for arm, (x, y) in enumerate(curves):
                knots = len(x)
                self._ends[arm, :knots] = x
                self._starts[arm, 1 : knots + 1], self._bases[arm, 1 : knots + 1] = x, y
                self._starts[arm, 0], self._bases[arm, 0] = x[0], y[0]
                width = np.diff(x)
                self._slopes[arm, 1:knots] = np.divide(np.diff(y), width, out=np.zeros_like(width), where=width > 0)
            self._rows = np.arange(n_llms) * columns

    def __call__(self, quality: np.ndarray) -> np.ndarray:
        """Calibrate (L,)."""
        if self._kind == "platt":
            curve = 1 / (1 + np.exp(-(self._slope * quality + self._intercept)))
            return np.where(self._plain, np.clip(quality, 0.0, 1.0), curve)
        if self._kind == "none":
            return np.minimum(np.maximum(quality, 0.0), 1.0)
        place = (self._ends > quality[:, None]).argmax(axis=1)
        place += self._rows
        result: np.ndarray = quality - self._starts.take(place)
        result *= self._slopes.take(place)
        result += self._bases.take(place)
        return result
