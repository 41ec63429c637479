"""Strength of the connection between a user and every item: what flows from the user's items to other items.

One term for each kind of connection in the graph, all of them terms of the item logits, so that the graph reaches the
candidates, which stand in no prompt
(docs/methods.md, sections 1.11, F2, and 1.7):

==========  ======================================================================================
walk        random walks from the user's items over other users, ``x W`` (three hops from the user)
long walk   the same, twice, ``x W W`` (five hops)
text        similarity of the texts, see `symbiosis.recommender.network.relations`
brand       items of the same brand
category    items of the same categories
popularity  users of the item
==========  ======================================================================================

A term is ``log(1 + flow / unit)``, with the spread of the flow as its unit. Logarithms, because a softmax turns sums
into products: the odds of an item then grow as a power of its strength, not exponentially. Walks and popularity of a
user's own row would know his hidden items. So in training they come from users of other folds, see
`symbiosis.recommender.network.cross_fitting`; when recommending, from all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_array, read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.network.newcomers import NewItems
from symbiosis.recommender.network.relations import Relations

TERMS = ("walk", "long walk", "text", "brand", "category", "popularity")
"""The connections, in the order of the gates."""

_PARTS = ("data", "indices", "indptr")
_ROWS, _CELLS = 32, 1 << 16
"""Rows of flows made at once, and as many more as have so few cells; with more they leave the processor's cache."""


@dataclass(frozen=True)
class Propagation:
    """Walks between items, one matrix for each fold of users and one for all, and what items have in common.

    Attributes
    ----------
    folds
        uint8 (U,), the fold of each user.
    without
        ``without[f]``, float32 (I, I), row: from an item of the user, column: to a candidate; fitted on the users
        whose fold is not f. Empty if only recommendations are made.
    whole
        The same, fitted on all users.
    degrees
        float32 (F + 1, I), the number of users of each item, in row f without the users of fold f, scaled up to all
        users, in the last row of all.
    relations
        Texts, brands and categories; no user had a part in them.
    units
        float32 (len(TERMS) - 1,), standard deviations of the cross-fitted flows.
    """

    folds: np.ndarray
    without: tuple[csr_array, ...]
    whole: csr_array
    degrees: np.ndarray
    relations: Relations
    units: np.ndarray

    def cross_fitted(self, users: np.ndarray, items: Sequence[np.ndarray]) -> np.ndarray:
        """Terms for training: a user's own row had no part in walks and popularity.

        Parameters
        ----------
        users
            int (B,).
        items
            The visible items of each.

        Returns
        -------
        float32 array of shape (len(TERMS), B, I)
        """
        terms = np.empty((len(TERMS), len(users), self.whole.shape[1]), dtype=np.float32)
        for fold in np.unique(self.folds[users]):
            rows = np.flatnonzero(self.folds[users] == fold)
            terms[:, rows] = self._terms([items[row] for row in rows.tolist()], self.without[fold], self.degrees[fold])
        return terms

    def terms(self, items: Sequence[np.ndarray]) -> np.ndarray:
        """Terms for recommending, by all users: float32 (len(TERMS), B, I) for the items of each user."""
        return self._terms(items, self.whole, self.degrees[-1])

    def _terms(self, items: Sequence[np.ndarray], walks: csr_array, degrees: np.ndarray) -> np.ndarray:
        terms = np.empty((len(TERMS), len(items), walks.shape[0]), dtype=np.float32)
        step = max(_ROWS, _CELLS // walks.shape[0])
        for start in range(0, len(items), step):
            rows = slice(start, start + step)
            strengths = flows(items[rows], walks, self.relations, out=terms[:-1, rows])
            strengths /= self.units[:, None, None]
            np.log1p(strengths, out=strengths)
        terms[-1] = np.log1p(degrees)
        return terms

    def extended(self, new: NewItems) -> "Propagation":
        """Return what recommends new items too: nobody took them, so no walk leads to them.

        The walks of the folds, which only training needs, are left out.
        """
        if not len(new):
            return replace(self, without=())
        whole, n_items = self.whole.copy(), self.whole.shape[0] + len(new)
        whole.resize(n_items, n_items)
        degrees = np.pad(self.degrees, ((0, 0), (0, len(new))))
        return Propagation(self.folds, (), whole, degrees, self.relations.extended(new), self.units)

    def save(self, folder: Path) -> None:
        """Write the arrays of every matrix into an existing folder."""
        np.save(folder / "folds.npy", self.folds)
        np.save(folder / "degrees.npy", self.degrees)
        np.save(folder / "texts.npy", self.relations.texts)
        for name, matrix in self._matrices().items():
            for part in _PARTS:
                np.save(folder / f"{name}.{part}.npy", getattr(matrix, part))
        units = dict(zip(TERMS, self.units.tolist(), strict=False))
        write_json(folder / "propagation.json", {"units": units, "folds": len(self.without)})

    @classmethod
    def load(cls, folder: Path | str, *, cross_fitted: bool = True) -> "Propagation":
        """Read what `save` wrote.

        Parameters
        ----------
        folder
            ``data/propagation``.
        cross_fitted
            Whether to read the walks of each fold, which only training needs.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        folder = Path(folder)
        described = read_json(folder / "propagation.json")
        folds, degrees, texts = (read_array(folder / f"{name}.npy") for name in ("folds", "degrees", "texts"))
        n_items = len(texts)
        if degrees.shape != (described["folds"] + 1, n_items):
            raise InputError(f"{folder}/degrees.npy has another form: delete {folder} and run `dvc repro`")

        def matrix(name: str) -> csr_array:
            data, indices, indptr = (read_array(folder / f"{name}.{part}.npy") for part in _PARTS)
            n_columns = n_items if name not in ("brands", "categories") else max(1, int(indices.max(initial=0)) + 1)
            try:
                made = csr_array((data, indices, indptr), shape=(n_items, n_columns))
                made.check_format(full_check=True)  # a product with an index out of range would write anywhere
            except ValueError as error:
                raise InputError(f"{folder}/{name} is damaged ({error}): delete {folder} and run `dvc repro`") from None
            return made

        without = tuple(matrix(f"without_{fold}") for fold in range(described["folds"] if cross_fitted else 0))
        relations = Relations(texts, matrix("brands"), matrix("categories"))
        units = np.array([described["units"][name] for name in TERMS[:-1]], dtype=np.float32)
        return cls(folds, without, matrix("whole"), degrees, relations, units)

    def _matrices(self) -> dict[str, csr_array]:
        relations = {"brands": self.relations.brands, "categories": self.relations.categories}
        return (
            {f"without_{fold}": matrix for fold, matrix in enumerate(self.without)} | {"whole": self.whole} | relations
        )


def flows(
    items: Sequence[np.ndarray], walks: csr_array, relations: Relations, out: np.ndarray | None = None
) -> np.ndarray:
    """What flows from each row of items to all items, by every connection but popularity.

    Parameters
    ----------
    items
        Of each row.
    walks
        float32 (I, I), see `Propagation`.
    relations
        What items have in common.
    out
        Is filled and returned, if given.

    Returns
    -------
    float32 array of shape (len(TERMS) - 1, B, I)
        Not negative.
    """
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in items])])
    columns = np.concatenate([*items, []]).astype(np.int64)
    visible = csr_array((np.ones(len(columns), np.float32), columns, offsets), shape=(len(items), walks.shape[0]))
    result = np.empty((len(TERMS) - 1, *visible.shape), dtype=np.float32) if out is None else out
    # A user's items lead to few items, those to most of all: only the first step pays off as a sparse product.
    once = visible @ walks
    result[0] = once.toarray()
    result[1] = (walks.T @ once.T.toarray(order="C")).T
    relations.flows(visible, result[2:])
    return result
