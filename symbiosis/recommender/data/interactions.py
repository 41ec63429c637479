"""The split interactions as sparse user-item matrices."""

from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_frame
from symbiosis.core.errors import InputError


def read_sizes(folder: Path | str) -> tuple[int, int]:
    """Numbers of users and items: the rows of ``users.parquet`` and ``items.parquet``.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    users, items = (read_frame(Path(folder) / f"{kind}s.parquet", [kind]) for kind in ("user", "item"))
    return len(users), len(items)


def read_matrix(path: Path | str, shape: tuple[int, int]) -> csr_array:
    """Read one part of the split.

    Parameters
    ----------
    path
        Parquet with the columns ``user`` and ``item``: row numbers from 0.
    shape
        Numbers of users and items.

    Returns
    -------
    csr_array
        Float32 (U, I), 1 where the user took the item; the items of a user ascend.

    Raises
    ------
    InputError
        The file is missing or damaged, a row number is out of range, or a pair is repeated.
    """
    frame = read_frame(path, ["user", "item"]).cast(pl.Int64).sort("user", "item")
    for column, size in zip(("user", "item"), shape, strict=True):
        bad = frame.filter((pl.col(column) < 0) | (pl.col(column) >= size) | pl.col(column).is_null())
        if len(bad):
            raise InputError(f"{path}: {column} {bad[column][0]} is not one of the {size} known: run `dvc repro clean`")
    repeated = frame.filter(frame.is_duplicated())
    if len(repeated):
        user, item = repeated.row(0)
        raise InputError(f"{path}: user {user} has item {item} more than once: run `dvc repro clean`")
    users, items = frame["user"].to_numpy(), frame["item"].to_numpy()
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=shape[0]))])
    return csr_array((np.ones(len(users), np.float32), items, offsets), shape=shape)


def items_of(matrix: csr_array, user: int) -> np.ndarray:
    """Return the stored items of one user."""
    items: np.ndarray = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]]
    return items
