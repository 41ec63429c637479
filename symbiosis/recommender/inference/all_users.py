"""The best items of all users in one file, written as they are found."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.recommender.metrics.ranking import NONE

if TYPE_CHECKING:
    from symbiosis.recommender.inference.recommender import RankedUsers, Recommender

ROWS = 1 << 17
"""Of a row group at least: what is held at once is that, and one block of users."""


def checked_output(path: Path | str) -> Path:
    """Return the path of a file to write, before any long work.

    Raises
    ------
    InputError
        Its name does not end with ``.parquet``, or it is a folder or a device.
    """
    path = Path(path)
    if path.suffix != ".parquet":
        raise InputError(f"{path}: recommendations are written as parquet: give a name such as recommendations.parquet")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file: name one")
    return path


def write_all(
    recommender: "Recommender",
    output: Path | str,
    count: int,
    *,
    users: np.ndarray | None = None,
    candidates: np.ndarray | None = None,
    repeat_purchases: bool = False,
) -> int:
    """Write the best items of all users, or of some: ``user_id, rank, item_id, score``, by user and rank.

    The file appears whole, or not at all. Memory does not grow with the number of users, but for their names.

    Parameters
    ----------
    recommender
        Ranks.
    output
        Parquet file to write, in row groups of `ROWS` rows or a little more.
    count
        Items of a user at most.
    users
        int (users,), their numbers; all if not given.
    candidates
        bool (I,); all items if not given.
    repeat_purchases
        Whether items that the user has are candidates too.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    InputError
        The output cannot be written, or the model cannot answer.
    """
    import pyarrow.parquet as pq

    output, rows = checked_output(output), 0
    blocks = recommender.recommend_many(users, count, candidates=candidates, repeat_purchases=repeat_purchases)
    names = recommender.catalogue
    total = len(names.users) if users is None else len(users)
    with (
        staged(output) as (temporary,),
        tqdm(total=total, desc="recommending", unit=" users", unit_scale=True) as bar,
    ):
        writer = None
        try:
            for frame in _groups(_named(block, names.users, names.items, bar) for block in blocks):
                table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
                writer = writer or pq.ParquetWriter(temporary, table.schema, compression="zstd")
                writer.write_table(table)
                rows += len(frame)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            nobody = np.empty(0, np.int64)
            _named_rows(nobody, nobody, nobody, nobody, names.users, names.items).write_parquet(temporary)
    return rows


def _named(block: "RankedUsers", users: pl.DataFrame, items: pl.DataFrame, bar: tqdm) -> pl.DataFrame:
    bar.update(len(block.users))
    row, place = np.nonzero(block.items != NONE)
    return _named_rows(block.users[row], place + 1, block.items[row, place], block.scores[row, place], users, items)


def _named_rows(
    user: np.ndarray, rank: np.ndarray, item: np.ndarray, score: np.ndarray, users: pl.DataFrame, items: pl.DataFrame
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_id": users["user_id"].gather(user),
            "rank": pl.Series(rank, dtype=pl.Int32),
            "item_id": items["item_id"].gather(item),
            "score": pl.Series(score, dtype=pl.Float32),
        }
    )


def _groups(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Put frames together until they have enough rows."""
    held: list[pl.DataFrame] = []
    for frame in frames:
        held.append(frame)
        if sum(map(len, held)) >= ROWS:
            yield pl.concat(held)
            held.clear()
    if any(map(len, held)):
        yield pl.concat(held)
