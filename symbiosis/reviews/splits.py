"""The split of the interactions into training, validation and test.

That of arXiv 2402.09617 is random, 80/10/10 per user; a temporal one is an option, by user or at two times for all
users; a published one is taken as it is; and items may be held out whole.
"""

from dataclasses import replace

import numpy as np
import polars as pl

from symbiosis.core.errors import InputError
from symbiosis.reviews.interactions import Interactions
from symbiosis.reviews.params import CleanParams

TRAIN, VALIDATION, TEST = 0, 1, 2
PARTS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
PUBLISHED_TIMES = (1_628_643_414_042, 1_658_002_729_837)
"""Milliseconds: where validation and test begin in the benchmarks of Amazon Reviews 2023 (Hou et al. 2024, Bridging
language and items for retrieval and recommendation, arXiv 2403.03952; `timestamp_split.py` of its repository)."""

_SPLIT, _COLD = 2, 3  # random streams; those of the numbering are 0 and 1


def split(interactions: Interactions, params: CleanParams, per_second: int = 1) -> Interactions:
    """Assign every interaction to training, validation or test.

    Items drawn to be cold have all their interactions in the test part.

    Parameters
    ----------
    interactions
        As `symbiosis.reviews.interactions.number` gives them: equal times stand in the order of the file, not of the
        items, which the split must not depend on.
    params
        Seed, kind of split, and shares or times.
    per_second
        Unit of the timestamps.

    Returns
    -------
    Interactions
        With ``part``; sorted by user, timestamp, item.

    Raises
    ------
    InputError
        The two times leave a part empty.
    """
    edges = interactions.edges
    splitter = Splitter(params, interactions.items.height, edges["timestamp"].to_numpy(), per_second)
    return replace(interactions, edges=splitter(edges))


class Splitter:
    """Assigns interactions to the parts, of all users at once or of some after others, with the same result.

    Parameters
    ----------
    params
        Seed, kind of split, and shares or times.
    n_items
        Number of items.
    times
        Of all interactions, in any order; read if the split is ``timestamp``.
    per_second
        Unit of the times.

    Raises
    ------
    InputError
        The two times leave a part empty.
    """

    def __init__(self, params: CleanParams, n_items: int, times: np.ndarray, per_second: int = 1) -> None:
        self._params = params
        self._cold = np.random.default_rng([params.seed, _COLD]).random(n_items) < params.cold_item_share
        self._rng = np.random.default_rng([params.seed, _SPLIT])
        self._bounds = time_bounds(times, params, per_second) if params.split == "timestamp" else None

    def __call__(self, edges: pl.DataFrame) -> pl.DataFrame:
        """Add ``part`` and sort by user, timestamp and item.

        Parameters
        ----------
        edges
            All interactions of some users, sorted by user and time. With several calls the users ascend from call to
            call.
        """
        if self._params.split == "published":
            given = edges["part"].to_numpy()
        elif self._bounds:
            given = _between(edges["timestamp"].to_numpy(), *self._bounds)
        else:
            users = edges["user"].to_numpy()
            given = parts_of(np.bincount(users - users[0]), self._params, self._rng)
        part = np.where(self._cold[edges["item"].to_numpy()], TEST, given).astype(np.uint8)
        return edges.with_columns(pl.Series("part", part)).sort("user", "timestamp", "item")


def parts_of(counts: np.ndarray, params: CleanParams, rng: np.random.Generator | None = None) -> np.ndarray:
    """Assign every interaction to training, validation or test.

    The assignment depends on the seed, the user's number and the position among the user's interactions alone, never
    on which items these are, so what is held out leaves no trace in what is trained on.

    Parameters
    ----------
    counts
        Shape (users,): interactions of each user, at least 3, or 0.
    params
        ``split``: ``random`` draws the held-out positions, ``temporal`` takes a user's last ones for test and those
        before them for validation, ``last_out`` one of each; and the shares.
    rng
        Draws the positions; one of the seed if not given. It goes on from users to later ones.

    Returns
    -------
    ndarray of uint8
        Shape (interactions,), in the order of users and, within a user, of time.
    """
    total = int(counts.sum())
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    position = np.arange(total) - starts  # 0 = the user's earliest
    if params.split == "random":
        rng = np.random.default_rng([params.seed, _SPLIT]) if rng is None else rng
        keys = rng.random(total)
        order = np.lexsort((keys, starts))
        shuffled = np.empty(total, dtype=np.int64)
        shuffled[order] = position
        position = shuffled
    from_end = np.repeat(counts, counts) - position  # 1 = the last
    if params.split == "last_out":
        return np.select([from_end == 1, from_end == 2], [TEST, VALIDATION], TRAIN).astype(np.uint8)
    test = np.repeat(split_sizes(counts, params.test_share), counts)
    validation = np.repeat(split_sizes(counts, params.validation_share), counts)
    return np.select([from_end <= test, from_end <= test + validation], [TEST, VALIDATION], TRAIN).astype(np.uint8)


def is_last_out(edges: pl.DataFrame) -> bool:
    """Tell whether every user has one test item, the last of all, and one validation item, the last before it.

    Parameters
    ----------
    edges
        ``user``, ``timestamp``, ``part``, in any order.
    """
    of_part = [pl.col("timestamp").filter(pl.col("part") == part) for part in (TRAIN, VALIDATION, TEST)]
    train, validation, test = of_part
    users = edges.group_by("user").agg(
        one=(validation.len() == 1) & (test.len() == 1),
        later=(train.max().fill_null(0) <= validation.min()) & (validation.max() <= test.min()),
    )
    return bool(users["one"].all() and users["later"].all())


def time_bounds(times: np.ndarray, params: CleanParams, per_second: int) -> tuple[int, int]:
    """Return the times from which on interactions are validation and test, the same for all users.

    So nothing that is trained on is later than anything held out. A user may be missing in any part.

    Parameters
    ----------
    times
        Int, shape (interactions,), in any order.
    params
        ``times``: two times in milliseconds, ``published`` for those of Amazon Reviews 2023, or ``shares`` for the
        times from which on ``test_share`` of all interactions lie, and ``validation_share`` before them. Equal times
        stay together, in the later part.
    per_second
        Unit of `times`.

    Returns
    -------
    tuple of int
        In the unit of `times`.

    Raises
    ------
    InputError
        A part is empty.
    """
    if params.times == "shares":
        test_from = _last(times, params.test_share, len(times))
        validation_from = _last(times[times < test_from], params.validation_share, len(times))
        told = validation_from, test_from
    else:
        told = PUBLISHED_TIMES if params.times == "published" else params.times
        # The first whole unit that is not earlier: a time in seconds must not be rounded to the other side.
        unit = 1000 // per_second
        validation_from, test_from = (-(-time // unit) for time in told)
    parts = _between(times, validation_from, test_from)
    for name, part in PARTS.items():
        if not (parts == part).any():
            unit = 1000 // per_second
            reach = f", which reach from {times.min() * unit} to {times.max() * unit} ms"
            raise InputError(
                f"clean.split: timestamp leaves no interaction for {name} between the times {told[0]} and "
                f"{told[1]}{'' if params.times == 'shares' else reach}: set `clean.times` to shares, or to two times "
                "in milliseconds between these"
            )
    return validation_from, test_from


def _between(times: np.ndarray, validation_from: int, test_from: int) -> np.ndarray:
    return np.select([times >= test_from, times >= validation_from], [TEST, VALIDATION], TRAIN).astype(np.uint8)


def _last(times: np.ndarray, share: float, total: int) -> int:
    """Return the time from which on the last ``share * total`` lie; 0 if there are not so many."""
    count = max(1, int(share * total + 1e-9))
    return int(np.sort(times)[-count]) if count <= len(times) else 0


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
