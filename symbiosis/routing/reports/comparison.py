"""The page of the comparison: quality against cost, feedback, LLMs that join, and estimates from logs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.reporting import page
from symbiosis.routing.experiments.comparison_results import ROUTER, SINGLES, SplitResult, shares
from symbiosis.routing.experiments.timed import WAITS_SEEN
from symbiosis.routing.experiments.waits import PENALTY
from symbiosis.routing.metrics.curves import SHARES
from symbiosis.routing.metrics.metrics import cost_key, hull
from symbiosis.routing.reports import timed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAMES = {
    "router": "router",
    "router_forest": "router, forest per LLM (MixLLM's predictor)",
    "router_without_tags": "router without tags",
    "router_clusters": "router, tags from k-means",
    PENALTY: "router, MixLLM's waiting penalty",
    "router_shuffled": "control: outcomes shuffled",
    "router_noise": "control: random vectors",
    "domain_mean": "domain mean (true label)",
    "subdomain_mean": "sub-domain mean (true label)",
    "zero": "mix of single LLMs",
}
# MixLLM, arXiv 2502.18482: on RouterBench, another set of queries and LLMs, with its time limit.
PUBLISHED = [
    ["MixLLM", "97.25 %", "24.18 %"],
    ["MixLLM, two LLMs added", "98.55 %", "18.36 %"],
    ["OptLLM, its best baseline", "96.39 %", "32.94 %"],
]
PUBLISHED_FEEDBACK = [
    ["80:20", "75.54", "76.45", "75.93"],
    ["50:50", "71.98", "72.99", "72.37"],
    ["30:70", "69.74", "71.29", "70.65"],
]
DRAWN = (ROUTER, "router_forest", "nearest_neighbours", "k_means", "domain_mean", "opt_llm", "frugal_gpt", "oracle")


def html(splits: Sequence[SplitResult], numbers: Mapping[str, Any]) -> str:
    """Return the page, complete in one file.

    Parameters
    ----------
    splits
        As they were played.
    numbers
        Of ``router_study.json``.
    """
    data = numbers["data"]
    body = [
        page.section("Quality and cost over all trade-offs"),
        page.figure(_curves(splits), "Quality against cost"),
        _compared(numbers["methods"]),
        page.note(
            "AIQ: mean quality along the concave hull between the costs of the cheapest and of the best single LLM, "
            "mean over the splits. Cost needed: share of the best single LLM's cost at which the hull reaches a share "
            "of its quality, mean over the splits (never: some split does not reach it). Lead: AIQ of the router minus "
            "the method's. In brackets 95 % intervals by bootstrap over queries, paired; a query that several splits "
            "tested counts in all of them or in none. Means over true labels are told the label of each test query. "
            "`+`: the lead's interval lies above zero."
        ),
        page.section("One operating point, chosen on training queries"),
        _operating_point(numbers["operating_point"]),
        page.note("Published by MixLLM, measured on other data (RouterBench):"),
        page.table(["method", "quality of best single", "cost of best single"], PUBLISHED),
    ]
    if "limited" in numbers:
        body += timed.section(splits, numbers["limited"], _name)
    if "domains" in numbers:
        body += [
            page.section("Domains left out"),
            _domains(numbers["domains"]),
            page.note("Every query is answered by methods trained on the other domains alone, nothing tuned on it."),
        ]
    body += [page.section("Continual learning"), page.figure(_gains(numbers["feedback"]), "Gain by feedback")]
    body += [_continual(numbers["feedback"]["continual"])]
    body += [
        page.note(
            "Offline share of the training queries; the rest is a stream with waits. Quality of the test queries "
            "afterwards at the headline trade-off; gains over no feedback with paired 95 % intervals. Shuffled: "
            "rewards of other queries, a control that should gain nothing. Published by MixLLM, measured on other data:"
        ),
        page.table(["offline : online", "none", "refined", "binary"], PUBLISHED_FEEDBACK),
        page.section("LLMs that join mid-stream"),
        page.figure(_joining(numbers["feedback"]["adaptability"]), "Share of the gain recovered"),
        page.note(
            "Withheld by split: "
            + "; ".join(" and ".join(names) for names in numbers["feedback"]["adaptability"]["withheld"])
            + ". They join from probe queries, then learn on the stream. 1: as good as had they been known from the "
            "start; 0: as if they had not come. Band: 95 % interval over test queries."
        ),
        page.section("What a log tells of other policies"),
        _estimates(numbers["feedback"]["estimates"][0]),
        page.note(
            "Mean utility, estimated from a stream that was logged with exploration, beside the truth that the full "
            "matrix of outcomes gives (first split)."
        ),
    ]
    lead = (
        f"{data['queries']:,} queries, {data['llms']} LLMs, {len(splits)} random splits: "
        f"{splits[0].report['queries_training']:,} training and {len(splits[0].rows):,} test queries each."
    )
    return page.page("Routers compared", lead, body)


def _name(method: str) -> str:
    if method.endswith(WAITS_SEEN):
        return f"{_name(method.removesuffix(WAITS_SEEN))}, waits seen"
    return NAMES.get(method, method.replace("_", " "))


def _between(bounds: Mapping[str, float], form: str = "{:.4f}") -> str:
    return f"[{form.format(bounds['low'])}, {form.format(bounds['high'])}]"


def _compared(methods: Mapping[str, Any]) -> str:
    rows, classes = [], {}
    for row, (method, numbers) in enumerate(sorted(methods.items(), key=lambda pair: -pair[1]["aiq"])):
        lead = numbers.get("router_lead_95")
        costs = [numbers.get(cost_key(share)) for share in SHARES]
        rows.append(
            [
                _name(method),
                numbers["kind"],
                f"{numbers['aiq']:.4f} {_between(numbers['aiq_95'])}",
                f"{numbers['aiq_to_zero']:.4f}",
                *("never" if cost is None else f"{100 * cost:.1f} %" for cost in costs),
                "" if lead is None else f"{numbers['router_lead']:+.4f} {_between(lead, '{:+.4f}')}",
                "+" if lead and lead["low"] > 0 else "",
            ]
        )
        if method == ROUTER:
            classes = {(row, column): "best" for column in range(len(rows[0]))}
    header = ["method", "kind", "AIQ", "AIQ from 0", *(f"cost for {100 * share:g} %" for share in SHARES)]
    return page.table([*header, "router's lead", ""], rows, classes)


def _operating_point(point: Mapping[str, Any]) -> str:
    rows = [
        [
            "mean",
            f"{100 * point['quality_share']:.2f} % {_between(point['quality_share_95'])}",
            f"{100 * point['cost_share']:.2f} % {_between(point['cost_share_95'])}",
            "",
        ]
    ]
    for number, (split, weight) in enumerate(zip(point["by_split"], point["trade_offs"], strict=True), start=1):
        rows.append(
            [
                f"split {number}",
                f"{100 * split['quality_share']:.2f} %",
                f"{100 * split['cost_share']:.2f} %",
                f"{weight:.3g}",
            ]
        )
    return page.table(["", "quality of best single", "cost of best single", "trade-off"], rows)


def _domains(methods: Mapping[str, Any]) -> str:
    rows = [
        [
            _name(method),
            f"{numbers['aiq']:.4f} {_between(numbers['aiq_95'])}",
            _between(numbers["router_lead_95"], "{:+.4f}") if "router_lead_95" in numbers else "",
        ]
        for method, numbers in methods.items()
        if method != SINGLES
    ]
    return page.table(["method", "AIQ", "router's lead"], rows)


def _continual(shares_of: Mapping[str, Any]) -> str:
    rows = []
    for share, kinds in shares_of.items():
        for kind, numbers in kinds.items():
            gained = "gain_quality" in numbers
            rows.append(
                [
                    f"{float(share):.0%} offline, {kind.replace('_', ' ')}",
                    f"{numbers['quality']:.4f}",
                    f"{100 * numbers['quality_share']:.2f} %",
                    f"{100 * numbers['cost_share']:.1f} %",
                    f"{numbers['aiq']:.4f}",
                    *(
                        f"{numbers[key]:+.4f} {_between(numbers[f'{key}_95'], '{:+.4f}')}" if gained else ""
                        for key in ("gain_quality", "gain_utility", "gain_aiq")
                    ),
                ]
            )
    header = ["feedback", "quality", "of best single", "cost", "AIQ", "gain in quality", "in utility", "in AIQ"]
    return page.table(header, rows)


def _estimates(policies: Mapping[str, Any]) -> str:
    names = list(next(iter(policies.values()))["estimates"])
    rows = [
        [
            _name(policy),
            f"{numbers['truth']:.4f}",
            *(f"{numbers['estimates'][name]['value']:.4f} {_between(numbers['estimates'][name])}" for name in names),
            f"{numbers['effective_sample_size']:.0f}",
        ]
        for policy, numbers in policies.items()
    ]
    return page.table(["policy", "truth", *(name.upper() for name in names), "effective sample"], rows)


def _curves(splits: Sequence[SplitResult]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 4.8))
    for name in (name for name in DRAWN if name in splits[0].curves):
        points = np.mean([shares(split.curves[name], split.curves[SINGLES]) for split in splits], axis=0)
        corners = hull(points[:, 0], points[:, 1])
        strong = name == ROUTER
        axes.plot(
            100 * corners[:, 0],
            100 * corners[:, 1],
            color="C3" if strong else None,
            linewidth=2.2 if strong else 1.1,
            linestyle="-" if strong else "--",
            label=_name(name),
        )
    axes.plot([24.18], [97.25], "k*", markersize=9, label="published by MixLLM, other data")
    axes.set(xlabel="% of the best single LLM's cost", ylabel="% of its quality", xscale="log")
    axes.legend(fontsize=8)
    return drawing


def _gains(feedback: Mapping[str, Any]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 3.6))
    learned = feedback["continual"]
    kinds = [kind for kind in next(iter(learned.values())) if kind != "none"]
    for number, kind in enumerate(kinds):
        gain = np.array([learned[share][kind]["gain_utility"] for share in learned])
        bounds = np.array(
            [[learned[share][kind]["gain_utility_95"][end] for share in learned] for end in ("low", "high")]
        )
        place = np.arange(len(learned)) + 0.15 * (number - (len(kinds) - 1) / 2)
        axes.errorbar(place, gain, yerr=np.abs(bounds - gain), fmt="o", capsize=3, label=kind.replace("_", " "))
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xticks(np.arange(len(learned)), [f"{float(share):.0%} offline" for share in learned])
    axes.set(ylabel="gain in utility over no feedback")
    axes.legend(fontsize=8)
    return drawing


def _joining(adaptability: Mapping[str, Any]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 3.4))
    rows = [row for row in adaptability["recovered"] if "recovered" in row]
    steps = [row["step"] for row in rows]
    axes.fill_between(steps, [row["low"] for row in rows], [row["high"] for row in rows], alpha=0.25, color="C3")
    axes.plot(steps, [row["recovered"] for row in rows], "o-", color="C3", markersize=3)
    axes.axhline(0.9, color="0.5", linewidth=0.8, linestyle=":")
    axes.set(xlabel="queries of the stream since the LLMs joined", ylabel="share of the gain recovered")
    return drawing
