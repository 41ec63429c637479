"""The router's page and the data of its plots."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from symbiosis.reporting import page
from symbiosis.routing.experiments.online import Evaluation
from symbiosis.routing.metrics.curves import SHARES
from symbiosis.routing.metrics.metrics import cost_key

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROUNDS_SHOWN = 200
PUBLISHED = {"MixLLM": (24.18, 97.25), "OptLLM": (32.94, 96.39)}  # % of GPT-4: cost, quality; on RouterBench
NAMES = {
    "router_none": "router, no feedback",
    "router_refined": "router, refined feedback",
    "router_binary": "router, binary feedback",
    "router_without_penalty": "router, blind to waits",
    "domain_mean": "domain mean (true label)",
    "subdomain_mean": "sub-domain mean (true label)",
    "nearest_neighbours": "nearest neighbours",
    "k_means": "k-means",
    "global_mean": "global mean",
    "singles": "mix of single LLMs",
    "best_single": "best single LLM",
    "cheapest": "cheapest LLM",
    "random": "random LLM",
    "oracle": "oracle",
}


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
    """Return the page, complete in one file."""
    numbers = evaluation.numbers
    reference, headline = numbers["reference"], numbers["headline"]
    router = NAMES[f"router_{headline['feedback']}"]
    singles = (
        f"best single LLM {reference['best_single']}, cheapest {reference['cheapest']}, both chosen on offline data"
    )
    return page.page(
        "Router",
        f"{len(llms)} LLMs, {reference['queries_test']} test queries after a stream of {reference['queries_online']}; "
        f"{singles}.",
        [
            page.section("Quality and cost of the test queries"),
            _tested(numbers["test"], headline["trade_off"]),
            page.note(
                f"Trade-off {headline['trade_off']:g}, LLMs idle. In brackets: 95 % bootstrap interval over queries. "
                "The means over true labels are told the label of each test query; the router sees its text only."
            ),
            page.section("All trade-offs"),
            page.figure(_quality_cost_figure(evaluation, router), "Quality against cost"),
            _curved(numbers["curves"], headline["feedback"]),
            page.note(
                "AIQ: mean quality along the non-decreasing concave hull between the costs of the cheapest and of the "
                "best single LLM; below it the same area over the cost from 0. Cost needed: where the hull reaches a "
                "share of the best single LLM's quality, as a share of its cost. Lead: AIQ of the router "
                f"({router}) minus the line's, with paired 95 % interval."
            ),
            page.section("With waiting times and the time limit"),
            page.figure(_budget_figure(evaluation, router), "Performance under budgets"),
            page.note(
                "Left: every LLM is idle. Right: the queries arrive as a stream, an LLM that is asked too much makes "
                "them wait, and who would wait beyond the limit is dropped and scores 0; the lines do not look at the "
                "waits. Shares of the best single LLM's quality and cost without a limit. Stars: published by MixLLM "
                "(arXiv 2502.18482) with its time limit, measured on other data (RouterBench, 11 LLMs)."
            ),
            _timed(numbers["test_with_time_limit"]),
            page.note("One operating point. Failed: no LLM answered, in every attempt."),
            page.section("The online stream"),
            page.figure(_regret_figure(evaluation), "Cumulative regret"),
            _streamed(numbers["online"]),
            page.section("Who answers the test queries"),
            page.figure(_shares_figure(evaluation, llms), "Share of the test queries by LLM"),
        ],
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _between(bounds: dict[str, float]) -> str:
    return f"[{100 * bounds['low']:.1f}, {100 * bounds['high']:.1f}]"


def _tested(tested: dict[str, Any], trade_off: float) -> str:
    rows = [
        [
            NAMES[name],
            f"{row['quality']:.4f}",
            f"{_percent(row['quality_share'])} {_between(row['quality_share_95'])}",
            f"{row['cost_usd']:.3g}",
            f"{_percent(row['cost_share'])} {_between(row['cost_share_95'])}",
        ]
        for name, row in tested.items()
    ]
    return page.table(["policy", "quality", "of best single", "USD per query", "of best single"], rows)


def _curved(curved: dict[str, Any], feedback: str) -> str:
    rows = []
    for name, row in curved.items():
        lead = row.get("router_lead")
        bounds = row.get("router_lead_95", {})
        rows.append(
            [
                NAMES[name],
                f"{row['aiq']:.4f}",
                f"{row['aiq_to_zero']:.4f}",
                *(_percent(row[cost_key(s)]) if cost_key(s) in row else "never" for s in SHARES),
                "" if lead is None else f"{lead:+.4f} [{bounds['low']:+.4f}, {bounds['high']:+.4f}]",
            ]
        )
    header = ["method", "AIQ", "AIQ from 0", *(f"cost for {100 * share:g} %" for share in SHARES), "router's lead"]
    return page.table(header, rows)


def _timed(timed: dict[str, Any]) -> str:
    rows = [
        [
            NAMES[name],
            _percent(row["quality_share"]),
            _percent(row["cost_share"]),
            _percent(row["dropped"]),
            _percent(row["failed"]),
            _percent(row["late"]),
            f"{row['p50_s']:.1f}",
            f"{row['p99_s']:.1f}",
        ]
        for name, row in timed.items()
    ]
    return page.table(["policy", "quality", "cost", "dropped", "failed", "late", "p50 s", "p99 s"], rows)


def _streamed(online: dict[str, Any]) -> str:
    rows = [
        [
            NAMES[name],
            f"{row['quality']:.4f}",
            f"{row['cost_usd']:.3g}",
            _percent(row["dropped"]),
            _percent(row["failed"]),
            f"{row['p50_s']:.1f}",
            f"{row['p99_s']:.1f}",
            f"{row['regret_per_query_best']:.1f}",
            f"{row['regret_fixed_best']:.1f}",
        ]
        for name, row in online.items()
    ]
    times = ["dropped", "failed", "p50 s", "p99 s"]
    header = ["policy", "quality", "USD per query", *times, "regret", "against best fixed LLM"]
    return page.table(header, rows)


def _quality_cost_figure(evaluation: Evaluation, router: str) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 4.8))
    headline = f"router_{evaluation.numbers['headline']['feedback']}"
    singles = evaluation.curves["singles"][0]
    axes.scatter(singles[:, 0], singles[:, 1], s=18, color="0.35", label="single LLMs", zorder=3)
    lines = ("singles", "oracle", "subdomain_mean", "domain_mean", "nearest_neighbours", "k_means")
    for name in lines:
        corners = evaluation.curves[name][1].corners
        axes.plot(corners[:, 0], corners[:, 1], "--", linewidth=1, label=NAMES[name])
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
    axes.set(xlabel="USD per query", ylabel="quality", xscale="log")
    axes.legend(fontsize=8)
    return drawing


def _budget_figure(evaluation: Evaluation, router: str) -> "Figure":
    """Quality over cost, both as shares of the best single LLM's, without and with the time limit."""
    from matplotlib import pyplot as plt

    drawing, pair = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True)
    best = evaluation.numbers["test"]["best_single"]
    scale = 100 / np.array([best["cost_usd"], best["quality"]])
    headline = f"router_{evaluation.numbers['headline']['feedback']}"
    for name, points in evaluation.limited.items():
        strong = name == "router"
        label = router if strong else NAMES[name]
        style = {"color": "C3", "linewidth": 2.0} if strong else {"linewidth": 1.1, "linestyle": "--"}
        idle = headline if name.startswith("router") else name
        if name != "router_without_penalty":  # at idle LLMs it decides as the router does
            pair[0].plot(*(evaluation.curves[idle][0] * scale).T, label=label, **style)
        pair[1].plot(*(points * scale).T, label=label, **style)
    for axes, title in zip(pair, ("without time limit", "with time limit"), strict=True):
        axes.set(xlabel="% of the best single LLM's cost", title=title, xscale="log")
    for name, (cost, quality) in PUBLISHED.items():
        pair[1].plot([cost], [quality], "*", color="0.2" if name == "MixLLM" else "0.6", label=f"{name}, other data")
    pair[0].set(ylabel="% of its quality")
    pair[1].legend(fontsize=7)
    return drawing


def _regret_figure(evaluation: Evaluation) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 3.6))
    for name, (per_query, _) in evaluation.regret.items():
        axes.plot(np.arange(1, len(per_query) + 1), per_query, linewidth=1.2, label=NAMES[name])
    axes.set(xlabel="query of the stream", ylabel="regret against the best LLM of each query")
    axes.legend(fontsize=8)
    return drawing


def _shares_figure(evaluation: Evaluation, llms: Sequence[str]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 0.5 * len(evaluation.shares) + 1.6))
    names = [NAMES[name] for name in evaluation.shares]
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
