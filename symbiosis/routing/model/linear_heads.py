"""Bayesian linear heads, one per LLM: mean, variance and online update are one object.

What each LLM has been seen to answer, A_l = rho I + sum of x x^T, and its inverse kept by low-rank updates.

MixLLM (arXiv 2502.18482) Eq. 9 and 14; Sherman and Morrison 1950;
Woodbury 1950.
"""

from collections.abc import Sequence

import numpy as np

CHUNK = 512  # rows per product: bounds memory at CHUNK x L x (D + K) numbers
REFRESH = 256  # updates of an LLM after which its inverse is computed afresh, so that rounding cannot pile up
LEAST_KEPT = 0.1  # share of what is known of an LLM that forgetting leaves, however long it was not asked


class LinearHeads:
    """Ridge regression of K targets per LLM, all K with the same features and penalty.

    For LLM l, A_l = penalty I + sum x x^T, b_l = sum x y^T and theta_l = A_l^-1 b_l (MixLLM, arXiv 2502.18482,
    Eq. 12 to 14 with squared loss, solved rather than descended; LinUCB, Li et al. 2010). The inverse and the weights
    lie side by side, so that one product gives the means and the variances of all LLMs for a batch of queries. The
    product runs per LLM inside, so an LLM's numbers do not depend on which others there are, to the last bit.

    Against drift the heads may forget: with `forgetting` gamma below 1, what an LLM has shown loses the share
    1 - gamma with every feedback of any LLM (ParetoBandit, arXiv 2604.00136: gamma = 0.997). The discount is applied
    when the LLM is next updated; until then only its variance grows. The ridge penalty is not forgotten: what fades is
    put back whenever the inverse is computed afresh, or directions that are no longer asked about would be left
    without any.

    Parameters
    ----------
    precision
        (L, D, D), A_l.
    moments
        (L, D, K), b_l.
    weights
        (L, D, D + K), A_l^-1 beside theta_l; computed if not given. In float32 they take half the memory; A_l and b_l
        stay in float64.
    penalty
        (L, D), the ridge penalty of each feature, which forgetting leaves; 0 if not given.
    """

    def __init__(
        self,
        precision: np.ndarray,
        moments: np.ndarray,
        weights: np.ndarray | None = None,
        penalty: np.ndarray | None = None,
    ) -> None:
        self.precision = precision
        self.moments = moments
        self.penalty = np.zeros(precision.shape[:2]) if penalty is None else penalty
        if weights is None:
            inverse = inverse_of(precision)
            weights = np.concatenate([inverse, inverse @ moments], axis=2)
        self.weights = weights
        self.updates = np.zeros(len(precision), dtype=np.int64)
        self.age = np.zeros(len(precision), dtype=np.int64)  # feedbacks of any LLM since an LLM's own last
        self.kept = np.ones(len(precision))  # share of the penalty in A_l that forgetting has left
        self.forgetting = 1.0

    @classmethod
    def blank(cls, n_llms: int, dimension: int, n_targets: int, penalty: float | np.ndarray) -> "LinearHeads":
        """Heads that have seen nothing."""
        penalties = np.tile(np.broadcast_to(penalty, dimension).astype(np.float64), (n_llms, 1))
        precision = penalties[:, :, None] * np.eye(dimension)
        return cls(precision, np.zeros((n_llms, dimension, n_targets)), penalty=penalties)

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        targets: np.ndarray,
        penalty: float | np.ndarray,
        known: np.ndarray | None = None,
        weight: np.ndarray | None = None,
    ) -> "LinearHeads":
        """Fit to full feedback, or to the answers that are known.

        Parameters
        ----------
        features
            (N, D).
        targets
            (N, L, K).
        penalty
            rho, the ridge penalty, above zero: one for all features, or (D,).
        known
            (N, L) bool, which LLM has answered which query; None: all have.
        weight
            (N,), how many observations each of a query's known answers is worth; None: one. Needs `known`.
        """
        n_llms = targets.shape[1]
        penalties = np.broadcast_to(penalty, features.shape[1]).astype(np.float64)
        if known is not None:
            scale = np.ones(len(features)) if weight is None else np.sqrt(weight)
            seen = [
                (scale[rows, None] * features[rows], scale[rows, None] * targets[rows, arm])
                for arm, rows in enumerate(known.T)
            ]
            return cls(
                np.stack([np.diag(penalties) + own.T @ own for own, _ in seen]),
                np.stack([own.T @ told for own, told in seen]),
                penalty=np.tile(penalties, (n_llms, 1)),
            )
        precision = np.diag(penalties) + features.T @ features
        moments = np.einsum("nd,nlk->ldk", features, targets, optimize=True)
        # All LLMs have seen the same queries: invert once.
        inverse = np.tile(inverse_of(precision), (n_llms, 1, 1))
        weights = np.concatenate([inverse, inverse @ moments], axis=2)
        return cls(
            np.tile(precision, (n_llms, 1, 1)), np.ascontiguousarray(moments), weights, np.tile(penalties, (n_llms, 1))
        )

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
            (N, L), x A_l^-1 x^T, the variance of the mean in units of the noise variance; larger for an LLM of which
            much has been forgotten since its last update.
        """
        means, variances = [], []
        for start in range(0, len(features), CHUNK):
            rows = features[start : start + CHUNK]
            product = np.matmul(rows, self.weights)  # (L, n, D + K)
            means.append(product[:, :, self.dimension :].swapaxes(0, 1))
            variances.append((product[:, :, : self.dimension] * rows).sum(axis=2).T)
        if not means:
            return np.zeros((0, len(self.weights), self.moments.shape[2])), np.zeros((0, len(self.weights)))
        variance = np.maximum(np.concatenate(variances), 0.0)
        return np.concatenate(means), self.aged(variance)

    def aged(self, variance: np.ndarray) -> np.ndarray:
        """Return variances (..., L) as grown by what each LLM forgot since its last update."""
        return variance if self.forgetting == 1 else variance / self._left(self.age)

    def update(self, arm: int, x: np.ndarray, y: np.ndarray, weight: float = 1.0) -> None:
        """Learn one outcome of one LLM; the others stay as they are.

        Parameters
        ----------
        arm
            The LLM that answered.
        x
            (D,), the query's features.
        y
            (K,), what was observed.
        weight
            Above 0: how many observations this one is worth. Below 1 it is noisier than those trained on.
        """
        self._forget(arm)
        if weight != 1:
            x, y = np.sqrt(weight) * x, np.sqrt(weight) * y
        weights = self.weights[arm]
        self.precision[arm] += np.outer(x, x)
        self.moments[arm] += np.outer(x, y)
        error = y - x @ weights[:, self.dimension :]
        gain = sherman_morrison(weights[:, : self.dimension], x)
        weights[:, self.dimension :] += np.outer(gain, error)
        self._count(arm, 1)

    def update_batch(self, arm: int, features: np.ndarray, targets: np.ndarray) -> None:
        """Learn several outcomes of one LLM at once: the same as one by one, in one step (forgetting counts it as one).

        Parameters
        ----------
        arm
            The LLM that answered.
        features
            (N, D).
        targets
            (N, K).
        """
        if not len(features):
            return
        self._forget(arm)
        weights = self.weights[arm]
        self.precision[arm] += features.T @ features
        self.moments[arm] += features.T @ targets
        errors = targets - features @ weights[:, self.dimension :]
        gains = woodbury(weights[:, : self.dimension], features)
        weights[:, self.dimension :] += gains @ errors
        self._count(arm, len(features))

    def refresh(self, arm: int) -> None:
        """Compute an LLM's inverse and weights afresh from A_l and b_l."""
        lost = 1 - self.kept[arm]
        if lost:
            self.precision[arm] += lost * np.diag(self.penalty[arm])
            self.kept[arm] = 1.0
        inverse = inverse_of(self.precision[arm])
        self.weights[arm, :, : self.dimension] = inverse
        self.weights[arm, :, self.dimension :] = inverse @ self.moments[arm]

    def _left(self, age: np.ndarray) -> np.ndarray:
        """Return the share of an LLM's evidence that is left after `age` feedbacks of any LLM."""
        left: np.ndarray = np.maximum(self.forgetting**age, LEAST_KEPT)
        return left

    def _forget(self, arm: int) -> None:
        """Discount what is known of an LLM by the feedbacks since its last update, this one included."""
        self.age += 1
        if self.forgetting != 1:
            left = float(self._left(self.age[arm]))
            self.precision[arm] *= left
            self.moments[arm] *= left
            self.weights[arm, :, : self.dimension] /= left
            self.kept[arm] *= left
        self.age[arm] = 0

    def _count(self, arm: int, n: int) -> None:
        due = self.updates[arm] // REFRESH < (self.updates[arm] + n) // REFRESH
        self.updates[arm] += n
        if due:
            self.refresh(arm)

    def copy(self) -> "LinearHeads":
        """Return heads that share nothing with these."""
        return self.take(range(len(self.precision)))

    def take(self, arms: Sequence[int]) -> "LinearHeads":
        """Return the heads of the given LLMs, in that order; they share nothing with these."""
        kept = list(arms)
        part = LinearHeads(self.precision[kept], self.moments[kept], self.weights[kept], self.penalty[kept])
        part.updates, part.age, part.kept = self.updates[kept], self.age[kept], self.kept[kept]
        part.forgetting = self.forgetting
        return part

    def extend(self, other: "LinearHeads") -> "LinearHeads":
        """Return these heads and then the other's; forgetting is as in these."""
        joined = LinearHeads(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in ("precision", "moments", "weights", "penalty")
            )
        )
        joined.updates = np.concatenate([self.updates, other.updates])
        joined.age = np.concatenate([self.age, other.age])
        joined.kept = np.concatenate([self.kept, other.kept])
        joined.forgetting = self.forgetting
        return joined


def inverse_of(matrices: np.ndarray) -> np.ndarray:
    """Invert positive definite matrices (..., D, D) by Cholesky; the result is exactly symmetric."""
    from scipy.linalg import cho_factor, cho_solve

    stacked = matrices.reshape(-1, *matrices.shape[-2:])
    eye = np.eye(matrices.shape[-1])
    inverse = np.stack([cho_solve(cho_factor(matrix, lower=True), eye) for matrix in stacked])
    return (0.5 * (inverse + inverse.swapaxes(-1, -2))).reshape(matrices.shape)


def sherman_morrison(inverse: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Turn A^-1 into (A + x x^T)^-1 in place, in O(D^2).

    Parameters
    ----------
    inverse
        (D, D), symmetric; overwritten.
    x
        (D,).

    Returns
    -------
    numpy.ndarray
        (D,), the gain (A + x x^T)^-1 x: a linear model's weights move by gain times its error.
    """
    step = inverse @ x
    scale = 1.0 + x @ step
    inverse -= np.outer(step, step) / scale  # exactly symmetric, which gain times step is not
    gain: np.ndarray = step / scale
    return gain


def woodbury(inverse: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Turn A^-1 into (A + X^T X)^-1 in place, in O(m D^2) for m rows at most as many as D.

    Parameters
    ----------
    inverse
        (D, D), symmetric; overwritten.
    rows
        (m, D), X.

    Returns
    -------
    numpy.ndarray
        (D, m), the gain (A + X^T X)^-1 X^T: a linear model's weights move by gain times its errors.
    """
    from scipy.linalg import cho_factor, cho_solve

    steps = inverse @ rows.T
    inner = np.eye(len(rows)) + rows @ steps
    gain: np.ndarray = cho_solve(cho_factor(inner, lower=True), steps.T).T
    change = gain @ steps.T
    inverse -= 0.5 * (change + change.T)
    return gain
