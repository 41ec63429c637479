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
from symbiosis.recommender.evaluation.marked_rows import REFITTED, Marked, marked_rows
from symbiosis.recommender.evaluation.per_user import HISTORY, columns
from symbiosis.recommender.evaluation.published import published_rows
from symbiosis.recommender.evaluation.seeds import over_seeds, spread_over_seeds
from symbiosis.recommender.evaluation.table_report import render, said_of_strongest
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


def summarise(folder: Path) -> dict[str, Any]:
    """Measure all that is compared.

    Parameters
    ----------
    folder
        As `read_runs` reads it.

    Returns
    -------
    dict
        By data set: ``methods`` and ``variants`` with mean and interval of every metric; ``marked``, see
        `symbiosis.recommender.evaluation.marked_rows`: baselines that were refitted or run in a variant; ``gain`` of
        the model over the best baseline of each metric, with interval, relative to it, and in ``strongest`` over the
        one that is best in the sum; ``loss`` of every variant against the full model; ``published``, rows of others;
        ``slices``; ``seeds``, ``spread`` (the model's mean by seed), ``over seeds`` (see
        `symbiosis.recommender.evaluation.seeds`), ``coverage``, ``cold items``, ``bias``, ``seconds``, ``data``,
        ``split``, ``commits`` (of every variant) and ``invalid`` (variants whose training saw held-out data). A table
        of baselines alone has no gain, loss, spread and variants.
    """
    return {data_set: _data_set(variants) for data_set, variants in read_runs(folder).items() if FULL in variants}


def _data_set(variants: dict[str, dict[int, Path]]) -> dict[str, Any]:
    full = over_seeds(variants[FULL])
    protocol = protocol_with(full.columns)
    metrics = list(protocol.metrics)
    # Users in one order, so that differences are paired.
    everything = {name: full.filter(method=name) for name in full["method"].unique().sort()}
    tables = {name: frame for name, frame in everything.items() if not name.endswith(REFITTED)}
    others = {name: over_seeds(folders) for name, folders in variants.items() if name != FULL}
    users = next(iter(tables.values()))["user"]
    for name, frame in others.items():
        if any(not part["user"].equals(users) for part in frame.partition_by("method")):
            raise InputError(f"variant `{name}` was evaluated on other users than `{FULL}`: delete its results")
    # A variant is compared with the full run of its own seeds.
    same_seeds = {
        name: over_seeds({seed: path for seed, path in variants[FULL].items() if seed in variants[name]})
        for name in others
    }
    baselines = [name for name in tables if name != MODEL]
    values = {name: frame.select(*metrics).to_numpy() for name, frame in tables.items()}
    rivals = [name for name in baselines if name != WITHOUT_RERANKING]
    best = {metric: max(rivals, key=lambda b, m=metric: tables[b][m].mean()) for metric in metrics}  # type: ignore[misc]
    strongest = max(rivals, key=lambda name: protocol.score(dict(zip(metrics, values[name].mean(axis=0), strict=True))))
    of_model = _against_model(values, others, same_seeds, best, strongest) if MODEL in tables else {}
    numbers = _intervals(values | of_model, metrics)
    gain = numbers.get("gain", {})
    for metric in gain:
        level = numbers[best[metric]][metric]["mean"]
        gain[metric] |= {"relative": round(gain[metric]["mean"] / level, 4) if level else 0.0}
    runs = [name for name in others if name in of_model]
    first = next(iter(variants[FULL].values()))
    report = read_json(first / "recommender.json")
    marked = _marked(everything, others, same_seeds, metrics)
    summary = {
        "data": report["data"],
        "split": yaml.safe_load((first / "params.yaml").read_text(encoding="utf-8"))["clean"]["split"],
        "seeds": list(variants[FULL]),
        "methods": {name: numbers[name] for name in [*([MODEL] if of_model else []), *baselines]},
        "marked": marked_rows(marked, metrics, SAMPLES, SEED),
        "published": published_rows(report["data"], protocol.metrics),
        "best": best,
        "gain": gain,
        "strongest": {"name": strongest} | numbers.get("gain over strongest", {}),
        "variants": {name: numbers[name] for name in runs},
        "loss": {name: numbers[f"loss {name}"] for name in runs},
        "variant seeds": {name: list(variants[name]) for name in others},
        "invalid": [name for name in runs if _leaks(variants[name])],
        "spread": _spread(variants[FULL], metrics) if of_model else {},
        "over seeds": spread_over_seeds(variants, FULL, metrics),
        "slices": _slices(tables, protocol),
        "coverage": ({MODEL: report[MODEL]["coverage@20"]} if of_model else {})
        | {name: report["baselines"][name]["coverage@20"] for name in baselines},
        "cold items": report.get("cold items"),
        "bias": report.get("bias"),
        "seconds": _costs(variants),
        "commits": {
            name: sorted({read_json(path / "run.json")["commit"] for path in part.values()})
            for name, part in variants.items()
        },
    }
    return {key: value for key, value in summary.items() if key != "published" or value}


def _against_model(
    values: dict[str, np.ndarray],
    others: dict[str, pl.DataFrame],
    same_seeds: dict[str, pl.DataFrame],
    best: dict[str, str],
    strongest: str,
) -> dict[str, np.ndarray]:
    """Return the model's gains, its variants and their losses, user by user."""
    metrics = list(best)
    over_best = np.stack([values[best[metric]][:, i] for i, metric in enumerate(metrics)], axis=1)
    found = {"gain": values[MODEL] - over_best, "gain over strongest": values[MODEL] - values[strongest]}
    for name, frame in others.items():
        row, full = (part.filter(method=MODEL).select(*metrics).to_numpy() for part in (frame, same_seeds[name]))
        if len(row):
            found |= {name: row, f"loss {name}": row - full}
    return found


def _marked(
    everything: dict[str, pl.DataFrame],
    others: dict[str, pl.DataFrame],
    same_seeds: dict[str, pl.DataFrame],
    metrics: list[str],
) -> list[Marked]:
    """Return the refitted baselines, and of those that were run in a variant the ones that it moved."""
    values = {name: frame.select(*metrics).to_numpy() for name, frame in everything.items()}
    found = [
        Marked(name.removesuffix(REFITTED), "refitted", values[name], values[name.removesuffix(REFITTED)])
        for name in values
        if name.endswith(REFITTED)
    ]
    for variant, frame in others.items():
        for method in frame["method"].unique().sort():
            row, plain = (part.filter(method=method) for part in (frame, same_seeds[variant]))
            if method != MODEL and len(plain):
                mark = f"{variant}, refitted" if method.endswith(REFITTED) else variant
                numbers = (part.select(*metrics).to_numpy() for part in (row, plain))
                found.append(Marked(method.removesuffix(REFITTED), mark, *numbers))
    return [row for row in found if row.differs]


def _spread(folders: dict[int, Path], metrics: list[str]) -> dict[int, tuple[float, ...]]:
    return {
        seed: read_frame(path / "per_user.parquet").filter(method=MODEL).select(pl.col(*metrics).mean()).row(0)
        for seed, path in folders.items()
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
    first, some = next(iter(protocol.metrics)), next(iter(tables))
    for part in HISTORY:
        chosen = {name: frame.filter(history=part) for name, frame in tables.items()}
        if users := len(chosen[some]):
            found[f"{part} history"] = {"users": users} | {
                name: round(float(frame[first].mean()), _DIGITS)  # type: ignore[arg-type]
                for name, frame in chosen.items()
            }
    for column in columns(protocol)[len(protocol.metrics) :]:
        if users := tables[some][column].count():
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
            if (file := place / "finetune.csv").is_file():  # not if baselines were run alone
                found.setdefault(data_set, {})[f"seed {seed}"] = pl.read_csv(file, infer_schema_length=None)
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
        if gains := ", ".join(f"{metric} {cell['relative']:+.1%}" for metric, cell in part["gain"].items()):
            print(f"{data_set}: model against the best baseline of each metric: {gains}")
        else:
            print(f"{data_set}: {said_of_strongest(part)}")
    print(f"whole report: {chosen.page}.html")


if __name__ == "__main__":
    main()
