"""Items without any training interaction: does a method rank those that a user took above those that he did not?

Nothing but their texts (and brand and category in the graph) tells such items apart, so chance is the level to beat.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.metrics.metrics import recall
from symbiosis.recommender.metrics.ranking import top_items

NEAR, FAR = 5, 100
"""Places looked at among cold items only, and among all items."""

_CELLS = 1 << 26
"""Scores held at once: 256 MiB."""

Scores = Callable[[np.ndarray], np.ndarray]


def content_scores(texts: np.ndarray, train: csr_array) -> Scores:
    """Score items by their texts alone: the product with the mean text vector of the user's training items.

    Parameters
    ----------
    texts
        float32 (I, D), rows of length 1 or zero.
    train
        (U, I).

    Returns
    -------
    callable
        Gives float32 (B, I) for int64 user numbers (B,).
    """

    def scores(users: np.ndarray) -> np.ndarray:
        rows = train[users]
        profile = (rows @ texts) / np.maximum(1, np.diff(rows.indptr))[:, None]
        return np.asarray(profile @ texts.T, dtype=np.float32)

    return scores


def cold_items(methods: Mapping[str, Scores], train: csr_array, test: csr_array, samples: int, seed: int) -> Any:
    """Measure methods on the users who have cold test items.

    ``auc``: of all pairs of a cold item that the user took and one that he did not, the share in which the former
    scores higher, ties counting half; ``recall@5 among cold items`` with these as the only candidates;
    ``recall@100 among all items`` but the user's training items, the cold ones being what is looked for.

    Parameters
    ----------
    methods
        Scores of all items by name of the method.
    train, test
        (U, I), disjoint.
    samples, seed
        Of the bootstrap over users, which is the same for all methods.

    Returns
    -------
    dict or None
        ``users``, ``items`` (cold ones that stand in the test), ``chance`` (what a random order would give) and
        ``methods``, each measure with mean and 95 % interval; None if no user has a cold test item, or no cold item
        is left that he did not take.
    """
    cold = np.bincount(train.indices, minlength=train.shape[1]) == 0
    among = np.flatnonzero(cold)
    wanted = csr_array(test[:, among])
    users = np.flatnonzero((np.diff(wanted.indptr) > 0) & (np.diff(wanted.indptr) < len(among)))
    if not len(users):
        return None
    wanted = wanted[users]
    everywhere = csr_array((wanted.data, among[wanted.indices], wanted.indptr), shape=(len(users), train.shape[1]))
    nothing = csr_array(wanted.shape, dtype=np.float32)
    taken = train[users]
    measured = {}
    step = max(1, _CELLS // train.shape[1])
    for name, scores in methods.items():
        blocks = []
        for start in range(0, len(users), step):
            rows = slice(start, start + step)
            table, block = scores(users[rows]), users[rows]
            near = top_items(table[:, among], nothing[rows], NEAR, seed, block)
            far = top_items(table, taken[rows], FAR, seed, block)
            blocks.append(
                [
                    auc(table[:, among], wanted[rows]),
                    recall(near, wanted[rows], NEAR),
                    recall(far, everywhere[rows], FAR),
                ]
            )
        measured[name] = [np.concatenate(values) for values in zip(*blocks, strict=True)]
    columns = np.stack([column for values in measured.values() for column in values], axis=1)
    numbers = means_with_intervals(columns, samples, seed)
    names = ("auc", f"recall@{NEAR} among cold items", f"recall@{FAR} among all items")
    sizes, candidates = np.diff(wanted.indptr), train.shape[1] - np.diff(taken.indptr)
    chance = (
        0.5,
        float(np.mean(_by_chance(NEAR, sizes, np.full(len(users), len(among))))),
        float(np.mean(_by_chance(FAR, sizes, candidates))),
    )
    return {
        "users": len(users),
        "items": len(np.unique(wanted.indices)),
        "candidates": len(among),
        "chance": {name: round(value, 5) for name, value in zip(names, chance, strict=True)},
        "methods": {
            method: dict(zip(names, numbers[3 * i : 3 * i + 3], strict=True)) for i, method in enumerate(measured)
        },
    }


def _by_chance(k: int, wanted: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Expected Recall@k of a random order: ``k / N`` of the T wanted are hit, divided by ``min(k, T)``."""
    hit: np.ndarray = wanted * np.minimum(1.0, k / candidates) / np.minimum(k, wanted)
    return hit


def auc(scores: np.ndarray, wanted: csr_array) -> np.ndarray:
    """Area under the ROC curve of every row, float64 (rows,).

    Parameters
    ----------
    scores
        float32 (rows, items).
    wanted
        (rows, items); the stored entries of a row must score above the others. There are some of both in every row.
    """
    result = np.empty(len(scores))
    for row, values in enumerate(scores):
        inside = np.zeros(len(values), bool)
        inside[wanted.indices[wanted.indptr[row] : wanted.indptr[row + 1]]] = True
        others = np.sort(values[~inside])
        below, upto = (np.searchsorted(others, values[inside], side=side) for side in ("left", "right"))
        result[row] = (below + upto).mean() / (2 * len(others))
    return result
