"""The recommender's table over data sets, seeds and variants.

Run it:  python -m symbiosis.recommender.evaluation.table FOLDER PAGE

FOLDER/DATA_SET/VARIANT/SEED holds what `flows.table` kept of each run. Metrics are averaged over seeds user by user;
intervals are those of the paired bootstrap over users, so they tell how sure a mean is for these seeds and other users.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import yaml

from symbiosis.core.artifacts import read_frame, read_json, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.evaluation.earlier_table import keep_earlier, read_earlier
from symbiosis.recommender.evaluation.evaluation import MODEL, WITHOUT_RERANKING
from symbiosis.recommender.evaluation.per_user import HISTORY, columns
from symbiosis.recommender.evaluation.table_report import render
from symbiosis.recommender.metrics.metrics import Protocol, protocol_with

FULL = "full"
SAMPLES, SEED = 2000, 59
_DIGITS = 5

Numbers = dict[str, dict[str, float]]


def read_runs(folder: Path) -> dict[str, dict[str, dict[int, Path]]]:
    """Find the finished runs: data set, variant, seed, folder.

    Raises
    ------
    InputError
        There is none.
    """
    found: dict[str, dict[str, dict[int, Path]]] = {}
    for file in sorted(folder.glob("*/*/*/run.json")):
        data_set, variant, seed = file.parent.relative_to(folder).parts
        found.setdefault(data_set, {}).setdefault(variant, {})[int(seed)] = file.parent
    for data_set, variants in found.items():  # of an unfinished table
        for variant in [name for name in variants if not variants[name].keys() <= variants.get(FULL, {}).keys()]:
            raise InputError(f"{folder}: {data_set}/{variant} has a seed that `{FULL}` lacks: run `make table`")
    if not any(FULL in variants for variants in found.values()):
        raise InputError(f"{folder} holds no finished run of `{FULL}`: run `make table`")
    return found


def over_seeds(folders: dict[int, Path]) -> pl.DataFrame:
    """Average the metrics of every user and method over the seeds."""
    frames = [read_frame(folder / "per_user.parquet") for folder in folders.values()]
    measures = columns(protocol_with(frames[0].columns))
    means = pl.concat(frames).group_by("method", "user", "history").agg(pl.col(measures).mean())
    return means.sort("method", "user")


def summarise(folder: Path) -> dict[str, Any]:
    """Measure all that is compared.

    Parameters
    ----------
    folder
        As `read_runs` reads it.

    Returns
    -------
    dict
        By data set: ``methods`` and ``variants`` with mean and interval of every metric; ``gain`` of the model over
        the best baseline of each metric, with interval, relative to it, and in ``strongest`` over the one that is
        best in the sum; ``loss`` of every variant against the full model; ``slices``; ``seeds``, ``spread`` (the
        model's mean by seed), ``coverage``, ``cold items``, ``bias``, ``seconds``, ``data``, ``split``, ``commits``
        (of every variant) and ``invalid`` (variants whose training saw held-out data).
    """
    return {data_set: _data_set(variants) for data_set, variants in read_runs(folder).items() if FULL in variants}


def _data_set(variants: dict[str, dict[int, Path]]) -> dict[str, Any]:
    full = over_seeds(variants[FULL])
    protocol = protocol_with(full.columns)
    metrics = list(protocol.metrics)
    # Users in one order, so that differences are paired.
    tables = {name: full.filter(method=name) for name in full["method"].unique().sort()}
    runs = {name: over_seeds(folders).filter(method=MODEL) for name, folders in variants.items() if name != FULL}
    # A variant is compared with the full model of its own seeds.
    same_seeds = {
        name: over_seeds({seed: path for seed, path in variants[FULL].items() if seed in variants[name]})
        .filter(method=MODEL)
        .select(*metrics)
        .to_numpy()
        for name in runs
    }
    for name, frame in runs.items():
        if not frame["user"].equals(tables[MODEL]["user"]):
            raise InputError(f"variant `{name}` was evaluated on other users than `{FULL}`: delete its results")
    baselines = [name for name in tables if name != MODEL]
    values = {name: frame.select(*metrics).to_numpy() for name, frame in (tables | runs).items()}
    rivals = [name for name in baselines if name != WITHOUT_RERANKING]
    best = {metric: max(rivals, key=lambda b, m=metric: tables[b][m].mean()) for metric in metrics}  # type: ignore[misc]
    strongest = max(rivals, key=lambda name: protocol.score(dict(zip(metrics, values[name].mean(axis=0), strict=True))))
    over_best = np.stack([values[best[metric]][:, i] for i, metric in enumerate(metrics)], axis=1)
    parts = values | {
        "gain": values[MODEL] - over_best,
        "gain over strongest": values[MODEL] - values[strongest],
        **{f"loss {name}": values[name] - same_seeds[name] for name in runs},
    }
    numbers = _intervals(parts, metrics)
    for metric in metrics:
        level = numbers[best[metric]][metric]["mean"]
        numbers["gain"][metric] |= {"relative": round(numbers["gain"][metric]["mean"] / level, 4) if level else 0.0}
    first = next(iter(variants[FULL].values()))
    report = read_json(first / "recommender.json")
    return {
        "data": report["data"],
        "split": yaml.safe_load((first / "params.yaml").read_text(encoding="utf-8"))["clean"]["split"],
        "seeds": list(variants[FULL]),
        "methods": {name: numbers[name] for name in [MODEL, *baselines]},
        "best": best,
        "gain": numbers["gain"],
        "strongest": {"name": strongest} | numbers["gain over strongest"],
        "variants": {name: numbers[name] for name in runs},
        "loss": {name: numbers[f"loss {name}"] for name in runs},
        "variant seeds": {name: list(variants[name]) for name in runs},
        "invalid": [name for name in runs if _leaks(variants[name])],
        "spread": {
            seed: read_frame(path / "per_user.parquet").filter(method=MODEL).select(pl.col(*metrics).mean()).row(0)
            for seed, path in variants[FULL].items()
        },
        "slices": _slices(tables, protocol),
        "coverage": {MODEL: report[MODEL]["coverage@20"]}
        | {name: report["baselines"][name]["coverage@20"] for name in baselines},
        "cold items": report.get("cold items"),
        "bias": report.get("bias"),
        "seconds": _costs(variants),
        "commits": {
            name: sorted({read_json(path / "run.json")["commit"] for path in part.values()})
            for name, part in variants.items()
        },
    }


def _intervals(parts: dict[str, np.ndarray], metrics: list[str]) -> dict[str, Numbers]:
    """Mean and interval of every metric, all on the same resampled users."""
    table = np.concatenate(list(parts.values()), axis=1)
    cells = means_with_intervals(table, SAMPLES, SEED, _DIGITS)
    width = len(metrics)
    return {name: dict(zip(metrics, cells[i * width : (i + 1) * width], strict=True)) for i, name in enumerate(parts)}


def _slices(tables: dict[str, pl.DataFrame], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """The first metric by history, Recall@20 by the popularity of the test items, and how many users count."""
    found: dict[str, dict[str, Any]] = {}
    first = next(iter(protocol.metrics))
    for part in HISTORY:
        chosen = {name: frame.filter(history=part) for name, frame in tables.items()}
        if len(chosen[MODEL]):
            found[f"{part} history"] = {"users": len(chosen[MODEL])} | {
                name: round(float(frame[first].mean()), _DIGITS)  # type: ignore[arg-type]
                for name, frame in chosen.items()
            }
    for column in columns(protocol)[len(protocol.metrics) :]:
        users = tables[MODEL][column].count()
        if users:
            found[column.removeprefix("recall@20 of ")] = {"users": users} | {
                name: round(float(frame[column].mean()), _DIGITS)  # type: ignore[arg-type]
                for name, frame in tables.items()
            }
    return found


def _leaks(folders: dict[int, Path]) -> bool:
    return any("invalid" in read_json(folder / "recommender.json") for folder in folders.values())


def _costs(variants: dict[str, dict[int, Path]]) -> dict[str, dict[str, float]]:
    """Seconds of the stages, mean over the seeds whose time is known: the baselines' and the model's."""
    found: dict[str, dict[str, float]] = {}
    for variant, folders in variants.items():
        seconds: dict[str, list[float]] = {}
        for folder in folders.values():
            for stage, value in read_json(folder / "run.json")["seconds"].items():
                seconds.setdefault(stage, []).append(value)
        found[variant] = {stage: round(sum(values) / len(values), 1) for stage, values in seconds.items()}
    return found


def curves(folder: Path) -> dict[str, dict[str, pl.DataFrame]]:
    """Curves of fine-tuning of the full model by data set and seed."""
    found: dict[str, dict[str, pl.DataFrame]] = {}
    for data_set, variants in read_runs(folder).items():
        for seed, place in variants.get(FULL, {}).items():
            found.setdefault(data_set, {})[f"seed {seed}"] = pl.read_csv(
                place / "finetune.csv", infer_schema_length=None
            )
    return found


def main() -> None:
    """Read the runs, write PAGE.json and PAGE.html."""
    parser = argparse.ArgumentParser(prog="python -m symbiosis.recommender.evaluation.table", description=__doc__)
    parser.add_argument("folder", type=Path, help="results of the runs")
    parser.add_argument("page", type=Path, help="where the report goes, without its ending")
    parser.add_argument("--keep-earlier", action="store_true", help="keep rows of PAGE.json that FOLDER lacks")
    chosen = parser.parse_args()
    try:
        summary = summarise(chosen.folder)
        if chosen.keep_earlier:
            summary = keep_earlier(read_earlier(chosen.page.with_suffix(".json")), summary)
        document = render(summary, curves(chosen.folder), SAMPLES)
    except InputError as error:
        sys.exit(f"error: {error}")
    with staged(f"{chosen.page}.json", f"{chosen.page}.html") as (numbers, html):
        write_json(numbers, summary)
        html.write_text(document, encoding="utf-8")
    for data_set, part in summary.items():
        gains = ", ".join(f"{metric} {cell['relative']:+.1%}" for metric, cell in part["gain"].items())
        print(f"{data_set}: model against the best baseline of each metric: {gains}")
    print(f"whole report: {chosen.page}.html")


if __name__ == "__main__":
    main()
