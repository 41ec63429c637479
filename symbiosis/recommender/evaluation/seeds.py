"""Means over seeds, user by user, and the spread over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_frame
from symbiosis.recommender.evaluation.marked_rows import REFITTED
from symbiosis.recommender.evaluation.per_user import columns
from symbiosis.recommender.metrics.metrics import protocol_with
from symbiosis.reporting.names import label, metric
from symbiosis.reporting.page import Block, Section, Table, Text

_DIGITS = 5

Summary = dict[str, dict[str, float]]
"""Numbers by metric."""


def over_seeds(folders: dict[int, Path]) -> pl.DataFrame:
    """Average the metrics of every user and method over the seeds."""
    frames = [read_frame(folder / "per_user.parquet") for folder in folders.values()]
    measures = columns(protocol_with(frames[0].columns))
    means = pl.concat(frames).group_by("method", "user", "history").agg(pl.col(measures).mean())
    return means.sort("method", "user")


def spread_over_seeds(
    variants: Mapping[str, Mapping[int, Path]], unmarked: str, metrics: Sequence[str]
) -> dict[str, Summary]:
    """Summarise every row that any seed moves by its means of the seeds.

    Parameters
    ----------
    variants
        By variant and seed: the folder with ``per_user.parquet``.
    unmarked
        The variant whose rows bear no mark.
    metrics
        Names of the columns.

    Returns
    -------
    dict
        By row, such as ``boosting, refitted``, and metric: ``mean``, ``deviation`` (standard deviation, of a sample),
        ``low`` and ``high``, the least and the largest.
    """
    found: dict[str, Summary] = {}
    for variant, folders in variants.items():
        frames = [read_frame(path / "per_user.parquet") for path in folders.values()]
        by_seed = [frame.group_by("method").agg(pl.col(*metrics).mean()).sort("method") for frame in frames]
        for method in by_seed[0]["method"]:
            rows = np.array([frame.filter(method=method).select(*metrics).row(0) for frame in by_seed])
            if len(rows) > 1 and np.ptp(rows, axis=0).any():
                name = method.replace(REFITTED, ", refitted")
                found[name if variant == unmarked else f"{name}, {variant}"] = {
                    metric: {
                        "mean": round(float(column.mean()), _DIGITS),
                        "deviation": round(float(column.std(ddof=1)), _DIGITS),
                        "low": round(float(column.min()), _DIGITS),
                        "high": round(float(column.max()), _DIGITS),
                    }
                    for metric, column in zip(metrics, rows.T, strict=True)
                }
    return found


def seeds_section(groups: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return the block of a page on the spread over seeds; none where no seed moves anything.

    Parameters
    ----------
    groups
        Data sets, as `symbiosis.recommender.evaluation.table.summarise` returns them, by their metrics.
    """
    tables: list[Block] = []
    for group in groups:
        rows, metrics = [], []
        for name, part in group.items():
            for row, values in part.get("over seeds", {}).items():
                metrics = list(values)
                rows.append([name, label(row), *map(_over, values.values())])
        if rows:
            tables.append(Table(["Data set", "Method", *map(metric, metrics)], rows))
    note = "Mean ± standard deviation over the seeds, with the least and the largest; what no seed moves is not listed."
    return [Section("Spread over seeds", [*tables, Text(note)])] if tables else []


def _over(values: Mapping[str, float]) -> str:
    return f"{values['mean']:.4f} ± {values['deviation']:.4f} ({values['low']:.4f} to {values['high']:.4f})"
