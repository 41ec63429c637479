"""Strength of the connection between a user and every item: what flows from the user's items to other items.

The strength is ``x B`` with the user's visible items ``x`` and item-to-item weights ``B``. It is a term of the item
logits, so that the graph reaches the candidates, which stand in no prompt (specification, F2 and section 9.5). Weights
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
    unit
        Standard deviation of cross-fitted strengths; strengths are given in this unit.
    """

    folds: np.ndarray
    without: tuple[csr_array, ...]
    whole: csr_array
    unit: float

    def cross_fitted(self, users: np.ndarray, items: Sequence[np.ndarray]) -> np.ndarray:
        """Strengths for training: a user's own row had no part in the weights.

        Parameters
        ----------
        users
            int (B,).
        items
            The visible items of each.

        Returns
        -------
        float32 array of shape (B, I)
        """
        strengths = np.empty((len(users), self.whole.shape[1]), dtype=np.float32)
        for fold in np.unique(self.folds[users]):
            rows = np.flatnonzero(self.folds[users] == fold)
            strengths[rows] = _flow([items[row] for row in rows], self.without[fold])
        return strengths / np.float32(self.unit)

    def strengths(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """Strengths for recommending, by the weights of all users: float32 (B, I) for the items of each user."""
        return _flow(items, self.whole) / np.float32(self.unit)

    def save(self, folder: Path) -> None:
        """Write the arrays of every matrix into an existing folder."""
        np.save(folder / "folds.npy", self.folds)
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
        return cls(read_array(folder / "folds.npy"), without, matrix("whole"), described["unit"])

    def _matrices(self) -> dict[str, csr_array]:
        return {f"without_{fold}": matrix for fold, matrix in enumerate(self.without)} | {"whole": self.whole}


def _flow(items: Sequence[np.ndarray], weights: csr_array) -> np.ndarray:
    """``x B`` of each row of items."""
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in items])])
    columns = np.concatenate([*items, []]).astype(np.int64)
    visible = csr_array((np.ones(len(columns), np.float32), columns, offsets), shape=(len(items), weights.shape[0]))
    flow: np.ndarray = (visible @ weights).toarray()
    return flow
