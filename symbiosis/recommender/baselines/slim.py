"""SLIM: a sparse, non-negative item-item model."""

from typing import Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.core.progress import tqdm
from symbiosis.recommender.baselines.base import Baseline, BaselineParams
from symbiosis.recommender.data.training_data import TrainingData

_CELLS = 1 << 23
"""Entries of the small Gram matrices held at once: 32 MiB."""
_SWEEPS = 200
_TOLERANCE = 1e-4
"""Largest change of a weight, in the last sweep, that counts as settled; weights are at most about 1."""


class SLIMParams(BaselineParams):
    """Values to be tried.

    Attributes
    ----------
    l1
        Penalty on the sum of the weights, in interactions.
    l2
        Penalty on half the sum of their squares.
    """

    l1: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    l2: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)


class SLIM(Baseline):
    """Score items by ``X W``, W the minimum of ``|X - X W|²/2 + l2 |W|²/2 + l1 Σ W`` with W ≥ 0 and its diagonal 0.

    Each column is a problem of its own, solved by coordinate descent on the Gram matrix ``G = XᵀX``:
    ``w_i ← max(0, g_ij - Σ_{k≠i} g_ik w_k - l1) / (g_ii + l2)`` (Friedman, Hastie and Tibshirani 2010).
    Since no entry of G is negative, ``w_i`` is 0 unless ``g_ij > l1``: column j is a small problem among the items that
    enough users took together with j, and many of similar size are solved at once. No entry is lost by this.

    References
    ----------
    Ning and Karypis 2011, SLIM: sparse linear methods for top-N recommender systems.
    """

    Params = SLIMParams

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.gram = csr_array(self.train.T @ self.train)

    def fit(self, l1: float, l2: float) -> None:
        """Solve for the weights, columns of similar size together."""
        common = self.gram.tocoo()
        possible = (common.row != common.col) & (common.data > l1)
        candidates = csr_array((common.data[possible], (common.row[possible], common.col[possible])), common.shape)
        sizes = np.diff(candidates.indptr)
        order = np.argsort(sizes, kind="stable")
        order = order[sizes[order] > 0]
        entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        dense = self.gram.toarray()
        with tqdm(total=len(order), desc=f"SLIM l1 {l1:g} l2 {l2:g}", unit="item", leave=False) as bar:
            while len(order):
                # The largest last: as many of the largest that are left as fit.
                count = max(1, _CELLS // int(sizes[order[-1]]) ** 2)
                columns, order = order[-count:], order[:-count]
                entries.append(_solve(dense, candidates, columns, l1, l2))
                bar.update(len(columns))
        rows, columns, weights = (
            (np.concatenate(part) for part in zip(*entries, strict=True))
            if entries
            else (np.empty(0, int), np.empty(0, int), np.empty(0, np.float32))
        )
        self.weights = csr_array((weights, (rows, columns)), shape=self.gram.shape)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """``X W`` of the users, float32 (B, I)."""
        return (self.history[users] @ self.weights).toarray()


def _solve(
    gram: np.ndarray, candidates: csr_array, columns: np.ndarray, l1: float, l2: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Solve some columns; return rows, columns and weights of the entries above 0."""
    sizes = np.diff(candidates.indptr)[columns]
    width = int(sizes.max())
    present = np.arange(width) < sizes[:, None]
    items = np.zeros((len(columns), width), np.int64)
    entries = candidates[columns]
    items[present] = entries.indices
    target = np.full((len(columns), width), -np.inf, np.float32)  # padding stays at 0
    target[present] = entries.data - l1
    # Axis 0 is the coordinate, so that each step reads one block of memory.
    grams = np.ascontiguousarray(gram[items.T[:, :, None], items[None]])
    scale = 1 / (gram.diagonal()[items] + np.float32(l2)).T
    own = np.stack([grams[i, :, i] for i in range(width)])
    weights = np.zeros((len(columns), width), np.float32)
    for _ in range(_SWEEPS):
        change = 0.0
        for i in range(width):
            before = weights[:, i]
            rest = np.einsum("bk,bk->b", grams[i], weights) - own[i] * before
            after = np.maximum(0, (target[:, i] - rest) * scale[i])
            change = max(change, float(np.abs(after - before).max()))
            weights[:, i] = after
        if change < _TOLERANCE:
            break
    kept = weights > 0
    return items[kept], np.repeat(columns, kept.sum(axis=1)), weights[kept]
