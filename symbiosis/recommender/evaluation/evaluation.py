"""One evaluator for every method: metrics with intervals, paired differences, coverage and slices."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS, Protocol, recall
from symbiosis.recommender.metrics.ranking import NONE

MODEL = "recommender"
"""The language model's name among the methods."""
WITHOUT_RERANKING = "recommender without re-ranking"
"""The same as it ranks at first."""

SLICE_DEPTH = 20
_DIGITS = 5

Rankings = dict[str, np.ndarray]
UserMetrics = dict[str, dict[str, np.ndarray]]
"""Every metric of every user, float64 (U,), by method and name of the metric."""


def check_measurable(model: Path | str) -> None:
    """Refuse a model that has learned from held-out interactions, as the final fit may have.

    Parameters
    ----------
    model
        The folder ``models/finetune`` of the pipeline, or of a folder that serves.

    Raises
    ------
    InputError
        Its file ``training.json`` is missing or damaged, or says that it has.
    """
    if read_json(Path(model) / "training.json").get("data", "train") != "train":
        raise InputError(
            f"{model} was fitted to the held-out interactions too (`final_fit.data: all`): no measure of it would "
            "mean anything; measure the model of the stage `finetune`"
        )


def measure(rankings: Rankings, test: csr_array, protocol: Protocol = HELD_OUT_SETS) -> UserMetrics:
    """Compute every metric of every user for all methods; NaN for a user without test items."""
    return {name: protocol.per_user(ranking, test) for name, ranking in rankings.items()}


def evaluate(
    rankings: Rankings,
    measured: UserMetrics,
    train: csr_array,
    test: csr_array,
    samples: int,
    seed: int,
    protocol: Protocol = HELD_OUT_SETS,
) -> dict[str, Any]:
    """Summarise all methods on the same users: means, intervals, paired differences, coverage and slices.

    Parameters
    ----------
    rankings
        int32 (U, depth) per method, best first, padded with -1: `MODEL` and the baselines.
    measured
        Their metrics, see `measure`.
    train, test
        (U, I), disjoint.
    samples
        Bootstrap samples of the users.
    seed
        Seed of these samples.
    protocol
        Whose metrics were measured.

    Returns
    -------
    dict
        ``recommender`` and ``baselines``: every metric's mean over the users that have test items and the bounds of
        its 95 % interval, and the coverage (share of all items that stand among the first 20 of some user);
        ``difference``: every method minus the strongest baseline, user by user, with interval; ``gain``: likewise the
        recommender minus every baseline; ``slices``. Rounded to 5 digits.
    """
    users = np.flatnonzero(np.diff(test.indptr))
    methods = list(rankings)
    values = {
        name: np.stack([metric[users] for metric in metrics.values()], axis=1) for name, metrics in measured.items()
    }
    others = [name for name in methods if name != MODEL]
    names = list(protocol.metrics)
    level = {name: protocol.score(dict(zip(names, values[name].mean(axis=0), strict=True))) for name in others}
    rivals = [name for name in others if name != WITHOUT_RERANKING] or others
    strongest = max(rivals, key=lambda name: level[name])
    parts = {
        **values,
        **{f"{name} difference": values[name] - values[strongest] for name in methods},
        **{f"{name} gain": values[MODEL] - values[name] for name in others},
    }
    # All columns in one call: every method is measured on the same resampled users.
    columns = np.concatenate(list(parts.values()), axis=1)
    intervals = means_with_intervals(columns, samples, seed, _DIGITS)
    width = len(names)
    table = {
        name: dict(zip(names, intervals[i * width : (i + 1) * width], strict=True)) for i, name in enumerate(parts)
    }
    n_items = test.shape[1]
    summaries = {
        name: table[name] | {f"coverage@{SLICE_DEPTH}": coverage(rankings[name], n_items, SLICE_DEPTH)}
        for name in methods
    }
    return {
        MODEL: summaries[MODEL],
        "baselines": {name: summaries[name] for name in others},
        "difference": {
            "to": strongest,
            MODEL: table[f"{MODEL} difference"],
            "baselines": {name: table[f"{name} difference"] for name in others if name != strongest},
        },
        "gain": {name: table[f"{name} gain"] for name in others},
        "slices": slices(rankings, train, test),
        "data": population(train, test),
    }


def population(train: csr_array, test: csr_array) -> dict[str, int]:
    """Count users, items and interactions; the matrices are (U, I)."""
    return {
        "users": train.shape[0],
        "items": train.shape[1],
        "training interactions": train.nnz,
        "test interactions": test.nnz,
        "evaluated users": int((np.diff(test.indptr) > 0).sum()),
    }


def held_out_edges(graph: csr_array, *held_out: csr_array) -> int:
    """Count held-out interactions among the edges of the graph that was trained with; all matrices are (U, I)."""
    return sum(int(graph.multiply(part).nnz) for part in held_out)


def coverage(ranking: np.ndarray, n_items: int, k: int) -> float:
    """Share of all items that stand among the first k of at least one user."""
    shown = np.unique(ranking[:, :k])
    return round(float((shown != NONE).sum() / n_items), _DIGITS)


def slices(rankings: Rankings, train: csr_array, test: csr_array) -> dict[str, dict[str, dict[str, Any]]]:
    """Recall@20 of parts of the test.

    ``history``: thirds of the users by their number of training items. ``popularity``: the test items that are the
    head (the most taken items, which together hold a third of the training interactions), middle, tail, or cold
    (not in training at all); a user counts where one of his test items belongs.

    Returns
    -------
    dict
        Kind of slice, slice, then ``users`` and one recall per method; empty slices are left out.
    """
    parts: dict[str, dict[str, csr_array]] = {"history": {}, "popularity": {}}
    lengths = np.diff(train.indptr)
    evaluated = np.diff(test.indptr) > 0
    third = thirds(lengths, evaluated)
    for i in np.unique(third[evaluated]):
        users = evaluated & (third == i)
        low, high = lengths[users].min(), lengths[users].max()
        name = f"{low} training items" if low == high else f"{low} to {high} training items"
        parts["history"][name] = restricted(test, users, None)
    counts = np.bincount(train.indices, minlength=train.shape[1])
    third = thirds(-counts, counts)
    for i, name in enumerate(["head items", "middle items", "tail items"]):
        parts["popularity"][name] = restricted(test, None, (third == i) & (counts > 0))
    parts["popularity"]["cold items"] = restricted(test, None, counts == 0)
    return {
        kind: {
            name: {"users": int((np.diff(held_out.indptr) > 0).sum())}
            | {
                method: round(float(np.nanmean(recall(ranking, held_out, SLICE_DEPTH))), _DIGITS)
                for method, ranking in rankings.items()
            }
            for name, held_out in by_name.items()
            if held_out.nnz
        }
        for kind, by_name in parts.items()
    }


def thirds(level: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Split things, ordered by level, into three parts of about the same mass; equal levels stay together.

    Parameters
    ----------
    level
        (N,), what orders them.
    mass
        (N,), not negative.

    Returns
    -------
    np.ndarray
        int64 (N,): 0, 1 or 2, the third in which the mass of all smaller levels ends.

    Examples
    --------
    Items from the most to the least taken:

    >>> counts = np.array([4, 2, 2, 1, 1, 1, 1])
    >>> thirds(-counts, counts)
    array([0, 1, 1, 2, 2, 2, 2])
    """
    _, place = np.unique(level, return_inverse=True)
    masses = np.bincount(place, weights=mass)
    below = np.cumsum(masses) - masses
    return np.minimum(2, 3 * below[place] / max(1, masses.sum())).astype(np.int64)


def restricted(held_out: csr_array, users: np.ndarray | None, items: np.ndarray | None) -> csr_array:
    """Keep the stored entries of some users and items of a (U, I) matrix.

    Parameters
    ----------
    held_out
        (U, I).
    users, items
        bool (U,) and bool (I,); None keeps all.
    """
    rows = np.repeat(np.arange(held_out.shape[0]), np.diff(held_out.indptr))
    kept = np.ones(held_out.nnz, bool)
    if users is not None:
        kept &= users[rows]
    if items is not None:
        kept &= items[held_out.indices]
    return csr_array((held_out.data[kept], (rows[kept], held_out.indices[kept])), shape=held_out.shape)
