"""The best items of every user out of all items, ties broken by a seeded random order."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_array
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm

NONE = -1
"""Pads a ranking where a user has fewer candidates than the ranking has places."""

_CELLS = 1 << 20
"""Scores held at once: 4 MiB."""
_CELLS_IN_CACHE = 1 << 17
"""Scores selected from at once: their keys, 1 MiB, stay in the processor's cache, which doubles the speed."""
_EXCLUDED = np.iinfo(np.int64).min
_RING = 1 << 32


def tie_order(n_items: int, seed: int) -> np.ndarray:
    """Draw the random order that decides between equal scores.

    Returns
    -------
    np.ndarray
        int64 (I,), a permutation.
    """
    return np.random.default_rng([seed, 0]).permutation(n_items)


def top_items(
    scores: np.ndarray, excluded: csr_array, depth: int, seed: int, users: np.ndarray | None = None
) -> np.ndarray:
    """Rank the best items of a block of users.

    Equal scores fall in a random order that depends on the seed, the user and the item alone, neither on the item's
    index nor on the block: the items stand in random order on a ring, and every user looks at it from a random point,
    so that each order is uniformly random and no item is favoured over all users.

    Parameters
    ----------
    scores
        float32 (B, I), larger is better.
    excluded
        (B, I); its stored entries are not candidates.
    depth
        Places per user.
    seed
        Seed of the order of ties.
    users
        int (B,), the users' numbers; 0..B-1 if not given.

    Returns
    -------
    np.ndarray
        int32 (B, depth), best first, padded with -1.

    Raises
    ------
    InputError
        A score is not a number.
    ValueError
        Shapes disagree.

    Examples
    --------
    >>> scores = np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.1]], dtype=np.float32)
    >>> excluded = csr_array(np.array([[0, 1, 0], [0, 0, 0]]))
    >>> top_items(scores, excluded, depth=3, seed=0)
    array([[ 2,  0, -1],
           [ 0,  1,  2]], dtype=int32)
    """
    n_users, n_items = scores.shape
    users = np.arange(n_users) if users is None else np.asarray(users)
    if excluded.shape != scores.shape or len(users) != n_users:
        raise ValueError(f"scores {scores.shape}, excluded {excluded.shape} and users ({len(users)},) do not agree")
    order = tie_order(n_items, seed)
    item_at = np.argsort(order).astype(np.int32)
    # The ring is that of 32-bit integers, where addition goes round by itself.
    ring = (np.arange(n_items, dtype=np.uint64) * _RING // n_items).astype(np.uint32)
    on_ring = ring[order]
    # Drawn for all users up to the last, so that a user's turn does not depend on the block.
    turns = np.random.default_rng([seed, 1]).integers(_RING, size=users.max(initial=0) + 1, dtype=np.uint32)[users]

    places = min(depth, n_items)
    ranking = np.full((n_users, depth), NONE, np.int32)
    step = max(1, _CELLS_IN_CACHE // n_items)
    for start in range(0, n_users, step):
        rows = slice(start, min(start + step, n_users))
        keys = _sortable(scores[rows], users[rows])
        keys |= on_ring + turns[rows, None]
        inside = slice(excluded.indptr[rows.start], excluded.indptr[rows.stop])
        lengths = np.diff(excluded.indptr[rows.start : rows.stop + 1])
        keys[np.repeat(np.arange(len(keys)), lengths), excluded.indices[inside]] = _EXCLUDED
        keys.partition(n_items - places, axis=1)
        best = np.sort(keys[:, n_items - places :], axis=1)[:, ::-1]
        back = (best.astype(np.uint32) - turns[rows, None]).astype(np.uint64)
        items = item_at[(back * n_items + (_RING - 1)) // _RING % n_items]
        ranking[rows, :places] = np.where(best == _EXCLUDED, NONE, items)
    return ranking


def _sortable(scores: np.ndarray, users: np.ndarray) -> np.ndarray:
    """Turn float32 scores into int64 keys of the same order, their lower 32 bits free for the tie."""
    if np.isnan(scores.min(initial=0)):  # a minimum lets NaN through
        row, item = np.argwhere(np.isnan(scores))[0]
        raise InputError(
            f"user {users[row]}: the score of item {item} is not a number: the model has diverged; "
            "lower its learning rate"
        )
    # Adding 0 makes the two zeros one score.
    bits = np.add(scores, 0, dtype=np.float32, order="C").view(np.int32)
    bits ^= (bits >> 31) & np.int32(0x7FFFFFFF)
    keys = bits.astype(np.int64)
    keys <<= 32
    return keys


def rank_all(
    scores: Callable[[np.ndarray], np.ndarray],
    excluded: csr_array,
    depth: int,
    seed: int,
    users: np.ndarray | None = None,
    label: str | None = None,
) -> np.ndarray:
    """Rank all items for many users, a memory-bounded block of users at a time.

    Parameters
    ----------
    scores
        Gives float32 (B, I) for int64 user numbers (B,).
    excluded
        (U, I); its stored entries are not candidates.
    depth, seed
        As in `top_items`.
    users
        The users to rank for; all if not given.
    label
        Text of the progress bar; none is shown without it.

    Returns
    -------
    np.ndarray
        int32 (len(users), depth), best first, padded with -1.
    """
    n_users, n_items = excluded.shape
    users = np.arange(n_users) if users is None else np.asarray(users)
    ranking = np.empty((len(users), depth), np.int32)
    block = max(1, _CELLS // n_items)
    with tqdm(total=len(users), desc=label, unit="user", leave=False, disable=label is None) as bar:
        for start in range(0, len(users), block):
            part = users[start : start + block]
            ranking[start : start + block] = top_items(scores(part), excluded[part], depth, seed, part)
            bar.update(len(part))
    return ranking


def without(ranking: np.ndarray, excluded: csr_array, depth: int) -> np.ndarray:
    """Drop further items from a ranking and move the rest up.

    Parameters
    ----------
    ranking
        int32 (U, D), padded with -1.
    excluded
        (U, I); its stored entries are dropped.
    depth
        Places kept, at most D.

    Returns
    -------
    np.ndarray
        int32 (U, depth), padded with -1.

    Examples
    --------
    >>> without(np.array([[4, 2, 0, 1]]), csr_array(np.array([[0, 0, 1, 0, 0]])), depth=3)
    array([[4, 0, 1]])
    """
    users = np.repeat(np.arange(len(ranking)), np.diff(excluded.indptr))
    kept = ranking.copy()
    dropped = ranking[users] == excluded.indices[:, None]
    entries, places = np.nonzero(dropped)
    kept[users[entries], places] = NONE
    order = np.argsort(kept == NONE, axis=1, kind="stable")
    return np.take_along_axis(kept, order, axis=1)[:, :depth]


def read_ranking(path: Path | str, excluded: csr_array, depth: int) -> np.ndarray:
    """Read a ranking written by the stage `baseline` and check that it can be one.

    Parameters
    ----------
    path
        ``ranking.npy``.
    excluded
        (U, I) training matrix: none of its entries may be ranked.
    depth
        Places that are needed at least.

    Raises
    ------
    InputError
        The file is missing or damaged, or its users, items or depth do not fit the data.
    """
    ranking = read_array(path)
    n_users, n_items = excluded.shape
    fault = None
    if ranking.dtype != np.int32 or ranking.ndim != 2:
        fault = f"it holds {ranking.dtype} of shape {ranking.shape}, not int32 (users, places)"
    elif len(ranking) != n_users:
        fault = f"it ranks for {len(ranking)} users, the data has {n_users}"
    elif ranking.shape[1] < depth:
        fault = f"it has {ranking.shape[1]} places per user, {depth} are needed"
    elif ranking.size and (ranking.min() < NONE or ranking.max() >= n_items):
        fault = f"it names items outside 0..{n_items - 1}"
    else:
        ascending = np.sort(ranking, axis=1)
        taken = np.diff(excluded.indptr)
        users = np.repeat(np.arange(n_users), taken)
        filled = np.minimum(ranking.shape[1], n_items - taken)
        if ((ranking != NONE) != (np.arange(ranking.shape[1]) < filled[:, None])).any():
            fault = "it leaves out items for some user"
        elif ((ascending[:, 1:] == ascending[:, :-1]) & (ascending[:, 1:] != NONE)).any():
            fault = "it names an item twice for one user"
        elif (ranking[users] == excluded.indices[:, None]).any():
            fault = "it names a training item of the user"
    if fault:
        raise InputError(f"{path}: {fault}: run `dvc repro baseline` again")
    return ranking


def strongest(group: np.ndarray, strength: np.ndarray, count: int, ties: np.ndarray) -> np.ndarray:
    """Find the strongest entries of every group.

    Parameters
    ----------
    group
        int (N,), numbers from 0.
    strength
        float (N,).
    count
        Entries kept per group.
    ties
        int (N,): of entries of equal strength the larger number stays.

    Returns
    -------
    np.ndarray
        int64, indices of the kept entries, ordered by group and, within a group, from the strongest.

    Examples
    --------
    >>> strongest(np.array([0, 0, 1, 0]), np.array([0.1, 0.3, 0.2, 0.3]), count=2, ties=np.array([0, 1, 2, 3]))
    array([3, 1, 2])
    """
    order = np.lexsort((-ties, -strength, group))
    lengths = np.bincount(group)
    first = np.cumsum(lengths) - lengths
    place = np.arange(len(order)) - np.repeat(first, lengths)
    return order[place < count]
