"""Rows that stand beside a method's own, each with a mark: fitted again with validation items, or of a variant."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.evaluation.evaluation import UserMetrics
from symbiosis.recommender.metrics.ranking import read_ranking
from symbiosis.reporting.names import label, metric
from symbiosis.reporting.page import Block, Interval, Section, Table, Text

REFITTED = "_refitted"
"""Ends the name of a method whose links were fitted again with validation items at test."""
_DIGITS = 5


@dataclass(frozen=True)
class Marked:
    """A marked row and the row that it stands beside.

    Attributes
    ----------
    method
        Both are of it.
    mark
        What is different, in a word or two.
    values, plain
        float64 (U, metrics), of the marked row and of the method's own, user by user.
    """

    method: str
    mark: str
    values: np.ndarray
    plain: np.ndarray

    @property
    def differs(self) -> bool:
        """Whether any user's metric does."""
        return not np.array_equal(self.values, self.plain)


def read_refitted(folder: Path | str, names: Iterable[str], seen: csr_array, depth: int) -> dict[str, np.ndarray]:
    """Read the rankings of baselines that had learned from validation items too.

    Parameters
    ----------
    folder
        ``data/rankings``.
    names
        Of the baselines; those without such a ranking are left out.
    seen, depth
        As `symbiosis.recommender.metrics.ranking.read_ranking` takes them.

    Returns
    -------
    dict
        int32 (U, depth) by the baseline's name, which `REFITTED` ends.
    """
    files = {name: Path(folder) / name / "refitted.npy" for name in names}
    return {f"{name}{REFITTED}": read_ranking(file, seen, depth) for name, file in files.items() if file.exists()}


def refitted_rows(measured: UserMetrics, samples: int, seed: int) -> dict[str, Any]:
    """Summarise those of the measured methods that were refitted, as `marked_rows` does."""
    values = {name: np.stack(list(metrics.values()), axis=1) for name, metrics in measured.items()}
    marked = [
        Marked(method, "refitted", *(values[row][~np.isnan(values[row]).any(axis=1)] for row in (name, method)))
        for name in values
        if name.endswith(REFITTED)
        for method in [name.removesuffix(REFITTED)]
    ]
    return marked_rows(marked, list(next(iter(measured.values()))), samples, seed)


def marked_rows(marked: Sequence[Marked], metrics: Sequence[str], samples: int, seed: int) -> dict[str, Any]:
    """Summarise marked rows, all on the same resampled users.

    Parameters
    ----------
    marked
        The rows, of the same users.
    metrics
        Names of the columns.
    samples, seed
        Of the bootstrap.

    Returns
    -------
    dict
        By method and mark, such as ``boosting, refitted``: both, the mean and the 95 % interval of every metric, and
        likewise in ``difference`` the paired ones of the row minus the method's own.
    """
    if not marked:
        return {}
    columns = [part for row in marked for part in (row.values, row.values - row.plain)]
    cells = iter(means_with_intervals(np.concatenate(columns, axis=1), samples, seed, _DIGITS))
    return {
        f"{row.method}, {row.mark}": {"method": row.method, "mark": row.mark}
        | {name: next(cells) for name in metrics}
        | {"difference": {name: next(cells) for name in metrics}}
        for row in marked
    }


MEANINGS = {
    "refitted": (
        "refitted: at test, links between items also hold the validation items, which lie before the test items; "
        "weights, trees, settings and epochs stay as they were."
    ),
    "direction-blind": (
        "direction-blind: steps between items count both ways, so that their direction tells nothing. The order of a "
        "user's items still tells which are recent."
    ),
}


def marked_section(marked: Mapping[str, Any] | None, heading: str = "Marked rows") -> list[Block]:
    """Return the block of a page with these rows; none without any."""
    if not marked:
        return []
    metrics = list(next(iter(marked.values()))["difference"])
    rows = [
        [
            f"{label(row['method'])}, {row['mark']}",
            *(Interval.of(row[name]) for name in metrics),
            *(Interval.of(row["difference"][name], "+.4f") for name in metrics),
        ]
        for row in sorted(marked.values(), key=lambda row: -float(row[metrics[-2]]["mean"]))
    ]
    header = ["Method", *map(metric, metrics), *(f"{metric(name)}, difference" for name in metrics)]
    meanings = [MEANINGS[mark] for mark in dict.fromkeys(row["mark"] for row in marked.values()) if mark in MEANINGS]
    note = f"Difference to the method's own row, paired. {' '.join(word[0].upper() + word[1:] for word in meanings)}"
    return [Section(heading, [Table(header, rows), Text(note)])]
