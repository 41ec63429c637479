"""The page of the full table: a block per data set, methods as rows, metrics as columns."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from symbiosis.recommender.evaluation.evaluation import MODEL
from symbiosis.recommender.evaluation.marked_rows import marked_section
from symbiosis.recommender.evaluation.published import published_section
from symbiosis.recommender.evaluation.report import cold_table, comparison, in_order, mark, metrics_of, picture
from symbiosis.recommender.evaluation.seeds import seeds_section
from symbiosis.reporting import drawings, page
from symbiosis.reporting.names import label, metric, told_apart
from symbiosis.reporting.page import OURS, Block, Interval, Row, Section, Table, Text

_SPLITS = {
    "random": (
        "The test items are a random tenth of each user's history, as in the paper. That mixes times: a method may see "
        "what a user took after the item that it has to find. It favours methods of item similarity (ItemKNN, RP3beta, "
        "EASE, SLIM, iALS, the autoencoders, and this model, whose prompts have no order) and hurts the sequential "
        "ones (SASRec, GRU4Rec, BERT4Rec, FDSA, S3-Rec, UniSRec): they read the rest of the history in its order, "
        "with holes, and have to find an item from anywhere in it."
    ),
    "temporal": (
        "The last items of each user are the test. That favours the sequential methods (SASRec, GRU4Rec, BERT4Rec, "
        "FDSA, S3-Rec, UniSRec), which read the history in its order, and hurts methods of item similarity, this "
        "model, whose prompts have no order, among them."
    ),
    "timestamp": (
        "Two times, the same for all users, part training, validation and test: no method sees anything later than "
        "what it has to find. Users without a test item do not count, and some have nothing to learn from."
    ),
    "last_out": (
        "The last item of each user is the test, the last but one validation, which is in the history at test. All "
        "items are ranked. In the public files of 2014 reviews of one day stand in order of the item's id, so that "
        "methods that read the order of items may read that."
    ),
    "published": "The split is the published one of the benchmark, taken as it is.",
}


def render(summary: dict[str, Any], curves: dict[str, dict[str, pl.DataFrame]], samples: int) -> str:
    """Return the page as one HTML document.

    Parameters
    ----------
    summary
        As `symbiosis.recommender.evaluation.table.summarise` returns it.
    curves
        Curves of fine-tuning by data set and seed.
    samples
        Of the bootstrap.
    """
    body: list[Block] = [Text(verdict(summary), "verdict")]
    compared = {name: part for name, part in summary.items() if part["gain"]}
    if compared:
        body += [
            *(
                page.Figure.of(_picture(parts), "Gain over the best baseline of each metric, with 95 % intervals")
                for parts in _by_metrics(compared)
            ),
            Text(
                f"Gain of {label(MODEL)} over the best baseline of each metric, relative to it. That baseline is "
                "picked on the test, which favours it."
            ),
        ]
    for name, part in summary.items():
        body += [Section(f"Comparison: {name}", [*_comparison(part)])]
        body += marked_section(part.get("marked"), f"Marked rows: {name}")
        body += published_section(part.get("published"), f"Published by others: {name}")
    body += [
        Text(
            f"Means over users, averaged over seeds. Best bold, second underlined. Whiskers: 95 % intervals, paired "
            f"for gains ({samples:,} samples of the users; the seeds are not resampled)."
        ),
        *(Text(_SPLITS[split]) for split in dict.fromkeys(part["split"] for part in summary.values())),
    ]
    for name, part in summary.items():
        if part["variants"]:
            body.append(Section(f"Ablations: {name}", _ablations(name, part)))
    body += [Text(_VARIANTS)] if any(part["variants"] for part in summary.values()) else []
    for name, part in summary.items():
        body.append(Section(f"{metric(metrics_of(part['methods'])[0])} by slice: {name}", [_slices(part)], folded=True))
        if part["cold items"]:
            body.append(Section(f"Cold items: {name}", _cold(part["cold items"]), folded=True))
        if part["bias"]:
            drawing = page.Figure.of(_heat(part["bias"]), f"Learned bias on {name}")
            body.append(Section(f"Learned bias: {name}", [drawing], folded=True))
    for name, by_seed in curves.items():
        drawing = page.Figure.of(_curves(by_seed), f"Learning curves on {name}")
        body.append(Section(f"Learning curves: {name}", [drawing], folded=True))
    sources = [Text(f"{name}: {row}.") for name, part in summary.items() for row in _sources(part["commits"])]
    body += [
        *seeds_section(_by_metrics(summary)),
        *([Section("The model by seed", [_spread(p) for p in _by_metrics(compared)], folded=True)] if compared else []),
        Section("Cost in seconds", [_costs(summary), Text(_COST)], folded=True),
        Section("Made from", sources, folded=True),
    ]
    lead = "; ".join(
        f"{name}: {part['data']['users']:,} users, {part['data']['items']:,} items, "
        f"{part['data']['training interactions']:,} training interactions, "
        f"{len(part['seeds'])} seed{'s' if len(part['seeds']) > 1 else ''}"
        for name, part in summary.items()
    )
    title = "Recommender: the full table" if compared else "Recommender: baselines alone"
    return page.render(title, lead, body)


_VARIANTS = (
    "Difference to the full model, paired; an interval without 0 tells the two apart, for these seeds. Every variant "
    "has the full model's other settings: none was tuned again. A row of another commit (see `Made from`) was compared "
    "with the full model of that commit."
)
_COST = (
    "Wall time of a stage when it ran, whatever else the machine did: a baseline's is that of its whole tuning, the "
    "model's is one training with settings as given. Stages that were restored show the time of the run that made them."
)


def verdict(summary: Mapping[str, Any]) -> str:
    """Say in a few sentences where the model stands beside the strongest baseline of each data set."""
    parts, alone = [], []
    for name, part in summary.items():
        strongest = part["strongest"]
        if not part["gain"]:
            alone.append(f"On {name} {said_of_strongest(part)}.")
            continue
        words: dict[str, list[str]] = {}
        for column in metrics_of(part["methods"]):
            words.setdefault(told_apart(strongest[column]["low"], strongest[column]["high"]), []).append(metric(column))
        said = ", ".join(f"{side} {label(strongest['name'])} in {', '.join(names)}" for side, names in words.items())
        parts.append(f"on {name} {said}")
    return " ".join([*([f"{label(MODEL)} is {'; '.join(parts)}."] if parts else []), *alone])


def said_of_strongest(part: Mapping[str, Any]) -> str:
    """Name the strongest of the methods of a data set on which baselines were run alone, with its metrics."""
    name = part["strongest"]["name"]
    values = ", ".join(f"{metric(m)} {part['methods'][name][m]['mean']:.4f}" for m in metrics_of(part["methods"]))
    return f"the best baseline is {label(name)} ({values}); the model was not run"


def _sources(commits: dict[str, list[str]]) -> list[str]:
    """Return which rows are of which commits; a row is compared with the full model of its own commit."""
    rows: dict[str, list[str]] = {}
    for variant, made_at in commits.items():
        rows.setdefault(", ".join(made_at), []).append(variant)
    return [f"commit {made_at}: {'; '.join(names)}" for made_at, names in rows.items()]


def _relative(part: dict[str, Any], column: str) -> Interval | None:
    """Return the gain over the best baseline of a metric, relative to it; None where that one scores 0."""
    level, gain = part["methods"][part["best"][column]][column]["mean"], part["gain"][column]
    if not level:
        return None
    mean, low, high = (100 * gain[end] / level for end in ("mean", "low", "high"))
    return Interval(mean, low, high, "+.1f")


def _by_metrics(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the data sets in groups that were measured by the same metrics."""
    groups: dict[tuple[str, ...], dict[str, Any]] = {}
    for name, part in summary.items():
        groups.setdefault(tuple(metrics_of(part["methods"])), {})[name] = part
    return list(groups.values())


def _picture(summary: Mapping[str, Any]) -> Figure:
    metrics = metrics_of(next(iter(summary.values()))["methods"])
    panels = {f"{metric(column)}, %": [_relative(part, column) for part in summary.values()] for column in metrics}
    return drawings.forest(list(summary), [OURS] * len(summary), panels)


def _comparison(part: dict[str, Any]) -> list[Block]:
    gains = [
        [metric(column), label(part["best"][column]), Interval.of(part["gain"][column], "+.4f", _percent(part, column))]
        for column in part["gain"]
    ]
    results, strongest = in_order(part["methods"]), part["strongest"]["name"]
    if not gains:
        drawing = page.Figure.of(picture(results, strongest), "Every metric of every method with its 95 % interval")
        return [drawing, comparison(results, strongest)]
    return [comparison(results, strongest), Table(["Metric", "Best baseline", f"Gain of {label(MODEL)}"], gains)]


def _percent(part: dict[str, Any], column: str) -> str:
    return f"({part['gain'][column]['relative']:+.1%})"


def _spread(summary: Mapping[str, Any]) -> Table:
    metrics = metrics_of(next(iter(summary.values()))["methods"])
    rows = [
        [name, seed, *(f"{value:.4f}" for value in values)]
        for name, part in summary.items()
        for seed, values in part["spread"].items()
    ]
    return Table(["Data set", "Seed", *(f"{metric(name)} of {label(MODEL)}" for name in metrics)], rows)


def _ablations(name: str, part: dict[str, Any]) -> list[Block]:
    variants = {"full": part["methods"][MODEL]} | part["variants"]
    rows, metrics = [], metrics_of(variants)
    for variant, values in variants.items():
        loss = part["loss"].get(variant)
        rows.append(
            Row(
                [
                    f"{variant} (INVALID: leak)" if variant in part["invalid"] else variant,
                    *(Interval.of(values[column]) for column in metrics),
                    *(Interval.of(loss[column], "+.4f") if loss else "" for column in metrics),
                ],
                OURS if variant == "full" else "",
            )
        )
    marks = ["invalid" if v in part["invalid"] else OURS if v == "full" else "" for v in variants]
    panels = {metric(column): [Interval.of(v[column]) for v in variants.values()] for column in metrics}
    drawing = drawings.forest(list(variants), marks, panels)
    header = ["Variant", *map(metric, metrics), *(f"{metric(column)}, difference" for column in metrics)]
    warnings = [
        Text(
            f"INVALID: {leaky} was trained with held-out interactions in its graph. Its numbers only show the size of "
            "that leak and stand in no comparison.",
            "warning",
        )
        for leaky in part["invalid"]
    ]
    return [*warnings, page.Figure.of(drawing, f"Ablations on {name}, with 95 % intervals"), Table(header, rows)]


def _slices(part: dict[str, Any]) -> Table:
    rows = [
        Row(
            [label(m), *(f"{values[m]:.4f}" for values in part["slices"].values()), f"{part['coverage'][m]:.4f}"],
            mark(m, part["strongest"]["name"]),
        )
        for m in in_order(part["methods"])
    ]
    slices = (f"{name} ({values['users']:,} users)" for name, values in part["slices"].items())
    return Table(["Method", *slices, "Coverage@20"], rows)


def _cold(cold: dict[str, Any]) -> list[Block]:
    note = f"First seed; {cold['users']:,} users with cold test items, {cold['candidates']:,} cold items."
    return [cold_table(cold), Text(note)]


def _heat(bias: dict[str, Any]) -> Figure:
    """Draw the learned scalars, a row per bucket and a column per head, zero in white."""
    heads, names = bias["heads"], bias["buckets"]
    figure = Figure(figsize=(4 + 0.5 * len(heads), 0.24 * len(names) + 1), layout="constrained")
    axis = figure.subplots()
    limit = max((abs(value) for head in heads for value in head), default=0) or 1
    columns = [list(row) for row in zip(*heads, strict=True)]
    drawn = axis.pcolormesh(columns, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_yticks([place + 0.5 for place in range(len(names))], names, fontsize=8)
    axis.set_xticks([place + 0.5 for place in range(len(heads))], [f"head {place + 1}" for place in range(len(heads))])
    axis.invert_yaxis()
    figure.colorbar(drawn, ax=axis)
    return figure


def _curves(by_seed: dict[str, pl.DataFrame]) -> Figure:
    figure = Figure(figsize=(9, 2.8))
    measured = "recall@20" if "recall@20" in next(iter(by_seed.values())).columns else "ndcg@10"
    for axis, column in zip(figure.subplots(1, 2), ("loss", measured), strict=True):
        for name, curve in by_seed.items():
            if column in curve.columns:
                axis.plot(curve["epoch"].to_numpy(), curve[column].to_numpy(), label=name, linewidth=1.2)
        axis.set_title("Training loss" if column == "loss" else f"{metric(column)} on validation")
        axis.set_xlabel("epoch")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    return figure


def _costs(summary: dict[str, Any]) -> Table:
    stages = list(dict.fromkeys(s for part in summary.values() for s in part["seconds"].get("full", {})))
    names = list(summary)
    rows = [[stage, *(summary[n]["seconds"]["full"].get(stage, "") for n in names)] for stage in stages]
    return Table(["Stage", *names], rows)
