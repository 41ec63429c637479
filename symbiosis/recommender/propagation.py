"""Strength of the connection between a user and every item: what flows from the user's items to other items.

The strength is ``log(1 + max(x B, 0) / unit)`` with the user's visible items ``x`` and item-to-item weights ``B``, and
beside it stands ``log(1 + degree)`` of the item. Both are terms of the item logits, so that the graph reaches the
candidates, which stand in no prompt (specification, F2 and section 9.5). Logarithms, because a softmax turns sums into
products: the odds of an item then grow as a power of its strength, not exponentially. Weights and degrees
fitted on a user's own row would know his hidden items. So in training a user's strengths come from weights that were
fitted on users of other folds, see `symbiosis.recommender.cross_fitting`; when recommending, from weights fitted on
all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from symbiosis.artifacts import read_array, read_json, write_json
from symbiosis.errors import InputError

TERMS = 2
"""Strength and log degree."""

_PARTS = ("data", "indices", "indptr")


@dataclass(frozen=True)
class Propagation:
    """Item-to-item weights, one matrix for each fold of users and one for all.

    Attributes
    ----------
    folds
        uint8 (U,), the fold of each user.
    without
        ``without[f]``, float32 (I, I), row: from an item of the user, column: to a candidate; fitted on the users
        whose fold is not f.
    whole
        The same, fitted on all users.
    degrees
        float32 (F + 1, I), the number of users of each item, in row f without the users of fold f, scaled up to all
        users, in the last row of all.
    unit
        Standard deviation of cross-fitted flows ``x B``.
    """

    folds: np.ndarray
    without: tuple[csr_array, ...]
    whole: csr_array
    degrees: np.ndarray
    unit: float

    def cross_fitted(self, users: np.ndarray, items: Sequence[np.ndarray]) -> np.ndarray:
        """Terms for training: a user's own row had no part in weights and degrees.

        Parameters
        ----------
        users
            int (B,).
        items
            The visible items of each.

        Returns
        -------
        float32 array of shape (TERMS, B, I)
            Strength and log degree.
        """
        terms = np.empty((TERMS, len(users), self.whole.shape[1]), dtype=np.float32)
        for fold in np.unique(self.folds[users]):
            rows = np.flatnonzero(self.folds[users] == fold)
            terms[:, rows] = self._terms([items[row] for row in rows.tolist()], self.without[fold], self.degrees[fold])
        return terms

    def terms(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """Terms for recommending, by all users: float32 (TERMS, B, I) for the items of each user."""
        return self._terms(items, self.whole, self.degrees[-1])

    def _terms(self, items: Sequence[np.ndarray], weights: csr_array, degrees: np.ndarray) -> np.ndarray:
        strength = np.log1p(np.maximum(flow(items, weights), 0) / np.float32(self.unit))
        return np.stack([strength, np.broadcast_to(np.log1p(degrees), strength.shape)])

    def save(self, folder: Path) -> None:
        """Write the arrays of every matrix into an existing folder."""
        np.save(folder / "folds.npy", self.folds)
        np.save(folder / "degrees.npy", self.degrees)
        for name, matrix in self._matrices().items():
            for part in _PARTS:
                np.save(folder / f"{name}.{part}.npy", getattr(matrix, part))
        write_json(folder / "propagation.json", {"unit": self.unit, "folds": len(self.without)})

    @classmethod
    def load(cls, folder: Path | str) -> "Propagation":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        folder = Path(folder)
        described = read_json(folder / "propagation.json")

        def matrix(name: str) -> csr_array:
            data, indices, indptr = (read_array(folder / f"{name}.{part}.npy") for part in _PARTS)
            n_items = len(indptr) - 1
            try:
                return csr_array((data, indices, indptr), shape=(n_items, n_items))
            except ValueError as error:
                raise InputError(f"{folder}/{name} is damaged ({error}): delete {folder} and run `dvc repro`") from None

        without = tuple(matrix(f"without_{fold}") for fold in range(described["folds"]))
        folds, degrees = read_array(folder / "folds.npy"), read_array(folder / "degrees.npy")
        return cls(folds, without, matrix("whole"), degrees, described["unit"])

    def _matrices(self) -> dict[str, csr_array]:
        return {f"without_{fold}": matrix for fold, matrix in enumerate(self.without)} | {"whole": self.whole}


def flow(items: Sequence[np.ndarray], weights: csr_array) -> np.ndarray:
    """``x B`` of each row of items."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in items])])
    columns = np.concatenate([*items, []]).astype(np.int64)
    visible = csr_array((np.ones(len(columns), np.float32), columns, offsets), shape=(len(items), weights.shape[0]))
    flows: np.ndarray = (visible @ weights).toarray()
    return flows
