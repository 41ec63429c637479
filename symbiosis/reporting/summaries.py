"""What the reports say, in short: a table and a headline for each."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.reporting.names import label, metric, strongest_baseline

REPORTS = Path("reports")
_PRIMARY = ("recall@20", "ndcg@10")
"""The metric of a headline: that of held-out sets, or of the next item."""
_CHOSEN_BY = {"recall@20": ("recall@20", "recall@40", "ndcg@100"), "ndcg@10": ("ndcg@10",)}
"""By that metric, those whose sum sorts methods, as `symbiosis.recommender.metrics.metrics.Protocol` does."""
T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """One report as a table.

    Attributes
    ----------
    title, note
        What was measured, and on what.
    header, rows
        Cells as text, the first column left-aligned.
    ours
        Number of our method's row.
    page
        Where the whole report is.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    ours: int | None
    page: Path


@dataclass(frozen=True)
class Headline:
    """One report in a line.

    Attributes
    ----------
    title, measure
        What was compared, and by which number.
    ours, strongest
        Our number with its interval, and the strongest baseline with its number; empty where there is none.
    gain
        Ours minus that baseline's, with its paired interval.
    page
        Where the whole report is.
    value, lead
        Our number and the gain alone; None where there is no gain.
    """

    title: str
    measure: str
    ours: str
    strongest: str
    gain: str
    page: Path
    value: float
    lead: float | None


def tables(reports: Path = REPORTS) -> list[Table]:
    """Return what the pipeline has reported so far as tables.

    Raises
    ------
    InputError
        There is no report yet, or one is damaged.
    """
    return _read(reports, {"recommender": _recommender, "router": _router, "router_study": _comparison})


def headlines(reports: Path = REPORTS) -> list[Headline]:
    """Return what the pipeline has reported so far, a line per report.

    Raises
    ------
    InputError
        As `tables`.
    """
    makers = {
        "recommender": _recommender_headline,
        "router": _router_headline,
        "router_study": _comparison_headline,
    }
    return _read(reports, makers)


def _read(reports: Path, makers: Mapping[str, Callable[[dict[str, Any], Path], T]]) -> list[T]:
    found = []
    for name, make in makers.items():
        if (reports / f"{name}.json").is_file():
            try:
                found.append(make(read_json(reports / f"{name}.json"), reports / f"{name}.html"))
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{reports / name}.json has another form than expected ({error!r})") from error
    if not found:
        raise InputError(f"no results in {reports} yet: run `make repro`")
    return found


def _recommender(report: dict[str, Any], page: Path) -> Table:
    methods = {"recommender": report["recommender"]} | report["baselines"]
    metrics = [name for name, value in methods["recommender"].items() if isinstance(value, Mapping)]
    by = _CHOSEN_BY[_primary(report)]
    ordered = sorted(methods, key=lambda name: -sum(methods[name][column]["mean"] for column in by))
    sizes = report["data"]
    return Table(
        "LLM for RecSys",
        f"{sizes['users']:,} users, {sizes['items']:,} items, {sizes['training interactions']:,} training "
        "interactions; mean over users [95 % interval]",
        ["method", *map(metric, metrics)],
        [[label(name), *(_interval(methods[name][column]) for column in metrics)] for name in ordered],
        ordered.index("recommender"),
        page,
    )


def _primary(report: dict[str, Any]) -> str:
    return next(name for name in _PRIMARY if name in report["recommender"])


def _recommender_headline(report: dict[str, Any], page: Path) -> Headline:
    primary = _primary(report)
    difference = report.get("difference")
    strongest, gain, lead = "", "", None
    if difference:
        strongest = f"{label(difference['to'])} {report['baselines'][difference['to']][primary]['mean']:.4f}"
        gain, lead = _interval(difference["recommender"][primary], "+"), difference["recommender"][primary]["mean"]
    own = report["recommender"][primary]
    return Headline("Recommender", metric(primary), _interval(own), strongest, gain, page, own["mean"], lead)


def _router(report: dict[str, Any], page: Path) -> Table:
    headline, reference = report["headline"], report["reference"]
    router = f"router_{headline['feedback']}"
    policies = (router, "nearest_neighbours", "random", "cheapest", "best_single", "oracle")
    rows = []
    for policy in policies:
        tested, curve = report["test"][policy], report["curves"].get(policy)
        name = f"{label(policy)} ({reference[policy]})" if policy in reference else label(policy)
        quality = _with_bounds(tested["quality"], tested["quality_95"])
        rows.append([name, quality, f"{tested['cost_usd']:.3g}", f"{curve['aiq']:.4f}" if curve else ""])
    return Table(
        "RecSys for LLM",
        f"{reference['queries_test']:,} test queries after a stream of {reference['queries_online']:,}, trade-off "
        f"{headline['trade_off']:g}; mean per query [95 % interval]; AIQ: mean quality over all trade-offs",
        ["method", "quality", "USD per query", "AIQ"],
        rows,
        0,
        page,
    )


def _router_headline(report: dict[str, Any], page: Path) -> Headline:
    ours = f"router_{report['headline']['feedback']}"
    return _aiq_headline("Router after a stream", report["curves"], ours, page)


def _comparison(report: dict[str, Any], page: Path) -> Table:
    ordered = sorted(report["methods"].items(), key=lambda pair: -pair[1]["aiq"])
    rows = []
    for name, values in ordered:
        cost = values.get("cost_at_97_25")
        lead = values.get("router_lead_95")
        rows.append(
            [
                label(name),
                _with_bounds(values["aiq"], values["aiq_95"]),
                "never" if cost is None else f"{100 * cost:.1f} %",
                _with_bounds(values["router_lead"], lead, "+") if lead else "",
            ]
        )
    return Table(
        "Routers compared",
        f"mean of {len(report['data']['splits'])} random splits [95 % interval]; AIQ: mean quality over all "
        "trade-offs; cost for 97.25 % of the best single LLM's quality, as a share of its cost; lead of the router's "
        "AIQ",
        ["method", "AIQ", "cost for 97.25 %", "router's lead"],
        rows,
        next((row for row, (name, _) in enumerate(ordered) if name == "router"), None),
        page,
    )


def _comparison_headline(report: dict[str, Any], page: Path) -> Headline:
    splits = len(report["data"]["splits"])
    return _aiq_headline(f"Routers compared, {splits} splits", report["methods"], "router", page)


def _aiq_headline(title: str, methods: Mapping[str, Any], ours: str, page: Path) -> Headline:
    own = methods[ours]
    rival = strongest_baseline({name: values["aiq"] for name, values in methods.items()})
    lead = methods[rival] if rival else {}
    return Headline(
        title,
        "AIQ",
        _with_bounds(own["aiq"], own.get("aiq_95")),
        f"{label(rival)} {methods[rival]['aiq']:.4f}" if rival else "",
        _with_bounds(lead["router_lead"], lead["router_lead_95"], "+") if "router_lead_95" in lead else "",
        page,
        own["aiq"],
        lead.get("router_lead"),
    )


def _interval(value: Mapping[str, float], sign: str = "") -> str:
    return _with_bounds(value["mean"], value, sign)


def _with_bounds(value: float, bounds: Mapping[str, float] | None, sign: str = "") -> str:
    form = f"{sign}.4f"
    return f"{value:{form}}" + (f" [{bounds['low']:{form}}, {bounds['high']:{form}}]" if bounds else "")
