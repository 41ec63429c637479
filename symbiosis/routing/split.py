"""Split queries into offline and online training queries and test queries."""

import numpy as np
import polars as pl

SPLITS = ("offline", "online", "test")


def normalised(text: pl.Expr) -> pl.Expr:
    """Return texts without what does not change a prompt: letter case, kinds and runs of blanks, width variants."""
    return text.str.normalize("NFKC").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def assign(queries: pl.DataFrame, test_share: float, online_share: float, seed: int) -> pl.Series:
    """Draw the split of every query, by domain; queries with the same normalised text share a split.

    Within a domain the groups of equal texts stand in random order, and a group goes where its middle falls in
    0..1: first the test share, then the online share of the rest, then offline. So a domain's test queries miss their
    share by less than one group, and large groups are no likelier to fall into one split than small ones.

    Parameters
    ----------
    queries
        Columns ``query_text`` and ``domain``. A group of equal texts in several domains counts in the domain of its
        first query.
    test_share
        Share of all queries.
    online_share
        Share of the training queries (all that are not test queries).
    seed
        Of the random order.

    Returns
    -------
    polars.Series
        ``"offline"``, ``"online"`` or ``"test"``, aligned with `queries`.
    """
    rng = np.random.default_rng(seed)
    rows = queries.select(
        normalised(pl.col("query_text")).rank("dense").alias("group"),
        pl.col("domain"),
        pl.int_range(pl.len()).alias("row"),
    )
    groups = rows.group_by("group").agg(
        pl.col("domain").sort_by("row").first(), pl.col("row").min(), pl.len().alias("size")
    )
    groups = (
        groups.sort("row").with_columns(pl.Series("order", rng.random(groups.height))).sort("domain", "order", "row")
    )
    end = pl.col("size").cum_sum().over("domain")
    middle = (end - pl.col("size") / 2) / pl.col("size").sum().over("domain")
    online_end = test_share + online_share * (1 - test_share)
    split = (
        pl.when(middle < test_share)
        .then(pl.lit("test"))
        .when(middle < online_end)
        .then(pl.lit("online"))
        .otherwise(pl.lit("offline"))
    )
    return rows.join(groups.select("group", split.alias("split")), on="group").sort("row")["split"]
