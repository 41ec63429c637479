"""Reviews to interactions: rating filter, repeated pairs, k-core, numbering and the split per user.

The protocol is that of arXiv 2402.09617 (ratings 4 and 5, 5-core, 80/10/10 random split per user) with two of its
leaks closed: a repeated (user, item) pair counts once, so that it cannot lie in training and test at the same time,
and item numbers are a random permutation that knows nothing of the split.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl

from symbiosis.reviews.params import CleanParams

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

_PERMUTE_USERS, _PERMUTE_ITEMS, _SPLIT, _COLD = range(4)  # one random stream each


@dataclass(frozen=True)
class Interactions:
    """The interactions that training and evaluation see.

    Attributes
    ----------
    users
        ``user`` u32 (the row number), ``user_id``.
    items
        ``item`` u32 (the row number), ``item_id``.
    edges
        ``user``, ``item``, ``rating`` f32 or null, ``timestamp`` i64, ``review`` or null, ``part`` u8 (`TRAIN`,
        `VALIDATION`, `TEST`); sorted by user, timestamp, item; every pair once.
    """

    users: pl.DataFrame
    items: pl.DataFrame
    edges: pl.DataFrame


def positives(reviews: pl.DataFrame, minimum_rating: float) -> pl.DataFrame:
    """Keep reviews of at least `minimum_rating` stars, and those without a rating."""
    return reviews.filter(pl.col("rating").is_null() | (pl.col("rating") >= minimum_rating))


def first_of_pairs(reviews: pl.DataFrame) -> pl.DataFrame:
    """Keep the earliest review of every (user, item) pair, in the order of the file; of equal times the first line.

    The earliest, because a purchase is told by the first of them, and because later ones often only amend it.
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


def split_sizes(counts: np.ndarray, share: float) -> np.ndarray:
    """Return how many of each user's interactions are held out: ``max(1, floor(share * count))``."""
    # The small term keeps products such as 0.29 * 100, just below a whole number in binary, at that number.
    return np.maximum(1, np.floor(share * counts + 1e-9).astype(np.int64))


def split(counts: np.ndarray, params: CleanParams) -> np.ndarray:
    """Assign every interaction to training, validation or test.

    The assignment depends on the seed, the user's number and the position among his interactions alone, never on
    which items these are: what is held out therefore leaves no trace in what is trained on.

    Parameters
    ----------
    counts
        Shape (users,): interactions of each user, at least 3.
    params
        ``split``: ``random`` draws the held-out positions, ``temporal`` takes a user's last ones for test and those
        before them for validation; and the shares.

    Returns
    -------
    ndarray of uint8
        Shape (interactions,), in the order of users and, within a user, of time.
    """
    total = int(counts.sum())
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    position = np.arange(total) - starts  # 0 = the user's earliest
    if params.split == "random":
        keys = np.random.default_rng([params.seed, _SPLIT]).random(total)
        order = np.lexsort((keys, starts))
        shuffled = np.empty(total, dtype=np.int64)
        shuffled[order] = position
        position = shuffled
    from_end = np.repeat(counts, counts) - position  # 1 = the last
    test = np.repeat(split_sizes(counts, params.test_share), counts)
    validation = np.repeat(split_sizes(counts, params.validation_share), counts)
    return np.select([from_end <= test, from_end <= test + validation], [TEST, VALIDATION], TRAIN).astype(np.uint8)


def number(reviews: pl.DataFrame, params: CleanParams) -> Interactions:
    """Give users and items their numbers, both random by the seed, and split.

    Numbers permute the sorted ids: they depend on which users and items there are and on nothing else. Items that shall
    be cold are drawn among all; their interactions are test, whatever part they would have been in.

    Parameters
    ----------
    reviews
        After `core_of`.
    params
        Seed and split.
    """
    users = _numbered(reviews["user_id"], "user", [params.seed, _PERMUTE_USERS])
    items = _numbered(reviews["item_id"], "item", [params.seed, _PERMUTE_ITEMS])
    # Equal times stand in the order of the file, not of the items: `split` must not see these.
    edges = reviews.join(users, on="user_id").join(items, on="item_id").sort("user", "timestamp", "line")
    counts = np.bincount(edges["user"].to_numpy(), minlength=users.height)
    cold = np.random.default_rng([params.seed, _COLD]).random(items.height) < params.cold_item_share
    part = np.where(cold[edges["item"].to_numpy()], TEST, split(counts, params)).astype(np.uint8)
    edges = edges.with_columns(pl.Series("part", part))
    columns = ["user", "item", "rating", "timestamp", "review", "part"]
    return Interactions(users, items, edges.select(columns).sort("user", "timestamp", "item"))


def graph_edges(edges: pl.DataFrame, which: str) -> pl.DataFrame:
    """Choose what the graph is made of: ``user``, ``item`` of the training edges or, as a warning, of all.

    The published code builds its graph from all splits, test included (specification, F8).
    """
    seen = edges if which == "all" else edges.filter(pl.col("part") == TRAIN)
    return seen.select("user", "item")


def _numbered(ids: pl.Series, name: str, seed: list[int]) -> pl.DataFrame:
    distinct = ids.unique().sort()
    order = np.random.default_rng(seed).permutation(len(distinct))
    numbers = pl.Series(name, np.arange(len(distinct), dtype=np.uint32))
    return pl.DataFrame([numbers, distinct.gather(order).alias(f"{name}_id")])
