"""Brands and categories of the items as rows of one table."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from scipy.sparse import csr_array


def item_attributes(items: pl.DataFrame) -> pl.DataFrame:
    """List the brand and the categories of every item, blank names left out.

    Parameters
    ----------
    items
        Columns ``item``, ``brand`` (text or null) and ``categories`` (list of text or null).

    Returns
    -------
    polars.DataFrame
        Columns ``kind`` (``brand`` or ``category``), ``item``, ``name``; every row once.

    Examples
    --------
    >>> items = pl.DataFrame({"item": [0], "brand": ["Acme"], "categories": [["Home", " ", "Home"]]})
    >>> item_attributes(items).rows()
    [('brand', 0, 'Acme'), ('category', 0, 'Home')]
    """
    brands = items.select(pl.lit("brand").alias("kind"), "item", pl.col("brand").alias("name"))
    categories = items.select(pl.lit("category").alias("kind"), "item", pl.col("categories").alias("name"))
    rows = pl.concat([brands, categories.explode("name")])
    return rows.filter(pl.col("name").str.strip_chars() != "").unique(maintain_order=True)


def memberships(items: pl.DataFrame, kind: str, names: Sequence[str]) -> csr_array:
    """Say which items belong to which groups; other groups of the items are left out.

    Parameters
    ----------
    items
        As in `item_attributes`; the items are numbered 0, 1, 2, ...
    kind
        ``brand`` or ``category``.
    names
        The groups.

    Returns
    -------
    float32 csr_array of shape (items, groups)
        1 where the item is in the group.
    """
    numbers = {name: number for number, name in enumerate(names)}
    rows = item_attributes(items).filter(pl.col("kind") == kind)
    pairs = [(item, numbers[name]) for item, name in rows.select("item", "name").iter_rows() if name in numbers]
    ones = np.ones(len(pairs), np.float32)
    return csr_array((ones, tuple(np.array(pairs, np.int64).reshape(-1, 2).T)), shape=(len(items), len(names)))
