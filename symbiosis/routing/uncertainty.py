"""What each LLM has been seen to answer, A_l = rho I + sum of x x^T, and its inverse kept by low-rank updates.

MixLLM (arXiv 2502.18482) Eq. 9 and 14; Sherman and Morrison 1950;
Woodbury 1950.
"""

import numpy as np


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
