"""Reviews to interactions: rating filter, repeated pairs, k-core and numbering; `symbiosis.reviews.splits` splits them.

The protocol is that of arXiv 2402.09617 (ratings 4 and 5, 5-core) with two of its leaks closed: a repeated (user, item)
pair counts once, so that it cannot lie in training and test at the same time, and item numbers are a random
permutation that does not depend on the split.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

_STREAMS = {"user": 0, "item": 1}  # random streams; those of the split are 2 and 3


@dataclass(frozen=True)
class Interactions:
    """Users, items and interactions after all filters.

    Attributes
    ----------
    users
        ``user`` u32 (the row number), ``user_id``.
    items
        ``item`` u32 (the row number), ``item_id``.
    edges
        ``user``, ``item``, ``rating`` f32 or null, ``timestamp`` i64, ``review`` or null and, once split, ``part`` u8
        (see `symbiosis.reviews.splits.PARTS`); sorted by user and timestamp; every pair once.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    edges: pl.DataFrame


def positives(reviews: pl.DataFrame, minimum_rating: float) -> pl.DataFrame:
    """Keep reviews of at least `minimum_rating` stars, and those without a rating."""
    return reviews.filter(pl.col("rating").is_null() | (pl.col("rating") >= minimum_rating))


def first_of_pairs(reviews: pl.DataFrame) -> pl.DataFrame:
    """Keep the earliest review of every (user, item) pair, in the order of the file; of equal times the first line.

    The earliest, because the first review marks the purchase, and later ones often only amend it.
    """
    order = ["user_id", "item_id", "timestamp", "line"]
    return reviews.sort(order).unique(["user_id", "item_id"], keep="first", maintain_order=True).sort("line")


def k_core(users: np.ndarray, items: np.ndarray, core: int) -> np.ndarray:
    """Find the largest set of edges in which every user and every item has at least `core` of them.

    Parameters
    ----------
    users, items
        Shape (edges,), numbers from 0.
    core
        Smallest degree.

    Returns
    -------
    ndarray of bool
        Shape (edges,): which edges stay.
    """
    kept = np.ones(len(users), dtype=bool)
    while True:
        of_user, of_item = np.bincount(users, weights=kept), np.bincount(items, weights=kept)
        stays = kept & (of_user[users] >= core) & (of_item[items] >= core)
        if np.array_equal(stays, kept):
            return kept
        kept = stays


def core_of(reviews: pl.DataFrame, core: int) -> pl.DataFrame:
    """Apply `k_core` to reviews."""
    codes = [(reviews[name].rank("dense") - 1).to_numpy() for name in ("user_id", "item_id")]
    return reviews.filter(pl.Series(k_core(codes[0], codes[1], core)))


def number(reviews: pl.DataFrame, seed: int) -> Interactions:
    """Number users and items from 0, both in random order.

    Numbers permute the sorted ids: they depend on which users and items there are and on nothing else.

    Parameters
    ----------
    reviews
        After `core_of`.
    seed
        Of both permutations.

    Returns
    -------
    Interactions
        Without ``part``, which `symbiosis.reviews.splits.split` adds; equal times in the order of the file.
    """
    users = numbered(reviews["user_id"], "user", seed)
    items = numbered(reviews["item_id"], "item", seed)
    return Interactions(users, items, ordered(reviews.join(users, on="user_id").join(items, on="item_id")))


def numbered(ids: pl.Series, name: str, seed: int) -> pl.DataFrame:
    """Number ids from 0 in random order.

    Parameters
    ----------
    ids
        Some may occur several times.
    name
        ``user`` or ``item``.
    seed
        Of the permutation.

    Returns
    -------
    polars.DataFrame
        The columns NAME, u32, the row number, and NAME_id.
    """
    distinct = ids.unique().sort()
    order = np.random.default_rng([seed, _STREAMS[name]]).permutation(len(distinct))
    numbers = pl.Series(name, np.arange(len(distinct), dtype=np.uint32))
    return pl.DataFrame([numbers, distinct.gather(order).alias(f"{name}_id")])


def ordered(reviews: pl.DataFrame) -> pl.DataFrame:
    """Sort numbered reviews by user and time, equal times in the order of the file; the columns of `Interactions`."""
    given = ["part"] if "part" in reviews.columns else []  # of a published split
    return reviews.sort("user", "timestamp", "line").select("user", "item", "rating", "timestamp", "review", *given)
