"""The page's section on the timed stream: a table of all methods, and quality against cost with and without limit."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.reporting import page
from symbiosis.routing.experiments.comparison_results import SINGLES, SplitResult, shares
from symbiosis.routing.experiments.timed import WAITS_SEEN
from symbiosis.routing.experiments.timed_results import LIMITED_SHARES
from symbiosis.routing.experiments.waits import LEADER, PENALTY
from symbiosis.routing.metrics.metrics import cost_key, hull

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from symbiosis.routing.metrics.curves import Curve

DRAWN = (
    LEADER,
    PENALTY,
    "router",
    f"nearest_neighbours{WAITS_SEEN}",
    "nearest_neighbours",
    "domain_mean",
    "frugal_gpt",
    "auto_mix",
    "oracle",
)

_OWN = " and counts what it sent since its last look"


def section(splits: Sequence[SplitResult], numbers: Mapping[str, Any], name: Callable[[str], str]) -> list[str]:
    """Return the parts of the section.

    Parameters
    ----------
    splits
        As they were played, with streams.
    numbers
        See `symbiosis.routing.experiments.timed_results.summary`.
    name
        How a method is called on the page.
    """
    stream = numbers["params"]
    limits = (
        f"{stream['queries_per_s']:g} queries a second ({stream['arrivals']}), waits looked at every "
        f"{stream['refresh_s']:g} s; a query that would wait longer than {stream['limit_s']:g} s is dropped, scores 0 "
        f"and is {'' if stream['charge_dropped'] else 'not '}charged, but what a cascade's earlier LLMs answered is; "
        f"{stream['workers']} workers per LLM{', where not given otherwise' if stream['llms'] else ''}."
    )
    if stream["controls"]:
        names = ", ".join(name(control) for control in stream["controls"])
        limits += f" As a control, {names} also see the waits: by the router's rule, its speeds and predicted lengths."
    if stream["failure"] or any(own.get("failure") for own in stream["llms"].values()):
        limits += f" Attempts fail with probability {stream['failure']:g}, where not given otherwise; "
        limits += f"{stream['attempts']} attempts, then {stream['on_failure']}."
    if stream["jitter"]:
        limits += f" The log of a service time has a standard deviation of {stream['jitter']:g}."
    load = ", ".join(f"{llm} {share:.2f}" for llm, share in numbers["load"].items())
    return [
        page.section("Under a time limit"),
        page.note(limits + f" Load, if an LLM got every query (above 1 its queue grows without end): {load}."),
        page.figure(_curves(splits, name), "Quality against cost under the time limit"),
        _table(numbers["methods"], name),
        page.note(
            "The test queries once more, as a stream in a random order, the same for all methods, at up to "
            f"{stream['points']} operating points each, spread along the hull without waits. Methods whose "
            "names do not say that they see the waits choose as if no LLM were ever busy. The router that sees them "
            f"weighs the predicted time to the answer{_OWN if stream['own_dispatches'] else ''}; "
            "MixLLM's penalty weighs the waits as they were at the last look. A cascade's query queues at each of its "
            "LLMs, and what it spent on earlier ones counts as waiting. `random` and `zero` are one draw. AIQ and cost "
            "as above, of the points played; all is measured against the best single LLM without limit. What lies "
            "between two corners of a hull is a mix of their queries, which under the limit is not exactly what the "
            f"hull says. From `kept` on: at the cheapest point that keeps {100 * numbers['wanted_quality_share']:g} % "
            "of the best single LLM's quality without waits on these very queries (else at the best point): quality "
            "kept without and with the limit, cost, queries dropped "
            "and failed, seconds to the answer of those answered. Lead: AIQ of the router that sees the waits minus "
            "the method's. In brackets 95 % intervals by bootstrap over queries, paired; who waited for whom is left "
            "as it happened. `+`: the interval lies above zero."
        ),
    ]


def _percent(value: float | None) -> str:
    return "never" if value is None else f"{100 * value:.1f} %"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _between(bounds: Mapping[str, float], form: str = "{:.4f}") -> str:
    return f"[{form.format(bounds['low'])}, {form.format(bounds['high'])}]"


def _table(methods: Mapping[str, Any], name: Callable[[str], str]) -> str:
    rows, classes = [], {}
    for row, (method, own) in enumerate(sorted(methods.items(), key=lambda pair: -pair[1]["aiq"])):
        lead = own.get("lead_aiq_95")
        rows.append(
            [
                name(method),
                f"{own['aiq_idle']:.4f}",
                f"{own['aiq']:.4f} {_between(own['aiq_95'])}",
                *(_percent(own[cost_key(share)]) for share in LIMITED_SHARES),
                _percent(own["quality_share_idle"]),
                _percent(own["quality_share"]),
                _percent(own["cost_share"]),
                _percent(own["dropped"]),
                _percent(own["failed"]),
                _seconds(own["p50_s"]),
                _seconds(own["p99_s"]),
                "" if lead is None else f"{own['lead_aiq']:+.4f} {_between(lead, '{:+.4f}')}",
                "+" if lead and lead["low"] > 0 else "",
            ]
        )
        if method == LEADER:
            classes = {(row, column): "best" for column in range(len(rows[0]))}
    costs = [f"cost for {100 * share:g} %" for share in LIMITED_SHARES]
    header = ["method", "AIQ, no limit", "AIQ", *costs, "kept, no limit", "kept", "cost", "dropped", "failed", "p50 s"]
    return page.table([*header, "p99 s", "lead of the router that sees the waits", ""], rows, classes)


def _curves(splits: Sequence[SplitResult], name: Callable[[str], str]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 4.8))
    drawn = [method for method in DRAWN if all(method in split.streams for split in splits)]
    for number, method in enumerate(drawn):
        color, strong = f"C{number}", method == LEADER
        for timed in (True, False):
            if not timed and (method == PENALTY or method.endswith(WAITS_SEEN)):
                continue  # nearly the line of the same method that does not see them
            corners = _mean_hull(splits, method, timed)
            axes.plot(
                *(100 * corners.T),
                color=color,
                linewidth=2.2 if strong else 1.1,
                linestyle="-" if timed else "--",
                label=name(method) if timed else None,
            )
    axes.set(xlabel="% of the best single LLM's cost", ylabel="% of its quality (dashed: without limit)", xscale="log")
    axes.legend(fontsize=8)
    return drawing


def _mean_hull(splits: Sequence[SplitResult], method: str, timed: bool) -> np.ndarray:
    """Corners of the hull of all splits' points as shares, mean over splits at the same costs, (m, 2)."""

    def own(split: SplitResult) -> np.ndarray:
        stream = split.streams[method]
        curve: Curve = stream.timed if timed else stream.idle
        points = shares(curve, split.streams[SINGLES].idle)
        return hull(points[:, 0], points[:, 1])

    hulls = [own(split) for split in splits]
    start, end = max(h[0, 0] for h in hulls), max(h[-1, 0] for h in hulls)
    cost = np.geomspace(start, end, 60) if 0 < start < end else np.array([end])
    return np.column_stack([cost, np.mean([np.interp(cost, h[:, 0], h[:, 1]) for h in hulls], axis=0)])
