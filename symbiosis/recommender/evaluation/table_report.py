"""The page of the full table: methods as columns, metrics as rows, data sets as blocks."""

import html
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from symbiosis.recommender.evaluation.evaluation import MODEL
from symbiosis.recommender.evaluation.report import LABELS
from symbiosis.recommender.metrics.metrics import METRICS
from symbiosis.reporting import page

_SPLITS = {
    "random": (
        "The test items are a random tenth of each user's history, as in the paper. That mixes times: a method may see "
        "what a user took after the item that is asked for. It favours methods of item likeness (ItemKNN, RP3beta, "
        "EASE, SLIM, iALS, the autoencoders, and this model, whose prompts have no order) and hurts the sequential "
        "ones (SASRec, GRU4Rec, BERT4Rec, FDSA, S3-Rec, UniSRec): they read what remains of the history in its order, "
        "with holes, and are asked for an item from anywhere in it."
    ),
    "temporal": (
        "The last items of each user are the test. That serves the sequential methods (SASRec, GRU4Rec, BERT4Rec, "
        "FDSA, S3-Rec, UniSRec), which read the history in its order, and takes from those of item likeness, among "
        "them this model, whose prompts have no order."
    ),
}


def render(summary: dict[str, Any], curves: dict[str, dict[str, pl.DataFrame]], samples: int) -> str:
    """Make the page.

    Parameters
    ----------
    summary
        As `symbiosis.recommender.evaluation.table.summarise` returns it.
    curves
        Curves of fine-tuning by data set and seed.
    samples
        Of the bootstrap.

    Returns
    -------
    str
        A self-contained HTML document.
    """
    body = [page.section("Comparison"), _comparison(summary)]
    body.append(
        page.note(
            f"Means over users, averaged over seeds. Best bold, second underlined. Gain: of {_label(MODEL)} over the "
            f"best baseline of that metric, in percent, with the paired 95 % interval of the difference ({samples:,} "
            "samples of the users; the seeds are not resampled). The best baseline is picked "
            "on the test, which favours it."
        )
    )
    body += [page.note(_SPLITS[split]) for split in dict.fromkeys(part["split"] for part in summary.values())]
    body += [page.section("Spread over seeds"), _spread(summary)]
    for name, part in summary.items():
        if part["variants"]:
            body += [page.section(f"Ablations: {name}"), *_warnings(part), _ablations(part)]
            body.append(page.figure(_bars(name, part), f"Ablations on {name}, with 95 % intervals"))
    body.append(
        page.note(
            "Difference to the full model, paired; an interval without 0 tells the two apart, for these seeds. Every "
            "variant has the full model's other settings: none was tuned again. A row of another commit (see the end) "
            "was compared with the full model of its own."
        )
    )
    for name, part in summary.items():
        body += [page.section(f"Slices, Recall@20: {name}"), _slices(part)]
        if part["cold items"]:
            body += [page.section(f"Cold items: {name}"), *_cold(part["cold items"])]
        if part["bias"]:
            drawing = _heat(part["bias"])
            body += [page.section(f"Learned bias: {name}"), page.figure(drawing, f"Learned bias on {name}")]
    for name, by_seed in curves.items():
        body += [page.section(f"Learning curves: {name}"), page.figure(_curves(by_seed), f"Learning curves on {name}")]
    body += [page.section("Cost: seconds"), _costs(summary), page.note(_COST), page.section("Made from")]
    body += [page.note(f"{name}: {told}.") for name, part in summary.items() for told in _sources(part["commits"])]
    lead = "; ".join(
        f"{name}: {part['data']['users']:,} users, {part['data']['items']:,} items, "
        f"{part['data']['training interactions']:,} training interactions, {len(part['seeds'])} seeds"
        for name, part in summary.items()
    )
    return page.page("Recommender: the full table", lead, body)


_COST = (
    "Wall time of a stage when it ran, whatever else the machine did: a baseline's is that of its whole tuning, the "
    "model's is one training with settings as given. Stages that were restored show the time of the run that made them."
)


def _sources(commits: dict[str, list[str]]) -> list[str]:
    """Tell which rows are of which commits; a row is compared with the full model of its own."""
    rows: dict[str, list[str]] = {}
    for variant, made_at in commits.items():
        rows.setdefault(", ".join(made_at), []).append(variant)
    return [f"commit {made_at}: {'; '.join(names)}" for made_at, names in rows.items()]


def _label(method: str) -> str:
    return LABELS.get(method, method)


def _metric(name: str) -> str:
    return name.replace("recall", "Recall").replace("ndcg", "NDCG").replace("auc", "AUC")


def _cell(value: dict[str, float], sign: str = "") -> str:
    return f"{value['mean']:{sign}.4f} ({value['low']:{sign}.4f} to {value['high']:{sign}.4f})"


def _comparison(summary: dict[str, Any]) -> str:
    methods = list(dict.fromkeys(name for part in summary.values() for name in part["methods"]))
    methods = [*(name for name in methods if name != MODEL), MODEL]  # ours last, as in the paper
    rows: list[list[object]] = []
    classes: dict[tuple[int, int], str] = {}
    for name, part in summary.items():
        for metric in METRICS:
            values = {m: part["methods"][m][metric]["mean"] for m in methods if m in part["methods"]}
            ordered = sorted(set(values.values()), reverse=True)
            for column, method in enumerate(methods, start=2):
                if method in values and values[method] in ordered[:2]:
                    classes[len(rows), column] = ("best", "second")[ordered.index(values[method])]
            gain = part["gain"][metric]
            rows.append(
                [
                    name if metric == next(iter(METRICS)) else "",
                    _metric(metric),
                    *(f"{values[m]:.4f}" if m in values else "" for m in methods),
                    f"{gain['relative']:+.1%} over {_label(part['best'][metric])}",
                    f"{gain['low']:+.4f} to {gain['high']:+.4f}",
                ]
            )
    return page.table(["Data set", "Metric", *map(_label, methods), "Gain", "Difference, 95 %"], rows, classes)


def _spread(summary: dict[str, Any]) -> str:
    rows = [
        [name, seed, *(f"{value:.4f}" for value in values)]
        for name, part in summary.items()
        for seed, values in part["spread"].items()
    ]
    return page.table(["Data set", "Seed", *(f"{_metric(name)} of {_label(MODEL)}" for name in METRICS)], rows)


def _warnings(part: dict[str, Any]) -> list[str]:
    return [
        f"<p><strong>INVALID: {html.escape(name)} was trained with held-out interactions in its graph. Its numbers "
        "only show what that leak is worth and stand in no comparison.</strong></p>"
        for name in part["invalid"]
    ]


def _ablations(part: dict[str, Any]) -> str:
    rows: list[list[object]] = [["full", *(_cell(part["methods"][MODEL][m]) for m in METRICS), *[""] * len(METRICS)]]
    for name, values in part["variants"].items():
        marked = f"{name} (INVALID: leak)" if name in part["invalid"] else name
        rows.append(
            [marked, *(_cell(values[m]) for m in METRICS), *(_cell(part["loss"][name][m], "+") for m in METRICS)]
        )
    return page.table(["Variant", *map(_metric, METRICS), *(f"{_metric(m)}, difference" for m in METRICS)], rows)


def _bars(name: str, part: dict[str, Any]) -> Figure:
    bars = {"full": part["methods"][MODEL]} | part["variants"]
    figure = Figure(figsize=(9, 0.9 + 0.32 * len(bars)))
    for axis, metric in zip(figure.subplots(1, len(METRICS), sharey=True), METRICS, strict=True):
        for place, (variant, values) in enumerate(bars.items()):
            colour = "#c92a2a" if variant in part["invalid"] else "#2a6f97" if variant == "full" else "#9db4c0"
            axis.barh(place, values[metric]["mean"], color=colour)
            axis.hlines(place, values[metric]["low"], values[metric]["high"], color="black", linewidth=1)
        axis.set_yticks(range(len(bars)), list(bars))
        axis.invert_yaxis()
        axis.set_title(_metric(metric))
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(name)
    figure.set_layout_engine("constrained")
    return figure


def _slices(part: dict[str, Any]) -> str:
    methods = list(part["methods"])
    rows = [
        [name, *(f"{values[m]:.4f}" for m in methods), f"{values['users']:,}"]
        for name, values in part["slices"].items()
    ]
    rows.append(["Coverage@20", *(f"{part['coverage'][m]:.4f}" for m in methods), ""])
    return page.table(["", *map(_label, methods), "Users"], rows)


def _cold(cold: dict[str, Any]) -> list[str]:
    rows: list[list[object]] = [["Random order", *(f"{value:.4f}" for value in cold["chance"].values())]]
    rows += [[_label(name), *map(_cell, values.values())] for name, values in cold["methods"].items()]
    told = f"First seed; {cold['users']:,} users with cold test items, {cold['candidates']:,} cold items."
    return [page.table(["", *map(_metric, cold["chance"])], rows), page.note(told)]


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
    for axis, column in zip(figure.subplots(1, 2), ("loss", "recall@20"), strict=True):
        for name, curve in by_seed.items():
            if column in curve.columns:
                axis.plot(curve["epoch"].to_numpy(), curve[column].to_numpy(), label=name, linewidth=1.2)
        axis.set_title("Training loss" if column == "loss" else "Recall@20 on validation")
        axis.set_xlabel("epoch")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    figure.set_layout_engine("constrained")
    return figure


def _costs(summary: dict[str, Any]) -> str:
    stages = list(dict.fromkeys(s for part in summary.values() for s in part["seconds"].get("full", {})))
    names = list(summary)
    rows = [[stage, *(summary[n]["seconds"]["full"].get(stage, "") for n in names)] for stage in stages]
    return page.table(["Stage", *names], rows)
