"""The router's page and the data of its plots."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from symbiosis.reporting import page
from symbiosis.reporting.names import label, strongest_baseline, told_apart
from symbiosis.reporting.page import Block, Row, Section, Table, Text
from symbiosis.routing.experiments.online import Evaluation
from symbiosis.routing.metrics.metrics import cost_key
from symbiosis.routing.reports.cells import cost_shares, interval, mark, percent, seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROUNDS_SHOWN = 200
PUBLISHED = {"MixLLM": (24.18, 97.25), "OptLLM": (32.94, 96.39)}  # % of GPT-4: cost, quality; on RouterBench


def quality_cost(evaluation: Evaluation) -> pl.DataFrame:
    """Return cost (USD per query), quality and method of every operating point, for ``quality_cost.csv``."""
    parts = {name: points for name, (points, _) in evaluation.curves.items()}
    parts |= {f"{name}_with_time_limit": points for name, points in evaluation.limited.items()}
    frames = [
        pl.DataFrame(
            {"cost": np.round(points[:, 0], 9), "quality": np.round(points[:, 1], 6), "method": [name] * len(points)}
        ).unique(maintain_order=True)
        for name, points in parts.items()
    ]
    return pl.concat(frames).sort("method", "cost", "quality")


def regret(evaluation: Evaluation) -> pl.DataFrame:
    """Return round, cumulative regret against the best LLM of each query, and method, for ``regret.csv``.

    ``regret_fixed`` is against the single LLM that was best for the whole stream.
    """
    frames = []
    for name, (per_query, fixed) in sorted(evaluation.regret.items()):
        rounds = np.unique(np.linspace(0, len(per_query) - 1, ROUNDS_SHOWN).round().astype(np.int64))
        columns = {
            "round": rounds + 1,
            "regret": np.round(per_query[rounds], 6),
            "regret_fixed": np.round(fixed[rounds], 6),
            "method": [name] * len(rounds),
        }
        frames.append(pl.DataFrame(columns))
    return pl.concat(frames)


def html(evaluation: Evaluation, llms: Sequence[str]) -> str:
    """Return the page as one HTML document."""
    numbers = evaluation.numbers
    reference, headline = numbers["reference"], numbers["headline"]
    ours = f"router_{headline['feedback']}"
    rival = strongest_baseline({name: row["aiq"] for name, row in numbers["curves"].items()})
    lead = (
        f"{len(llms)} LLMs, {reference['queries_test']:,} test queries after a stream of "
        f"{reference['queries_online']:,}; best single LLM {reference['best_single']}, cheapest "
        f"{reference['cheapest']}, both chosen on offline data."
    )
    body: list[Block] = [
        Text(verdict(numbers), "verdict"),
        page.Figure.of(_quality_cost_figure(evaluation, label(ours)), "Quality against cost"),
        Section(
            "All trade-offs",
            [
                _curved(numbers["curves"], ours, rival),
                Section(
                    "All cost shares, and AIQ from cost 0", [cost_shares(numbers["curves"], ours, rival)], folded=True
                ),
                Text(
                    "AIQ: mean quality along the non-decreasing concave hull between the costs of the cheapest and of "
                    "the best single LLM; AIQ from 0: the same area over the cost from 0. Cost: where the hull reaches "
                    "a share of the best single LLM's quality, as a share of its cost. Lead: AIQ of the router "
                    f"({label(ours)}) minus the method's. Whiskers: 95 % intervals by bootstrap over queries, paired "
                    "for leads. The strongest baseline is the one of the highest AIQ that sees neither outcomes nor "
                    "the true labels of test queries."
                ),
            ],
        ),
        Section(
            "One trade-off",
            [
                _tested(numbers["test"], ours, rival),
                Text(
                    f"Test queries at trade-off {headline['trade_off']:g}, LLMs idle. The means over true labels are "
                    "given the label of each test query; the router sees its text only."
                ),
            ],
        ),
        Section(
            "With waiting times and the time limit",
            [
                page.Figure.of(_budget_figure(evaluation, label(ours)), "Performance under budgets"),
                Text(
                    "Left: every LLM is idle. Right: the queries arrive as a stream, a busy LLM makes them wait, and a "
                    "query that would wait beyond the limit is dropped and scores 0; dashed methods ignore the waits. "
                    "Shares of the best single LLM's quality and cost without a limit. Stars: published by MixLLM "
                    "(arXiv 2502.18482) with its time limit, measured on other data (RouterBench, 11 LLMs)."
                ),
                _timed(numbers["test_with_time_limit"], ours),
                Text("One operating point. Failed: no LLM answered, in every attempt."),
            ],
        ),
        Section(
            "The online stream",
            [page.Figure.of(_regret_figure(evaluation), "Cumulative regret"), _streamed(numbers["online"], ours)],
            folded=True,
        ),
        Section(
            "Which LLM answers the test queries",
            [page.Figure.of(_shares_figure(evaluation, llms), "Share of the test queries by LLM")],
            folded=True,
        ),
    ]
    return page.render("Router", lead, body)


def verdict(numbers: Mapping[str, Any]) -> str:
    """Say in one sentence what the router keeps, and where its AIQ stands beside the strongest baseline's."""
    headline, curves = numbers["headline"], numbers["curves"]
    rival = strongest_baseline({name: row["aiq"] for name, row in curves.items()})
    ours = label(f"router_{headline['feedback']}")
    said = (
        f"The {ours}, keeps {percent(headline['quality_share'])} of the best single "
        f"LLM's quality at {percent(headline['cost_share'])} of its cost"
    )
    if rival is None or "router_lead_95" not in curves[rival]:
        return f"{said}."
    side = told_apart(**curves[rival]["router_lead_95"])
    return (
        f"{said}; its AIQ, {headline['aiq']:.4f}, is {side} that of the strongest baseline, {label(rival)} "
        f"({curves[rival]['aiq']:.4f})."
    )


def _tested(tested: Mapping[str, Any], ours: str, rival: str | None) -> Table:
    rows = [
        Row(
            [
                label(name),
                interval(row, "quality"),
                interval(row, "quality_share", ".1%"),
                f"{row['cost_usd']:.3g}",
                interval(row, "cost_share", ".1%"),
            ],
            mark(name, ours, rival),
        )
        for name, row in sorted(tested.items(), key=lambda pair: -pair[1]["quality"])
    ]
    return Table(["method", "quality", "quality of best single", "USD per query", "cost of best single"], rows)


def _curved(curves: Mapping[str, Any], ours: str, rival: str | None) -> Table:
    rows = [
        Row(
            [
                label(name),
                interval(row, "aiq"),
                interval(row, "router_lead", "+.4f") if "router_lead_95" in row else "",
                percent(row.get(cost_key(0.9725))),
                percent(row.get(cost_key(1.0))),
            ],
            mark(name, ours, rival),
        )
        for name, row in sorted(curves.items(), key=lambda pair: -pair[1]["aiq"])
    ]
    return Table(["method", "AIQ", "router's lead", "cost for 97.25 %", "cost for 100 %"], rows)


def _timed(limited: Mapping[str, Any], ours: str) -> Table:
    rows = [
        Row(
            [
                label(name),
                *(percent(row[key]) for key in ("quality_share", "cost_share", "dropped", "failed", "late")),
                seconds(row["p50_s"]),
                seconds(row["p99_s"]),
            ],
            mark(name, ours, None),
        )
        for name, row in sorted(limited.items(), key=lambda pair: -pair[1]["quality"])
    ]
    return Table(["method", "quality", "cost", "dropped", "failed", "late", "p50 s", "p99 s"], rows)


def _streamed(online: Mapping[str, Any], ours: str) -> Table:
    rows = [
        Row(
            [
                label(name),
                f"{row['quality']:.4f}",
                f"{row['cost_usd']:.3g}",
                percent(row["dropped"]),
                percent(row["failed"]),
                seconds(row["p50_s"]),
                seconds(row["p99_s"]),
                f"{row['regret_per_query_best']:.1f}",
                f"{row['regret_fixed_best']:.1f}",
            ],
            mark(name, ours, None),
        )
        for name, row in sorted(online.items(), key=lambda pair: -pair[1]["quality"])
    ]
    times = ["dropped", "failed", "p50 s", "p99 s"]
    return Table(["method", "quality", "USD per query", *times, "regret", "against best fixed LLM"], rows)


def _quality_cost_figure(evaluation: Evaluation, router: str) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 4.8))
    headline = f"router_{evaluation.numbers['headline']['feedback']}"
    singles = evaluation.curves["singles"][0]
    axes.scatter(singles[:, 0], singles[:, 1], s=18, color="0.35", label="single LLMs", zorder=3)
    lines = ("singles", "oracle", "subdomain_mean", "domain_mean", "nearest_neighbours", "k_means")
    for name in lines:
        corners = evaluation.curves[name][1].corners
        axes.plot(corners[:, 0], corners[:, 1], "--", linewidth=1, label=label(name))
    corners = evaluation.curves[headline][1].corners
    axes.plot(corners[:, 0], corners[:, 1], color="C3", linewidth=2, label=router)
    limited = evaluation.limited["router"]
    axes.scatter(
        limited[:, 0],
        limited[:, 1],
        s=8,
        color="C3",
        alpha=0.5,
        label=f"{router}, with time limit",
    )
    axes.set(xlabel="USD per query", ylabel="quality", xscale=_cost_scale(axes))
    axes.legend(fontsize=8)
    return drawing


def _cost_scale(axes: "Axes") -> str:
    """Return a logarithmic axis for costs if there are different ones above 0."""
    shown = axes.dataLim
    return "log" if 0 < shown.minposx < shown.x1 else "linear"


def _budget_figure(evaluation: Evaluation, router: str) -> "Figure":
    """Quality over cost, both as shares of the best single LLM's, without and with the time limit."""
    from matplotlib import pyplot as plt

    drawing, pair = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True)
    best = evaluation.numbers["test"]["best_single"]
    whole = np.array([best["cost_usd"], best["quality"]])
    scale = np.divide(100, whole, out=np.zeros(2), where=whole > 0)  # of nothing there is no share
    headline = f"router_{evaluation.numbers['headline']['feedback']}"
    for name, points in evaluation.limited.items():
        strong = name == "router"
        shown = router if strong else label(name)
        style = {"color": "C3", "linewidth": 2.0} if strong else {"linewidth": 1.1, "linestyle": "--"}
        idle = headline if name.startswith("router") else name
        if name != "router_without_penalty":  # at idle LLMs it decides as the router does
            pair[0].plot(*(evaluation.curves[idle][0] * scale).T, label=shown, **style)
        pair[1].plot(*(points * scale).T, label=shown, **style)
    for axes, title in zip(pair, ("without time limit", "with time limit"), strict=True):
        axes.set(xlabel="% of the best single LLM's cost", title=title, xscale=_cost_scale(axes))
    for name, (cost, quality) in PUBLISHED.items():
        pair[1].plot([cost], [quality], "*", color="0.2" if name == "MixLLM" else "0.6", label=f"{name}, other data")
    pair[0].set(ylabel="% of its quality")
    pair[1].legend(fontsize=7)
    return drawing


def _regret_figure(evaluation: Evaluation) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 3.6))
    for name, (per_query, _) in evaluation.regret.items():
        axes.plot(np.arange(1, len(per_query) + 1), per_query, linewidth=1.2, label=label(name))
    axes.set(xlabel="query of the stream", ylabel="regret against the best LLM of each query")
    axes.legend(fontsize=8)
    return drawing


def _shares_figure(evaluation: Evaluation, llms: Sequence[str]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 0.5 * len(evaluation.shares) + 1.6))
    names = [label(name) for name in evaluation.shares]
    left = np.zeros(len(names))
    colours = plt.get_cmap("tab20")
    for arm, llm in enumerate(llms):
        share = np.array([values[arm] for values in evaluation.shares.values()])
        axes.barh(names, share, left=left, color=colours(arm % 20), label=llm)
        left += share
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of the test queries")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return drawing
