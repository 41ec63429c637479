"""Brands and categories of the items as rows of one table."""

import polars as pl


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
