"""Ratings in stars, which the rating objective learns from, and a simple predictor of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.recommender.data.interactions import read_interactions, to_matrix

Scores = Callable[[np.ndarray], np.ndarray]

_DAMPING = {"item": 25.0, "user": 10.0}
"""Ratings of the mean that are added to those of an item or user, as in the source."""
_USERS_AT_ONCE = 1024


@dataclass(frozen=True)
class Ratings:
    """Ratings by part of the split.

    Attributes
    ----------
    train, held_out
        float32 (U, I), the ratings at the interactions.
    """

    train: csr_array
    held_out: csr_array

    @classmethod
    def read(cls, folder: Path | str, shape: tuple[int, int], held_out: str = "validation") -> "Ratings":
        """Read training ratings and those of another part of the split.

        Raises
        ------
        InputError
            A file is missing or damaged, or an interaction has no rating.
        """
        return cls(*(_read(Path(folder) / f"{part}.parquet", shape) for part in ("train", held_out)))

    @property
    def mean(self) -> float:
        """Of the training ratings."""
        return float(self.train.data.mean(dtype=np.float64))

    def of(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Training ratings of pairs that have one: float32 (N,) for int (N,) and int (N,)."""
        n_items = self.train.shape[1]
        known = np.repeat(np.arange(self.train.shape[0]), np.diff(self.train.indptr)) * n_items + self.train.indices
        found: np.ndarray = self.train.data[np.searchsorted(known, users.astype(np.int64) * n_items + items)]
        return found

    def predictions(self, scores: Scores) -> np.ndarray:
        """Mean rating plus score of every held-out pair, float64 (N,), in the order of `held_out`."""
        users = np.flatnonzero(np.diff(self.held_out.indptr))
        parts = []
        for start in range(0, len(users), _USERS_AT_ONCE):
            block = users[start : start + _USERS_AT_ONCE]
            rows = np.repeat(np.arange(len(block)), np.diff(self.held_out.indptr)[block])
            parts.append(scores(block)[rows, self.held_out[block].indices])
        return self.mean + np.concatenate([*parts, []]).astype(np.float64)

    def root_mean_squared_error(self, scores: Scores) -> float:
        """Of the held-out ratings."""
        return float(np.sqrt(np.mean((self.predictions(scores) - self.held_out.data) ** 2)))

    def biases(self) -> np.ndarray:
        """Predict every held-out rating as mean + bias of the item + bias of the user, float64 (N,).

        References
        ----------
        Koren and Bell 2011, Advances in collaborative filtering, section 5.2.1.
        """
        users = np.repeat(np.arange(self.train.shape[0]), np.diff(self.train.indptr))
        rest = self.train.data.astype(np.float64) - self.mean
        of_item = _damped(rest, self.train.indices, self.train.shape[1], _DAMPING["item"])
        of_user = _damped(rest - of_item[self.train.indices], users, self.train.shape[0], _DAMPING["user"])
        wanted = np.repeat(np.arange(self.held_out.shape[0]), np.diff(self.held_out.indptr))
        predicted: np.ndarray = self.mean + of_item[self.held_out.indices] + of_user[wanted]
        return predicted


def _damped(values: np.ndarray, groups: np.ndarray, count: int, damping: float) -> np.ndarray:
    """Sum of each group over its size plus the damping, (count,)."""
    sums, sizes = np.bincount(groups, values, minlength=count), np.bincount(groups, minlength=count)
    shrunk: np.ndarray = sums / (sizes + damping)
    return shrunk


def _read(path: Path, shape: tuple[int, int]) -> csr_array:
    interactions = read_interactions(path, shape, ["rating"])
    ratings = interactions["rating"]
    if ratings.null_count():
        raise InputError(
            f"{path}: {ratings.null_count():,} of {len(ratings):,} interactions have no rating: set "
            "`finetune.objective` to likelihood, or take a source with ratings"
        )
    return to_matrix(interactions, shape, ratings.cast(pl.Float32).to_numpy())
