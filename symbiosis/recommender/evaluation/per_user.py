"""Every metric of every user, in a table that runs can be averaged and compared by."""

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.recommender.evaluation.evaluation import SLICE_DEPTH, Rankings, UserMetrics, restricted, thirds
from symbiosis.recommender.metrics.metrics import Protocol, recall

PARTS = ("head", "middle", "tail", "cold")
"""Items by popularity: thirds of the training interactions, and those without any."""

HISTORY = ("short", "medium", "long")
"""Thirds of the evaluated users by their number of training items."""


def user_metrics(rankings: Rankings, measured: UserMetrics, train: csr_array, test: csr_array) -> pl.DataFrame:
    """Tabulate every metric of every method for every user who has test items.

    Parameters
    ----------
    rankings
        int32 (U, depth) per method, best first, padded with -1.
    measured
        The metrics of these rankings, as `evaluation.measure` gives them.
    train, test
        (U, I), disjoint.

    Returns
    -------
    pl.DataFrame
        Columns ``method, user, history``, those of the metrics, and ``recall@20 of ... items`` for each of `PARTS`,
        null where the user has no test item of that kind.
    """
    evaluated = np.diff(test.indptr) > 0
    users = np.flatnonzero(evaluated)
    history = np.array(HISTORY)[thirds(np.diff(train.indptr), evaluated)[users]]
    counts = np.bincount(train.indices, minlength=train.shape[1])
    kind = np.where(counts > 0, thirds(-counts, counts), len(PARTS) - 1)
    parts = {name: restricted(test, None, kind == number) for number, name in enumerate(PARTS)}
    frames = []
    for method, ranking in rankings.items():
        columns = {name: metric[users] for name, metric in measured[method].items()}
        columns |= {
            f"recall@{SLICE_DEPTH} of {name} items": recall(ranking, held_out, SLICE_DEPTH)[users]
            for name, held_out in parts.items()
        }
        frames.append(
            pl.DataFrame({"method": [method] * len(users), "user": users, "history": history} | columns).fill_nan(None)
        )
    return pl.concat(frames)


def columns(protocol: Protocol) -> list[str]:
    """Names of all measures of the table, the metrics first."""
    return [*protocol.metrics, *(f"recall@{SLICE_DEPTH} of {name} items" for name in PARTS)]
