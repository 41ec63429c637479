"""The page of the comparison: quality against cost, feedback, new LLMs, and estimates from logs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.reporting import drawings, page
from symbiosis.reporting.names import INFORMED, label, strongest_baseline, told_apart
from symbiosis.reporting.page import OURS, STRONGEST, Block, Interval, Row, Section, Table, Text
from symbiosis.routing.experiments.comparison_results import ROUTER, SINGLES, SplitResult, shares
from symbiosis.routing.metrics.metrics import cost_key, hull
from symbiosis.routing.reports import choices, timed
from symbiosis.routing.reports.cells import SCORES, cost_shares, interval, mark, percent, score_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


STANDARD = (
    "On test queries, mean over the splits. RouterArena: its score at the best operating point (arXiv 2510.00202). "
    "APGR, CPT: gap between the cheapest and the best single LLM recovered on average over the range of their costs, "
    "and share of that range for 50 and 80 % of the gap (RouteLLM, arXiv 2406.18665, read for a pool). Gain and saving "
    "over the best single LLM by one setting (LLMRouterBench, arXiv 2601.07206; none: no setting is as good)."
)
FLIPS = (
    "Share of test queries of the first split that are sent to another LLM, each method at the router's operating "
    "point or its own of the nearest cost. Change of quality and cost: mean over all forms."
)


def html(splits: Sequence[SplitResult], numbers: Mapping[str, Any]) -> str:
    """Return the page as one HTML document.

    Parameters
    ----------
    splits
        The results of each split.
    numbers
        Of ``router_study.json``.
    """
    data, methods = numbers["data"], numbers["methods"]
    rival = strongest_baseline({name: one["aiq"] for name, one in methods.items()})
    ordered = dict(sorted(methods.items(), key=lambda pair: -pair[1]["aiq"]))
    body: list[Block] = [
        Text(verdict(numbers), "verdict"),
        page.Figure.of(_aiq(ordered, rival), "AIQ of every method with its 95 % interval"),
        Section(
            "Quality and cost over all trade-offs",
            [
                _compared(ordered, rival),
                Text(
                    "AIQ: mean quality along the concave hull between the costs of the cheapest and of the best single "
                    "LLM, mean over the splits. Cost: share of the best single LLM's cost at which the hull reaches a "
                    "share of its quality, mean over the splits (never: some split does not reach it). Lead: AIQ of "
                    "the router minus the method's. Whiskers: 95 % intervals by bootstrap over queries, paired for "
                    "leads; a query that several splits tested counts in all of them or in none. The strongest "
                    "baseline: the highest AIQ among those that see neither outcomes nor true labels of test queries."
                ),
                page.Figure.of(_curves(splits), "Quality against cost"),
                Section("All cost shares, and AIQ from cost 0", [cost_shares(methods, ROUTER, rival)], folded=True),
                *_log_cost(methods, rival),
                Section("Scores of other benchmarks", [standard_scores(ordered, rival), Text(STANDARD)], folded=True),
            ],
        ),
        Section(
            "One operating point, chosen on training queries",
            [
                _operating_point(numbers["operating_point"]),
                Text("Published by MixLLM, measured on other data (RouterBench):"),
                Table(["method", "quality of best single", "cost of best single"], PUBLISHED),
            ],
        ),
    ]
    if numbers.get("robustness"):
        body.append(Section("The same question in another form", [flips(numbers["robustness"]), Text(FLIPS)]))
    if "limited" in numbers:
        body.append(timed.section(splits, numbers["limited"]))
    if "domains" in numbers:
        note = "Every query is answered by methods trained on the other domains alone."
        body.append(Section("Domains left out", [_domains(numbers["domains"]), Text(note)]))
    body += [*choices.section(numbers), *_feedback(numbers["feedback"])]
    lead = (
        f"{data['queries']:,} queries, {data['llms']} LLMs, {len(splits)} random splits: "
        f"{splits[0].report['queries_training']:,} training and {len(splits[0].rows):,} test queries each."
    )
    return page.render("Routers compared", lead, body)


def verdict(numbers: Mapping[str, Any]) -> str:
    """Say in one sentence where the router's AIQ stands beside the strongest baseline's."""
    methods, point = numbers["methods"], numbers["operating_point"]
    rival = strongest_baseline({name: one["aiq"] for name, one in methods.items()})
    said = (
        f"The router keeps {percent(point['quality_share'])} of the best single LLM's quality at "
        f"{percent(point['cost_share'])} of its cost"
    )
    if ROUTER not in methods or rival is None or "router_lead_95" not in methods[rival]:
        return f"{said}."
    side = told_apart(**methods[rival]["router_lead_95"])
    return (
        f"{said}; its AIQ, {methods[ROUTER]['aiq']:.4f}, is {side} that of the strongest baseline, {label(rival)} "
        f"({methods[rival]['aiq']:.4f})."
    )


def _feedback(feedback: Mapping[str, Any]) -> list[Block]:
    """Return the sections on continual learning, new LLMs and off-policy estimates."""
    newcomers = feedback["adaptability"]
    withheld = "; ".join(" and ".join(names) for names in newcomers["withheld"])
    return [
        Section(
            "Continual learning",
            [
                page.Figure.of(_gains(feedback), "Gain by feedback"),
                _continual(feedback["continual"]),
                Text(
                    "Offline share of the training queries; the rest is a stream with waits. Quality of the test "
                    "queries afterwards at the headline trade-off; gains over no feedback, with paired 95 % intervals. "
                    "Shuffled: rewards of other queries, a control that should gain nothing."
                ),
                Section(
                    "Published by MixLLM, measured on other data",
                    [Table(["offline : online", "none", "refined", "binary"], PUBLISHED_FEEDBACK)],
                    folded=True,
                ),
            ],
        ),
        Section(
            "New LLMs that join mid-stream",
            [
                page.Figure.of(_joining(newcomers), "Share of the gain recovered"),
                Text(
                    f"Withheld by split: {withheld}. They join from probe queries, then learn on the stream. 1: as "
                    "good as if they had been there from the start; 0: as if they had not joined. Band: 95 % interval "
                    "over test queries."
                ),
            ],
        ),
        Section(
            "Value of other policies, estimated from a log",
            [
                _estimates(feedback["estimates"][0]),
                Text(
                    "Mean utility, estimated from a stream that was logged with exploration, beside the true value by "
                    "the full matrix of outcomes (first split)."
                ),
            ],
            folded=True,
        ),
    ]


def _if_there(numbers: Mapping[str, Any], key: str, form: str = ".4f") -> object:
    return interval(numbers, key, form) if f"{key}_95" in numbers else ""


def _log_cost(methods: Mapping[str, Any], rival: str | None) -> list[Block]:
    """Return the section on AIQ over log cost and on seeds, if any method has either."""
    rows = [
        Row(
            [
                label(method),
                _if_there(numbers, "aiq_log"),
                _if_there(numbers, "router_lead_log", "+.4f"),
                "{low:.4f} to {high:.4f}".format(**numbers["aiq_seeds"]) if "aiq_seeds" in numbers else "",
            ],
            mark(method, ROUTER, rival),
        )
        for method, numbers in sorted(methods.items(), key=lambda pair: -pair[1].get("aiq_log", 0.0))
    ]
    if not any(key in numbers for numbers in methods.values() for key in ("aiq_log", "aiq_seeds")):
        return []
    table = Table(["method", "AIQ over log cost", "router's lead", "AIQ over seeds"], rows)
    note = (
        "AIQ over seeds: the least and the largest AIQ of a method that was run with several seeds, over linear cost."
    )
    return [Section("AIQ over log cost, and spread over seeds", [table, Text(note)], folded=True)]


def standard_scores(methods: Mapping[str, Any], rival: str | None) -> Table:
    """Return the table of scores that other benchmarks report."""
    rows = [
        Row([label(method), *score_cells(numbers["standard"])], mark(method, ROUTER, rival))
        for method, numbers in methods.items()
    ]
    return Table(["method", *SCORES], rows)


def flips(robustness: Mapping[str, Any]) -> Table:
    """Return the table of changed choices: a row per form of the question, a column per method."""
    methods = robustness["methods"]
    names = list(next(iter(methods.values()))["flips"])
    rows: list[Row | Sequence[object]] = [
        [name.replace("_", " "), *(percent(one["flips"][name]) for one in methods.values())] for name in names
    ]
    rows.append(["blanks and case alone", *(percent(one["invisible"]) for one in methods.values())])
    rows.append(["all forms", *(percent(one["mean"]) for one in methods.values())])
    rows.append(["change of quality", *(f"{one['quality_change']:+.4f}" for one in methods.values())])
    rows.append(["change of cost", *(f"{one['cost_change']:+.1%}" for one in methods.values())])
    return Table([f"{robustness['queries']} queries", *map(label, methods)], rows)


def _compared(methods: Mapping[str, Any], rival: str | None) -> Table:
    rows = [
        Row(
            [
                label(method),
                interval(numbers, "aiq"),
                _if_there(numbers, "router_lead", "+.4f"),
                percent(numbers.get(cost_key(0.9725))),
                percent(numbers.get(cost_key(1.0))),
                "reference" if method in INFORMED else numbers["kind"],
            ],
            mark(method, ROUTER, rival),
        )
        for method, numbers in methods.items()
    ]
    return Table(["method", "AIQ", "router's lead", "cost for 97.25 %", "cost for 100 %", "kind"], rows)


def _operating_point(point: Mapping[str, Any]) -> Table:
    mean = [interval(point, key, ".2%") for key in ("quality_share", "cost_share")]
    rows: list[Row | Sequence[object]] = [Row(["mean over splits", *mean, ""], OURS)]
    for number, (split, weight) in enumerate(zip(point["by_split"], point["trade_offs"], strict=True), start=1):
        shown = (f"{split[key]:.2%}" for key in ("quality_share", "cost_share"))
        rows.append([f"split {number}", *shown, f"{weight:.3g}"])
    return Table(["", "quality of best single", "cost of best single", "trade-off"], rows)


def _domains(methods: Mapping[str, Any]) -> Table:
    known = {name: numbers for name, numbers in methods.items() if name != SINGLES}
    rival = strongest_baseline({name: numbers["aiq"] for name, numbers in known.items()})
    rows = []
    for name, numbers in sorted(known.items(), key=lambda pair: -pair[1]["aiq"]):
        lead: object = ""
        if "router_lead_95" in numbers:
            bounds = numbers["router_lead_95"]
            value = methods[ROUTER]["aiq"] - numbers["aiq"]
            lead = Interval(value, bounds["low"], bounds["high"], "+.4f")
        rows.append(Row([label(name), interval(numbers, "aiq"), lead], mark(name, ROUTER, rival)))
    return Table(["method", "AIQ", "router's lead"], rows)


def _continual(shares_of: Mapping[str, Any]) -> Table:
    rows = []
    for share, kinds in shares_of.items():
        for kind, numbers in kinds.items():
            gains = (
                interval(numbers, key, "+.4f") if key in numbers else ""
                for key in ("gain_quality", "gain_utility", "gain_aiq")
            )
            rows.append(
                [
                    f"{float(share):.0%} offline, {kind.replace('_', ' ')}",
                    f"{numbers['quality']:.4f}",
                    f"{numbers['quality_share']:.2%}",
                    percent(numbers["cost_share"]),
                    f"{numbers['aiq']:.4f}",
                    *gains,
                ]
            )
    header = ["feedback", "quality", "of best single", "cost", "AIQ", "gain in quality", "in utility", "in AIQ"]
    return Table(header, rows)


def _estimates(policies: Mapping[str, Any]) -> Table:
    names = list(next(iter(policies.values()))["estimates"])
    rows = [
        [
            label(policy),
            f"{numbers['truth']:.4f}",
            *(Interval(*(numbers["estimates"][name][end] for end in ("value", "low", "high"))) for name in names),
            f"{numbers['effective_sample_size']:.0f}",
        ]
        for policy, numbers in policies.items()
    ]
    return Table(["policy", "true value", *(name.upper() for name in names), "effective sample"], rows)


def _aiq(methods: Mapping[str, Any], rival: str | None) -> "Figure":
    shown = {
        name: numbers
        for name, numbers in methods.items()
        if name in (ROUTER, rival) or numbers["kind"] != "trivial" or name in INFORMED
    }
    marks = [OURS if name == ROUTER else STRONGEST if name == rival else "" for name in shown]
    values = [interval(numbers, "aiq") for numbers in shown.values()]
    return drawings.forest([label(name) for name in shown], marks, {"AIQ": values})


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
            label=label(name),
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
