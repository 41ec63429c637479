"""iALS: matrix factorisation of implicit feedback by alternating least squares."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.base import IterativeBaseline, IterativeParams

_CELLS = 1 << 23
"""Entries of the normal equations held at once: 32 MiB."""


class IALSParams(IterativeParams):
    """Values to be tried; an epoch solves for all users, then for all items.

    Attributes
    ----------
    dimension
        Length of the vectors.
    unobserved_weight
        Weight of every user-item pair against that of an interaction, 1.
    l2
        Penalty on a vector, times the weight of all that it is fitted to.
    """

    dimension: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    unobserved_weight: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    l2: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)


class IALS(IterativeBaseline):
    """Score items by ``w_u · h_i``.

    The vectors minimise
    ``Σ_{(u,i) taken} (w_u·h_i - 1)² + a Σ_{all u,i} (w_u·h_i)² + l2 (Σ_u c_u |w_u|² + Σ_i c_i |h_i|²)``
    with the unobserved weight a and ``c_u = |I_u| + a I``, ``c_i = |U_i| + a U``. Given one side, every vector of the
    other solves its own normal equations ``(Σ h hᵀ + a HᵀH + l2 c_u) w_u = Σ h``, the sums over the user's items.

    References
    ----------
    Hu, Koren and Volinsky 2008, Collaborative filtering for implicit feedback datasets; loss and penalty as in Rendle,
    Krichene, Zhang and Koren 2022, Revisiting the performance of iALS on item recommendation benchmarks (their
    frequency exponent is 1 here).
    """

    Params = IALSParams

    def fit(self, dimension: int, unobserved_weight: float, l2: float) -> None:
        """Draw the vectors."""
        self.unobserved_weight, self.l2 = unobserved_weight, l2
        rng = np.random.default_rng(self.seed)
        # Scaled so that scores start near 0.1, whatever the dimension.
        deviation = 0.1 / np.sqrt(dimension)
        n_users, n_items = self.train.shape
        self.users = np.zeros((n_users, dimension), np.float32)
        self.items = (deviation * rng.standard_normal((n_items, dimension))).astype(np.float32)
        self.by_item = csr_array(self.train.T)

    def epoch(self) -> None:
        """Solve for the users, then for the items."""
        self.users = self._solved(self.train, self.items)
        self.items = self._solved(self.by_item, self.users)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """``W Hᵀ`` of the users, float32 (B, I); other histories than those of training are solved for."""
        vectors = self.users[users] if self.history is self.train else self._solved(self.history[users], self.items)
        return vectors @ self.items.T

    def _solved(self, taken: csr_array, fixed: np.ndarray) -> np.ndarray:
        """Solve for the vectors of the rows of `taken`, those of its columns given; float32 (rows, dimension).

        In the eigenbasis of HᵀH a row's equations are ``(D + VᵀV) x = Vᵀ1`` with D diagonal and the row's vectors V;
        where these are fewer than dimensions, ``x = D⁻¹Vᵀ (I + V D⁻¹ Vᵀ)⁻¹ 1`` is the smaller problem.
        """
        dimension = fixed.shape[1]
        lengths = np.diff(taken.indptr)
        levels, basis = np.linalg.eigh(self.unobserved_weight * (fixed.T @ fixed))
        turned = fixed @ basis
        penalties = (self.l2 * (lengths + self.unobserved_weight * taken.shape[1])).astype(np.float32)
        solved = np.zeros((len(lengths), dimension), np.float32)  # without interactions the solution is 0
        order = np.argsort(lengths, kind="stable")
        order = order[lengths[order] > 0]
        while len(order):
            # The longest last: of those left that are more than half as long, as many as fit.
            width = int(lengths[order[-1]])
            similar = len(order) - int(np.searchsorted(lengths[order], width / 2, side="right"))
            count = min(similar, max(1, _CELLS // (dimension * max(width, dimension))))
            rows, order = order[-count:], order[:-count]
            vectors = np.zeros((len(rows), width, dimension), np.float32)
            vectors[np.arange(width) < lengths[rows, None]] = turned[taken[rows].indices]
            diagonal = np.maximum(levels, 0) + penalties[rows, None]
            if width < dimension:
                scaled = vectors / diagonal[:, None]
                small = scaled @ vectors.transpose(0, 2, 1)
                small[:, np.arange(width), np.arange(width)] += 1
                weights = np.linalg.solve(small, np.ones((len(rows), width, 1), np.float32))
                solution = (weights * scaled).sum(axis=1)
            else:
                normal = vectors.transpose(0, 2, 1) @ vectors
                normal[:, np.arange(dimension), np.arange(dimension)] += diagonal
                solution = np.linalg.solve(normal, vectors.sum(axis=1)[:, :, None])[:, :, 0]
            solved[rows] = solution @ basis.T
        return solved
