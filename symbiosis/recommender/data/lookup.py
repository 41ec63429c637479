"""Finding items by words of their titles and users by the beginning of their ids, as people type them."""

import numpy as np
import polars as pl


def find_items(items: pl.DataFrame, query: str, count: int, popularity: np.ndarray) -> list[int]:
    """Return the items that a query names.

    Parameters
    ----------
    items
        ``item_id`` and ``title``, one row an item, in order.
    query
        Words, each of which the title must hold, in any case; or an item's id.
    count
        Items at most.
    popularity
        Shape (I,): of two items that fit the more popular one comes first.

    Returns
    -------
    list of int
        Numbers of the items: that of this id, those whose title begins with the query, the others.
    """
    words = query.casefold().split()
    if not words:
        return []
    title = pl.col("title").fill_null("").str.to_lowercase()
    is_id = pl.col("item_id").str.to_lowercase() == " ".join(words)
    fits = pl.all_horizontal(title.str.contains(word, literal=True) for word in words)
    found = (
        items.lazy()
        .select("item_id", "title")
        .with_columns(item=pl.int_range(pl.len()), popularity=pl.Series(popularity))
        .filter(is_id | fits)
        .with_columns(is_id=is_id, begins=title.str.starts_with(" ".join(words)))
        .sort("is_id", "begins", "popularity", "item", descending=[True, True, True, False])
        .head(count)
        .collect()
    )
    return found["item"].to_list()


def users_beginning_with(users: pl.DataFrame, prefix: str, count: int) -> list[str]:
    """Return the first ids of users that begin with a text, in their order as texts.

    Parameters
    ----------
    users
        Column ``user_id``.
    prefix
        In the case of the ids; empty: any.
    count
        Ids at most.
    """
    return users["user_id"].filter(users["user_id"].str.starts_with(prefix)).sort().head(count).to_list()
