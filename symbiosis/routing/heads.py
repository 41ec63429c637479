"""Bayesian linear heads, one per LLM: mean, variance and online update are one object."""

from collections.abc import Sequence

import numpy as np

from symbiosis.routing.uncertainty import inverse_of, sherman_morrison

CHUNK = 512  # rows per product: bounds memory at CHUNK x L x (D + K) numbers
REFRESH = 256  # updates of an LLM after which its inverse is computed afresh, so that rounding cannot pile up


class LinearHeads:
    """Ridge regression of K targets per LLM, all K with the same features and penalty.

    For LLM l, A_l = penalty I + sum x x^T, b_l = sum x y^T and theta_l = A_l^-1 b_l (MixLLM, arXiv 2502.18482,
    Eq. 12 to 14 with squared loss, solved rather than descended; LinUCB, Li et al. 2010). The inverse and the weights
    lie side by side, so that one product gives the means and the variances of all LLMs for a batch of queries. The
    product runs per LLM inside, so an LLM's numbers do not depend on which others there are, to the last bit.

    Parameters
    ----------
    precision
        (L, D, D), A_l.
    moments
        (L, D, K), b_l.
    weights
        (L, D, D + K), A_l^-1 beside theta_l; computed if not given.
    """

    def __init__(self, precision: np.ndarray, moments: np.ndarray, weights: np.ndarray | None = None) -> None:
        self.precision = precision
        self.moments = moments
        if weights is None:
            inverse = inverse_of(precision)
            weights = np.concatenate([inverse, inverse @ moments], axis=2)
        self.weights = weights
        self.updates = np.zeros(len(precision), dtype=np.int64)

    @classmethod
    def blank(cls, n_llms: int, dimension: int, n_targets: int, penalty: float) -> "LinearHeads":
        """Heads that have seen nothing."""
        precision = np.tile(penalty * np.eye(dimension), (n_llms, 1, 1))
        return cls(precision, np.zeros((n_llms, dimension, n_targets)))

    @classmethod
    def fit(cls, features: np.ndarray, targets: np.ndarray, penalty: float) -> "LinearHeads":
        """Fit to full feedback.

        Parameters
        ----------
        features
            (N, D).
        targets
            (N, L, K).
        penalty
            rho, the ridge penalty, above zero.
        """
        n_llms = targets.shape[1]
        precision = penalty * np.eye(features.shape[1]) + features.T @ features
        moments = np.einsum("nd,nlk->ldk", features, targets, optimize=True)
        # All LLMs have seen the same queries: invert once.
        inverse = np.tile(inverse_of(precision), (n_llms, 1, 1))
        weights = np.concatenate([inverse, inverse @ moments], axis=2)
        return cls(np.tile(precision, (n_llms, 1, 1)), np.ascontiguousarray(moments), weights)

    @property
    def dimension(self) -> int:
        """Number of features D."""
        return int(self.precision.shape[1])

    def predict(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predict all LLMs.

        Parameters
        ----------
        features
            (N, D).

        Returns
        -------
        numpy.ndarray
            (N, L, K), means.
        numpy.ndarray
            (N, L), x A_l^-1 x^T, the variance of the mean in units of the noise variance.
        """
        means, variances = [], []
        for start in range(0, len(features), CHUNK):
            rows = features[start : start + CHUNK]
            product = np.matmul(rows, self.weights)  # (L, n, D + K)
            means.append(product[:, :, self.dimension :].swapaxes(0, 1))
            variances.append((product[:, :, : self.dimension] * rows).sum(axis=2).T)
        if not means:
            return np.zeros((0, len(self.weights), self.moments.shape[2])), np.zeros((0, len(self.weights)))
        return np.concatenate(means), np.maximum(np.concatenate(variances), 0.0)

    def update(self, arm: int, x: np.ndarray, y: np.ndarray) -> None:
        """Learn one outcome of one LLM; the others stay as they are.

        Parameters
        ----------
        arm
            The LLM that answered.
        x
            (D,), the query's features.
        y
            (K,), what was observed.
        """
        weights = self.weights[arm]
        self.precision[arm] += np.outer(x, x)
        self.moments[arm] += np.outer(x, y)
        error = y - x @ weights[:, self.dimension :]
        gain = sherman_morrison(weights[:, : self.dimension], x)
        weights[:, self.dimension :] += np.outer(gain, error)
        self.updates[arm] += 1
        if self.updates[arm] % REFRESH == 0:
            inverse = inverse_of(self.precision[arm])
            weights[:, : self.dimension] = inverse
            weights[:, self.dimension :] = inverse @ self.moments[arm]

    def copy(self) -> "LinearHeads":
        """Return heads that share nothing with these."""
        twin = LinearHeads(self.precision.copy(), self.moments.copy(), self.weights.copy())
        twin.updates = self.updates.copy()
        return twin

    def take(self, arms: Sequence[int]) -> "LinearHeads":
        """Return the heads of the given LLMs, in that order."""
        kept = list(arms)
        part = LinearHeads(self.precision[kept], self.moments[kept], self.weights[kept])
        part.updates = self.updates[kept]
        return part

    def extend(self, other: "LinearHeads") -> "LinearHeads":
        """Return these heads and then the other's."""
        joined = LinearHeads(
            np.concatenate([self.precision, other.precision]),
            np.concatenate([self.moments, other.moments]),
            np.concatenate([self.weights, other.weights]),
        )
        joined.updates = np.concatenate([self.updates, other.updates])
        return joined
