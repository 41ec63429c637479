"""The recommender's page: comparison table, differences, slices, tuning and learning curves."""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from symbiosis.core.errors import InputError
from symbiosis.recommender.evaluation.evaluation import MODEL
from symbiosis.recommender.metrics.metrics import METRICS
from symbiosis.reporting import page

LABELS = {
    MODEL: "GPT-2 + graph",
    "chance": "Chance",
    "popularity": "Popularity",
    "item_knn": "ItemKNN",
    "rp3beta": "RP3beta",
    "ease": "EASE",
    "slim": "SLIM",
    "ials": "iALS",
    "multi_vae": "Multi-VAE",
    "md_cvae": "MD-CVAE",
    "lightgcn": "LightGCN",
    "bert4rec": "BERT4Rec",
    "s3rec": "S3-Rec",
    "unisrec": "UniSRec",
    "fdsa": "FDSA",
    "sasrec": "SASRec",
    "gru4rec": "GRU4Rec",
}
"""Column heads; a method without one shows its name."""

_COLOURS = ("#2a6f97", "#e07a1f", "#6a994e", "#8d5a97", "#7f7f7f", "#b5838d")


def render(report: dict[str, Any], tuning: dict[str, dict[str, Any]], curves: dict[str, pl.DataFrame], how: str) -> str:
    """Make the page.

    Parameters
    ----------
    report
        As `symbiosis.recommender.evaluation.evaluation.evaluate` returns it.
    tuning
        ``tuning.json`` of every baseline.
    curves
        Training curves by title: ``epoch``, ``step`` and one column per quantity.
    how
        What was masked and how the intervals were made, in a sentence.

    Returns
    -------
    str
        A self-contained HTML document.
    """
    results = {MODEL: report[MODEL]} | report["baselines"]
    data = report["data"]
    lead = (
        f"{data['users']:,} users, {data['items']:,} items, {data['training interactions']:,} training and "
        f"{data['test interactions']:,} test interactions."
    )
    body = [
        *_invalid(report.get("invalid")),
        page.note(how),
        page.section("Comparison"),
        f"<p>{html.escape(verdict(report))}</p>",
        _comparison(results),
        page.note("Means over users. Best bold, second underlined; coverage is no merit by itself."),
        page.figure(_bars(results), "Every metric of every method with its 95 % interval"),
        page.section(f"Difference to {_label(report['difference']['to'])}, the strongest baseline"),
        _differences(report["difference"]),
        page.note("Paired, user by user. An interval that does not contain 0 tells the two apart."),
        page.section(f"{_label(MODEL)} beside every baseline"),
        _gains(report["gain"], report["baselines"]),
        page.note(
            "The gain in the metric and, in brackets, in percent of the baseline; below it its interval, paired."
        ),
        page.section("Slices: Recall@20"),
        *(_slice_table(kind, parts) for kind, parts in report["slices"].items()),
        *_cold(report.get("cold items")),
        *_ratings(report.get("ratings")),
        page.section("Baselines' settings"),
        _tuning(tuning),
        page.note("Chosen on validation by Recall@20 + Recall@40 + NDCG@100, whose values there are shown."),
    ]
    if curves:
        body += [page.section("Training"), page.figure(_curves(curves), "Training curves")]
    return page.page("Recommender", lead, body)


def read_curve(path: Path | str) -> pl.DataFrame:
    """Read a training curve.

    Raises
    ------
    InputError
        The file is missing or is not a curve.
    """
    try:
        curve = pl.read_csv(path, infer_schema_length=None)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to make it") from None
    except pl.exceptions.PolarsError as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]}): run `dvc repro` again") from None
    if curve.is_empty():  # no epoch was asked for
        curve = curve.cast(pl.Float64)
    if "step" not in curve.columns or not all(kind.is_numeric() for kind in curve.dtypes):
        raise InputError(f"{path} must hold numbers and a column `step`: run `dvc repro` again")
    return curve


def verdict(report: dict[str, Any]) -> str:
    """Say in one sentence where the model stands beside the strongest baseline."""
    words: dict[str, list[str]] = {"above": [], "below": [], "not told apart from": []}
    for name, metric in report["difference"][MODEL].items():
        side = "above" if metric["low"] > 0 else "below" if metric["high"] < 0 else "not told apart from"
        words[side].append(_metric(name))
    strongest = _label(report["difference"]["to"])
    parts = [f"{side} {strongest} in {', '.join(names)}" for side, names in words.items() if names]
    warning = f"INVALID, {report['invalid']}: " if "invalid" in report else ""
    return f"{warning}{_label(MODEL)} is {'; '.join(parts)}."


def _label(method: str) -> str:
    return LABELS.get(method, method)


def _metric(name: str) -> str:
    return name.replace("recall", "Recall").replace("ndcg", "NDCG").replace("coverage", "Coverage")


def _mean_and_interval(name: str, values: Sequence[dict[str, float]], sign: str = "") -> list[list[object]]:
    """Two rows: the means of a metric, and below them the intervals."""
    means = [f"{value['mean']:{sign}.4f}" for value in values]
    form = f"{sign}.4f" if sign else ".3f"  # a difference may be small
    intervals = [f"{value['low']:{form}} to {value['high']:{form}}" for value in values]
    return [[_metric(name), *means], ["95 % interval", *intervals]]


def _ranks(row: int, values: Sequence[float]) -> dict[tuple[int, int], str]:
    """Classes of the best and the second value of a row whose first cell is its name."""
    distinct = sorted(set(values), reverse=True)
    classes = dict(zip(distinct, ("best", "second"), strict=False))
    return {(row, i + 1): classes[value] for i, value in enumerate(values) if value in classes}


def _comparison(results: dict[str, dict[str, Any]]) -> str:
    rows: list[list[object]] = []
    classes: dict[tuple[int, int], str] = {}
    for name in METRICS:
        values = [result[name] for result in results.values()]
        classes |= _ranks(len(rows), [value["mean"] for value in values])
        rows += _mean_and_interval(name, values)
    rows += [
        [_metric(name), *(f"{result[name]:.4f}" for result in results.values())]
        for name in results[MODEL]
        if name.startswith("coverage")
    ]
    return page.table(["", *map(_label, results)], rows, classes)


def _differences(difference: dict[str, Any]) -> str:
    others = {MODEL: difference[MODEL]} | difference["baselines"]
    rows = [row for name in METRICS for row in _mean_and_interval(name, [o[name] for o in others.values()], "+")]
    return page.table(["", *map(_label, others)], rows)


def _gains(gains: dict[str, Any], baselines: dict[str, dict[str, Any]]) -> str:
    """One row per metric, one column per baseline, that of the recommender's gain over it."""
    rows: list[list[object]] = []
    for metric in METRICS:
        means, intervals = _mean_and_interval(metric, [gain[metric] for gain in gains.values()], "+")
        for i, name in enumerate(gains, start=1):
            if level := baselines[name][metric]["mean"]:
                means[i] = f"{means[i]} ({gains[name][metric]['mean'] / level:+.0%})"
        rows += [means, intervals]
    return page.table(["", *map(_label, gains)], rows)


def _slice_table(kind: str, parts: dict[str, dict[str, Any]]) -> str:
    if not parts:
        return ""
    methods = [name for name in next(iter(parts.values())) if name != "users"]
    rows: list[list[object]] = []
    classes: dict[tuple[int, int], str] = {}
    for r, (name, part) in enumerate(parts.items()):
        rows.append([name, *(f"{part[method]:.4f}" for method in methods), f"{part['users']:,}"])
        classes |= _ranks(r, [part[method] for method in methods])
    return page.table([f"By {kind}", *map(_label, methods), "Users"], rows, classes)


def _cold(cold: dict[str, Any] | None) -> list[str]:
    """What is known of items without any training interaction, if the test has some."""
    if not cold:
        return []
    rows: list[list[object]] = [["Random order", *(f"{value:.4f}" for value in cold["chance"].values())]]
    for method, values in cold["methods"].items():
        cells = (f"{value['mean']:.4f} ({value['low']:.4f} to {value['high']:.4f})" for value in values.values())
        rows.append([_label(method), *cells])
    told = (
        f"{cold['users']:,} users took one of {cold['items']:,} items that nobody took in training; candidates among "
        f"cold items: {cold['candidates']:,}. AUC: how often an item that was taken stands above one that was not."
    )
    return [
        page.section("Cold items"),
        page.table(["", *(_metric(name).replace("auc", "AUC") for name in cold["chance"])], rows),
        page.note(told),
    ]


def _invalid(reason: str | None) -> list[str]:
    """Warn, above all numbers, that they are worth nothing."""
    return [f"<p><strong>INVALID: {html.escape(reason)}.</strong></p>"] if reason else []


def _ratings(ratings: dict[str, Any] | None) -> list[str]:
    """Errors of predicted ratings, if the model was trained to predict them."""
    if not ratings:
        return []
    rows: list[list[object]] = [
        [_label(method), *(f"{v['mean']:.4f} ({v['low']:.4f} to {v['high']:.4f})" for v in values.values())]
        for method, values in ratings["methods"].items()
    ]
    return [
        page.section("Predicted ratings"),
        page.table(["", "RMSE", "MAE"], rows),
        page.note(f"{ratings['ratings']:,} test ratings, in stars; smaller is better."),
    ]


def _tuning(tuning: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            _label(name),
            _setting(record),
            len(record["tried"]),
            *(f"{record['validation'][metric]:.4f}" for metric in METRICS),
        ]
        for name, record in tuning.items()
    ]
    return page.table(["Baseline", "Setting", "Tried", *map(_metric, METRICS)], rows)


def _setting(record: dict[str, Any]) -> str:
    """The chosen setting in words, with the best epoch of what learns in epochs."""
    chosen = [f"{key} {value:g}" for key, value in record["setting"].items()]
    if "epoch" in record:
        chosen.append(f"best epoch {record['epoch']}")
    return ", ".join(chosen) or "nothing to tune"


def _bars(results: dict[str, dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(9, 3))
    axes = figure.subplots(1, len(METRICS))
    for axis, name in zip(axes, METRICS, strict=True):
        for i, (method, result) in enumerate(results.items()):
            value = result[name]
            axis.bar(i, value["mean"], color=_COLOURS[i % len(_COLOURS)], label=_label(method))
            axis.vlines(i, value["low"], value["high"], color="black", linewidth=1)
        axis.set_title(_metric(name))
        axis.set_xticks([])
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.set_layout_engine("constrained")
    return figure


def _curves(curves: dict[str, pl.DataFrame]) -> Figure:
    """Draw a row of panels per curve: losses, then metrics, each against the step."""
    panels = []
    for title, curve in curves.items():
        names = [name for name in curve.columns if name not in ("epoch", "step", "score")]
        losses, metrics = [name for name in names if "@" not in name], [name for name in names if "@" in name]
        panels += [(title, curve, part) for part in (losses, metrics) if part]
    figure = Figure(figsize=(9, 2.8))
    for axis, (title, curve, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            seen = curve.filter(pl.col(name).is_not_null())
            axis.plot(seen["step"].to_numpy(), seen[name].to_numpy(), label=_metric(name), linewidth=1.2)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    return figure
