"""Edges of users and items as the stage `clean` numbers them: every pair once, every number in range."""

from pathlib import Path

import polars as pl

from symbiosis.core.errors import InputError


def checked_edges(edges: pl.DataFrame, path: Path | str, n_users: int, n_items: int) -> pl.DataFrame:
    """Sort edges by user and item, and refuse those that cannot be.

    Parameters
    ----------
    edges
        Columns ``user`` and ``item``, row numbers from 0, in any order; others are kept.
    path
        File that they come from, for the message.
    n_users, n_items
        Numbers of users and items.

    Returns
    -------
    polars.DataFrame
        ``user`` and ``item`` as int64.

    Raises
    ------
    InputError
        A number is out of range or missing, or a pair is repeated.
    """
    edges = edges.with_columns(pl.col("user", "item").cast(pl.Int64)).sort("user", "item")
    for column, size in (("user", n_users), ("item", n_items)):
        bad = edges.filter((pl.col(column) < 0) | (pl.col(column) >= size) | pl.col(column).is_null())
        if len(bad):
            raise InputError(
                f"{path}: {column} {bad[column][0]} is not one of the {size} in {column}s.parquet: "
                "run `dvc repro clean`"
            )
    repeated = edges.filter((pl.col("user") == pl.col("user").shift()) & (pl.col("item") == pl.col("item").shift()))
    if len(repeated):
        user, item = repeated["user"][0], repeated["item"][0]
        raise InputError(f"{path}: user {user} has item {item} more than once: run `dvc repro clean`")
    return edges
