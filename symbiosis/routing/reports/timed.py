"""The page's section on the stream with a time limit: a table of all methods, and quality against cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.reporting import drawings, page
from symbiosis.reporting.names import label, strongest_baseline
from symbiosis.reporting.page import OURS, Row, Section, Table, Text
from symbiosis.routing.experiments.comparison_results import SINGLES, SplitResult, shares
from symbiosis.routing.experiments.timed import WAITS_SEEN
from symbiosis.routing.experiments.timed_results import LIMITED_SHARES
from symbiosis.routing.experiments.waits import CYCLE, LEADER, PENALTY
from symbiosis.routing.metrics.metrics import cost_key, hull
from symbiosis.routing.reports.cells import interval, mark, percent, seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from symbiosis.routing.metrics.curves import Curve

DRAWN = (
    LEADER,
    PENALTY,
    CYCLE,
    "router",
    f"nearest_neighbours{WAITS_SEEN}",
    "nearest_neighbours",
    "domain_mean",
    "frugal_gpt",
    "auto_mix",
    "oracle",
)


def section(splits: Sequence[SplitResult], numbers: Mapping[str, Any]) -> Section:
    """Return the section.

    Parameters
    ----------
    splits
        The results of each split, with streams.
    numbers
        See `symbiosis.routing.experiments.timed_results.summary`.
    """
    methods = dict(sorted(numbers["methods"].items(), key=lambda pair: -pair[1]["aiq"]))
    rival = strongest_baseline({name: own["aiq"] for name, own in methods.items()})
    return Section(
        "Under a time limit",
        [
            Text(_setting(numbers)),
            page.Figure.of(_curves(splits), "Quality against cost under the time limit"),
            _table(methods, rival),
            Text(
                "The test queries once more, as a stream in a random order, the same for all methods. Methods whose "
                "names do not say that they see the waits choose as if no LLM were ever busy. AIQ and cost as above, "
                "measured against the best single LLM without limit. Kept: quality at the cheapest operating point "
                f"that keeps {100 * numbers['wanted_quality_share']:g} % of the best single LLM's quality without "
                "waits on these very queries (else at the best point). Lead: AIQ of the router that sees the waits "
                "minus the method's. Whiskers: 95 % intervals by bootstrap over queries, paired for leads; who waited "
                "for whom is not resampled."
            ),
            Section(
                "Quality without limit, costs, failures and times",
                [_details(methods, rival), Text(_how(numbers))],
                folded=True,
            ),
        ],
    )


def _setting(numbers: Mapping[str, Any]) -> str:
    """Say how the stream was played."""
    stream = numbers["params"]
    text = (
        f"{stream['queries_per_s']:g} queries a second ({stream['arrivals']}), waits looked up every "
        f"{stream['refresh_s']:g} s; a query that would wait longer than {stream['limit_s']:g} s is dropped, scores 0 "
        f"and is {'' if stream['charge_dropped'] else 'not '}charged, except for what a cascade's earlier LLMs "
        f"answered; {stream['workers']} workers per LLM{', where not given otherwise' if stream['llms'] else ''}."
    )
    if stream["controls"]:
        names = ", ".join(label(control) for control in stream["controls"])
        text += f" As a control, {names} also see the waits: by the router's rule, its speeds and predicted lengths."
    if stream["failure"] or any(own.get("failure") for own in stream["llms"].values()):
        text += f" Attempts fail with probability {stream['failure']:g}, where not given otherwise; "
        text += f"{stream['attempts']} attempts, then {stream['on_failure']}."
    if stream["jitter"]:
        text += f" The log of a service time has a standard deviation of {stream['jitter']:g}."
    load = ", ".join(f"{llm} {share:.2f}" for llm, share in numbers["load"].items())
    return f"{text} Load, if an LLM got every query (above 1 its queue grows without end): {load}."


def _how(numbers: Mapping[str, Any]) -> str:
    """Explain the details that the main table leaves out."""
    stream = numbers["params"]
    own = " and counts what it sent since its last look" if stream["own_dispatches"] else ""
    return (
        f"Up to {stream['points']} operating points each, spread along the hull without waits. The router that sees "
        f"the waits weighs the predicted time to the answer{own}; MixLLM's penalty weighs the waits as they were at "
        "the last look; worth per service cycle divides by one and the time to the answer over "
        f"{stream['cycle']['share'] * stream['limit_s']:g} s. A cascade's query queues at each of its LLMs, and the "
        "time at earlier ones counts as waiting. "
        "`random` and `zero` are one draw. What lies between two corners of a hull is a mix of their queries, which "
        "under the limit is not exactly what the hull says. Dropped, failed and seconds to the answer: at the "
        "operating point of `kept`; times of those answered."
    )


def _table(methods: Mapping[str, Any], rival: str | None) -> Table:
    rows = [
        Row(
            [
                label(method),
                interval(own, "aiq"),
                interval(own, "lead_aiq", "+.4f") if "lead_aiq_95" in own else "",
                interval(own, "quality_share", ".1%"),
                percent(own["cost_share"]),
                percent(own["dropped"]),
            ],
            mark(method, LEADER, rival),
        )
        for method, own in methods.items()
    ]
    return Table(["method", "AIQ", "lead of the router that sees the waits", "kept", "cost", "dropped"], rows)


def _details(methods: Mapping[str, Any], rival: str | None) -> Table:
    rows = [
        Row(
            [
                label(method),
                f"{own['aiq_idle']:.4f}",
                *(percent(own[cost_key(share)]) for share in LIMITED_SHARES),
                percent(own["quality_share_idle"]),
                percent(own["failed"]),
                seconds(own["p50_s"]),
                seconds(own["p99_s"]),
            ],
            mark(method, LEADER, rival),
        )
        for method, own in methods.items()
    ]
    costs = [f"cost for {100 * share:g} %" for share in LIMITED_SHARES]
    return Table(["method", "AIQ, no limit", *costs, "kept, no limit", "failed", "p50 s", "p99 s"], rows)


def _curves(splits: Sequence[SplitResult]) -> "Figure":
    from matplotlib import pyplot as plt

    drawing, axes = plt.subplots(figsize=(8, 4.8))
    drawn = [method for method in DRAWN if all(method in split.streams for split in splits)]
    for number, method in enumerate(drawn):
        strong = method == LEADER
        color = drawings.COLOURS[OURS] if strong else f"C{number}"
        for timed in (True, False):
            if not timed and (method in (PENALTY, CYCLE) or method.endswith(WAITS_SEEN)):
                continue  # nearly the line of the same method that does not see them
            corners = _mean_hull(splits, method, timed)
            axes.plot(
                *(100 * corners.T),
                color=color,
                linewidth=2.2 if strong else 1.1,
                linestyle="-" if timed else "--",
                label=label(method) if timed else None,
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
