"""The split of every user's interactions into training, validation and test.

That of arXiv 2402.09617 is random, 80/10/10 per user; a temporal one is an option, and items may be held out whole.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from symbiosis.reviews.interactions import Interactions
from symbiosis.reviews.params import CleanParams

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}

_SPLIT, _COLD = 2, 3  # random streams; those of the numbering are 0 and 1


def split(interactions: Interactions, params: CleanParams) -> Interactions:
    """Assign every interaction to training, validation or test.

    Items drawn to be cold have all their interactions in the test part.

    Parameters
    ----------
    interactions
        As `symbiosis.reviews.interactions.number` gives them: equal times stand in the order of the file, not of the
        items, which the split must not depend on.
    params
        Seed, kind of split and shares.

    Returns
    -------
    Interactions
        With ``part``; sorted by user, timestamp, item.
    """
    edges, n_items = interactions.edges, interactions.items.height
    counts = np.bincount(edges["user"].to_numpy(), minlength=interactions.users.height)
    cold = np.random.default_rng([params.seed, _COLD]).random(n_items) < params.cold_item_share
    part = np.where(cold[edges["item"].to_numpy()], TEST, parts_of(counts, params)).astype(np.uint8)
    edges = edges.with_columns(pl.Series("part", part)).sort("user", "timestamp", "item")
    return replace(interactions, edges=edges)


def parts_of(counts: np.ndarray, params: CleanParams) -> np.ndarray:
    """Assign every interaction to training, validation or test.

    The assignment depends on the seed, the user's number and the position among the user's interactions alone, never
    on which items these are, so what is held out leaves no trace in what is trained on.

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


def split_sizes(counts: np.ndarray, share: float) -> np.ndarray:
    """Return how many of each user's interactions are held out: ``max(1, floor(share * count))``."""
    # The small term keeps products such as 0.29 * 100, just below a whole number in binary, at that number.
    return np.maximum(1, np.floor(share * counts + 1e-9).astype(np.int64))


def graph_edges(edges: pl.DataFrame, which: str) -> pl.DataFrame:
    """Select the edges of the graph, ``user`` and ``item``: those of the training part or, as a warning, all.

    The published code builds its graph from all splits, test included (docs/methods.md, section 1.11, F8).
    """
    seen = edges if which == "all" else edges.filter(pl.col("part") == TRAIN)
    return seen.select("user", "item")
