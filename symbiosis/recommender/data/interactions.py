"""The split interactions as sparse user-item matrices."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_frame
from symbiosis.core.layout import ITEMS, USERS
from symbiosis.graph.edges import checked_edges


def read_sizes(folder: Path | str) -> tuple[int, int]:
    """Read the numbers of users and items: the rows of ``users.parquet`` and ``items.parquet``.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    users, items = (read_frame(Path(folder) / path.name, [name]) for path, name in ((USERS, "user"), (ITEMS, "item")))
    return len(users), len(items)


def read_interactions(path: Path | str, shape: tuple[int, int], others: Sequence[str] = ()) -> pl.DataFrame:
    """Read and check one part of the split, sorted by user and item.

    Parameters
    ----------
    path
        Parquet with the columns ``user`` and ``item``: row numbers from 0.
    shape
        Numbers of users and items.
    others
        Further columns to read, such as ``rating``.

    Raises
    ------
    InputError
        The file is missing or damaged, a row number is out of range, or a pair is repeated.
    """
    return checked_edges(read_frame(path, ["user", "item", *others]), path, *shape)


def to_matrix(interactions: pl.DataFrame, shape: tuple[int, int], values: np.ndarray | None = None) -> csr_array:
    """Put interactions into a matrix.

    Parameters
    ----------
    interactions
        As `read_interactions` gives them.
    shape
        Numbers of users and items.
    values
        float32, one per interaction; 1 if not given.

    Returns
    -------
    csr_array
        Float32 (U, I); the items of a user ascend.
    """
    users, items = interactions["user"].to_numpy(), interactions["item"].to_numpy()
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=shape[0]))])
    stored = np.ones(len(users), np.float32) if values is None else values
    return csr_array((stored, items, offsets), shape=shape)


def read_matrix(path: Path | str, shape: tuple[int, int]) -> csr_array:
    """Read one part of the split as a matrix, float32 (U, I), 1 where the user took the item.

    Parameters and errors are those of `read_interactions`.
    """
    return to_matrix(read_interactions(path, shape), shape)


def items_of(matrix: csr_array, user: int) -> np.ndarray:
    """Return the stored items of one user."""
    items: np.ndarray = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
    return items
