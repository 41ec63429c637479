"""EASE: a linear item-item model in closed form."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.linalg import get_lapack_funcs

from symbiosis.core.errors import InputError
from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.training_data import TrainingData


class EASEParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    l2
        Penalty on the weights.
    """

    l2: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)


class EASE(Baseline):
    """Score items by ``X B`` with the B of least ``|X - X B|² + l2 |B|²`` whose diagonal is 0.

    ``P = (XᵀX + l2 I)⁻¹`` and ``B_ij = -P_ij / P_jj`` off the diagonal (equation 8). P comes from a Cholesky
    factorisation in place. Memory: two dense (I, I) matrices, float32: 1.2 GB for 12,101 items.

    References
    ----------
    Steck 2019, Embarrassingly shallow autoencoders for sparse data.
    """

    Params = EASEParams

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.gram = (self.train.T @ self.train).toarray()

    def fit(self, l2: float) -> None:
        """Solve for the weights."""
        self.weights = item_weights(self.gram, l2)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """``X B`` of the users, float32 (B, I)."""
        return self.history[users] @ self.weights


def item_weights(gram: np.ndarray, l2: float) -> np.ndarray:
    """Solve for B, float32 (I, I), given ``XᵀX``.

    Raises
    ------
    InputError
        The penalty is too small for the matrix to be inverted.
    """
    regular = gram.copy().T  # symmetric, so the transpose is the same matrix in LAPACK's order
    regular[np.diag_indices_from(regular)] += np.float32(l2)
    factorise, invert = get_lapack_funcs(("potrf", "potri"), (regular,))
    upper, fault = factorise(regular, overwrite_a=True, clean=True)
    if fault:
        raise InputError(f"params.yaml: the penalty `l2` {l2:g} of EASE is too small for this data: take a larger one")
    inverse, _ = invert(upper, overwrite_c=True)
    _mirror_upper(inverse)
    weights: np.ndarray = inverse.T  # symmetric still; rows contiguous
    weights /= -weights.diagonal().copy()
    np.fill_diagonal(weights, 0)
    return weights


def _mirror_upper(matrix: np.ndarray, step: int = 1024) -> None:
    """Copy the upper triangle to the lower one, which holds zeros, block by block."""
    for start in range(0, len(matrix), step):
        rows = slice(start, start + step)
        square = matrix[rows, rows]
        square += np.triu(square, 1).T
        matrix[start + step :, rows] = matrix[rows, start + step :].T
