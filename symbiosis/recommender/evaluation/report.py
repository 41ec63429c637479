"""The recommender's page: verdict, comparison, gains over each baseline, slices, tuning and learning curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from symbiosis.core.errors import InputError
from symbiosis.recommender.evaluation.evaluation import MODEL
from symbiosis.recommender.evaluation.marked_rows import marked_section
from symbiosis.recommender.evaluation.published import published_section
from symbiosis.recommender.metrics.metrics import protocol_with
from symbiosis.reporting import drawings, page
from symbiosis.reporting.names import label, metric, told_apart
from symbiosis.reporting.page import OURS, STRONGEST, Block, Interval, Row, Section, Table, Text


def render(report: dict[str, Any], tuning: dict[str, dict[str, Any]], curves: dict[str, pl.DataFrame], how: str) -> str:
    """Return the page as one HTML document.

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
    """
    results = in_order({MODEL: report[MODEL]} | report["baselines"])
    strongest = report["difference"]["to"]
    data, protocol = report["data"], protocol_with(report[MODEL])
    chosen_by = " + ".join(map(metric, protocol.chosen_by))
    lead = (
        f"{data['users']:,} users, {data['items']:,} items, {data['training interactions']:,} training and "
        f"{data['test interactions']:,} test interactions."
    )
    body: list[Block] = [Text(f"INVALID: {report['invalid']}.", "warning")] if "invalid" in report else []
    body += [
        Text(verdict(report), "verdict"),
        page.Figure.of(picture(results, strongest), "Every metric of every method with its 95 % interval"),
        Section("Comparison", [comparison(results, strongest), Text(f"Means over users. {how} {_READING}")]),
        *marked_section(report.get("marked")),
        *published_section(report.get("published")),
        Section(
            f"Gain of {label(MODEL)} over each baseline",
            [
                _gains(report["gain"], report["baselines"], strongest),
                Text(
                    "In percent of the baseline in brackets. Intervals are paired, user by user: one that does not "
                    "contain 0 (the dotted line) tells the two apart."
                ),
            ],
        ),
        *_cold(report.get("cold items")),
        *_ratings(report.get("ratings")),
        Section(
            f"Difference of every method to {label(strongest)}, the strongest baseline",
            [_differences(report["difference"])],
            folded=True,
        ),
        *(
            Section(f"Recall@20 by {kind}", [_slices(parts, strongest)], folded=True)
            for kind, parts in report["slices"].items()
            if parts
        ),
        Section(
            "Settings of the baselines",
            [
                _tuning(tuning, list(protocol.metrics)),
                Text(f"Chosen on validation by {chosen_by}; the values are those on validation."),
            ],
            folded=True,
        ),
    ]
    if curves:
        body.append(Section("Training curves", [page.Figure.of(_curves(curves), "Training curves")], folded=True))
    return page.render("Recommender", lead, body)


_READING = (
    "Whiskers: 95 % intervals; faint where off the scale. Best bold, second underlined; coverage is no merit by itself."
)


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
    for name, value in report["difference"][MODEL].items():
        words[told_apart(value["low"], value["high"])].append(metric(name))
    strongest = label(report["difference"]["to"])
    parts = [f"{side} {strongest} in {', '.join(names)}" for side, names in words.items() if names]
    warning = f"INVALID, {report['invalid']}: " if "invalid" in report else ""
    return f"{warning}{label(MODEL)} is {'; '.join(parts)}."


def in_order(results: Mapping[str, Any]) -> dict[str, Any]:
    """Sort methods, the best first, by what also names the strongest baseline."""

    def level(values: Mapping[str, Any]) -> float:
        protocol = protocol_with(values)
        return protocol.score({name: values[name]["mean"] for name in protocol.metrics})

    return dict(sorted(results.items(), key=lambda pair: -level(pair[1])))


def metrics_of(results: Mapping[str, Any]) -> list[str]:
    """Return the names of the metrics that methods were measured by."""
    return list(protocol_with(next(iter(results.values()))).metrics)


def mark(method: str, strongest: str) -> str:
    """Return the mark of a method's row."""
    return OURS if method == MODEL else STRONGEST if method == strongest else ""


def ranks(columns: Sequence[Sequence[float | None]]) -> dict[tuple[int, int], str]:
    """Return the classes of the best and the second value of each column; the first column of the table is the name."""
    classes = {}
    for column, values in enumerate(columns, start=1):
        order = sorted({value for value in values if value is not None}, reverse=True)
        for row, value in enumerate(values):
            if value is not None and value in order[:2]:
                classes[row, column] = ("best", "second")[order.index(value)]
    return classes


def comparison(results: Mapping[str, Any], strongest: str) -> Table:
    """Return the table of methods, as sorted by `in_order`, with every metric and its interval."""
    covered = [name for name in next(iter(results.values())) if name.startswith("coverage")]
    metrics = metrics_of(results)
    rows = [
        Row(
            [
                label(method),
                *(Interval.of(values[name]) for name in metrics),
                *(f"{values[name]:.4f}" for name in covered),
            ],
            mark(method, strongest),
        )
        for method, values in results.items()
    ]
    classes = ranks([[values[name]["mean"] for values in results.values()] for name in metrics])
    return Table(["Method", *map(metric, [*metrics, *covered])], rows, classes)


def picture(results: Mapping[str, Any], strongest: str) -> Figure:
    """Draw every metric of every method, as sorted by `in_order`, with its interval."""
    panels = {metric(name): [Interval.of(values[name]) for values in results.values()] for name in metrics_of(results)}
    return drawings.forest([label(m) for m in results], [mark(m, strongest) for m in results], panels)


def _differences(difference: dict[str, Any]) -> Table:
    others = in_order({MODEL: difference[MODEL]} | difference["baselines"])
    metrics = metrics_of(others)
    rows = [
        Row([label(name), *(Interval.of(values[m], "+.4f") for m in metrics)], mark(name, ""))
        for name, values in others.items()
    ]
    return Table(["Method", *map(metric, metrics)], rows)


def _gains(gains: dict[str, Any], baselines: dict[str, dict[str, Any]], strongest: str) -> Table:
    rows, metrics = [], metrics_of(baselines)
    for name in in_order(baselines):
        cells: list[object] = [label(name)]
        for column in metrics:
            gain, level = gains[name][column], baselines[name][column]["mean"]
            cells.append(Interval.of(gain, "+.4f", f"({gain['mean'] / level:+.0%})" if level else ""))
        rows.append(Row(cells, mark(name, strongest)))
    return Table(["Baseline", *map(metric, metrics)], rows)


def _slices(parts: dict[str, dict[str, Any]], strongest: str) -> Table:
    methods = [name for name in next(iter(parts.values())) if name != "users"]
    methods.sort(key=lambda name: -sum(part[name] * part["users"] for part in parts.values()))
    rows = [
        Row([label(name), *(f"{part[name]:.4f}" for part in parts.values())], mark(name, strongest)) for name in methods
    ]
    classes = ranks([[part[name] for name in methods] for part in parts.values()])
    header = ["Method", *(f"{name} ({part['users']:,} users)" for name, part in parts.items())]
    return Table(header, rows, classes)


def _cold(cold: dict[str, Any] | None) -> list[Block]:
    """Return the section on items without any training interaction, if the test has some."""
    if not cold:
        return []
    return [
        Section(
            "Cold items",
            [
                cold_table(cold),
                Text(
                    f"{cold['users']:,} users took one of {cold['items']:,} items that nobody took in training; "
                    f"candidates among cold items: {cold['candidates']:,}. AUC: how often an item that was taken "
                    "ranks above one that was not."
                ),
            ],
        )
    ]


def cold_table(cold: dict[str, Any]) -> Table:
    """Return the table of methods on cold items, a random order among them."""
    rows = [
        Row([label(name), *map(Interval.of, values.values())], mark(name, ""))
        for name, values in cold["methods"].items()
    ]
    rows.append(Row(["Random order", *(f"{value:.4f}" for value in cold["chance"].values())]))
    return Table(["Method", *map(metric, cold["chance"])], rows)


def _ratings(ratings: dict[str, Any] | None) -> list[Block]:
    """Return the section on errors of predicted ratings, if the model was trained to predict them."""
    if not ratings:
        return []
    ordered = sorted(ratings["methods"].items(), key=lambda pair: pair[1]["rmse"]["mean"])
    rows = [Row([label(method), *map(Interval.of, values.values())], mark(method, "")) for method, values in ordered]
    note = Text(f"{ratings['ratings']:,} test ratings, in stars; smaller is better.")
    return [Section("Predicted ratings", [Table(["Method", "RMSE", "MAE"], rows), note])]


def _tuning(tuning: dict[str, dict[str, Any]], metrics: Sequence[str]) -> Table:
    rows = [
        [
            label(name),
            _setting(record),
            len(record["tried"]),
            *(f"{record['validation'][column]:.4f}" for column in metrics),
        ]
        for name, record in tuning.items()
    ]
    return Table(["Baseline", "Setting", "Settings tried", *map(metric, metrics)], rows)


def _setting(record: dict[str, Any]) -> str:
    """Return the chosen setting in words, with the best epoch of methods that learn in epochs."""
    chosen = [f"{key} {_written(value)}" for key, value in record["setting"].items()]
    if "epoch" in record:
        chosen.append(f"best epoch {record['epoch']}")
    return ", ".join(chosen) or "nothing to tune"


def _written(value: bool | float | str) -> str:
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value).lower()


def _curves(curves: dict[str, pl.DataFrame]) -> Figure:
    """Draw a row of panels per curve: losses, then metrics, each against the step."""
    panels = []
    for title, curve in curves.items():
        names = [name for name in curve.columns if name not in ("epoch", "step", "score")]
        measures = {"mrr"} | {name for name in names if "@" in name}
        losses, metrics = (
            [name for name in names if name not in measures],
            [name for name in names if name in measures],
        )
        panels += [(title, curve, part) for part in (losses, metrics) if part]
    figure = Figure(figsize=(9, 2.8))
    for axis, (title, curve, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for name in names:
            seen = curve.filter(pl.col(name).is_not_null())
            axis.plot(seen["step"].to_numpy(), seen[name].to_numpy(), label=metric(name), linewidth=1.2)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    return figure
