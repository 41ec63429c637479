"""The short results table, for the terminal or README.md.  Print it:  symbiosis results"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symbiosis.core.artifacts import read_json, staged
from symbiosis.core.errors import InputError

REPORTS = Path("reports")
README = Path("README.md")
_MARKS = ("<!-- results: symbiosis results --readme -->", "<!-- end of results -->")


@dataclass(frozen=True)
class Table:
    """One half of Symbiosis.

    Attributes
    ----------
    title, note
        What was measured, and on what.
    header, rows
        Cells as text, the first column left-aligned.
    page
        Where the whole report lies.
    """

    title: str
    note: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    page: Path


def tables(reports: Path = REPORTS) -> list[Table]:
    """Read what the pipeline has reported so far.

    Raises
    ------
    InputError
        There is no report yet, or one is damaged.
    """
    makers = {"recommender": _recommender, "router": _router, "router_study": _comparison}
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
    metrics = ["recall@20", "recall@40", "ndcg@100"]
    methods = {"recommender": report["recommender"]} | report["baselines"]
    data = report["data"]
    return Table(
        "LLM for RecSys",
        f"{data['users']:,} users, {data['items']:,} items, {data['training interactions']:,} training interactions; "
        "mean over users [95 % interval]",
        ["method", "Recall@20", "Recall@40", "NDCG@100"],
        [[name, *(_interval(values[metric]) for metric in metrics)] for name, values in methods.items()],
        page,
    )


def _router(report: dict[str, Any], page: Path) -> Table:
    headline, reference = report["headline"], report["reference"]
    router = f"router_{headline['feedback']}"
    rows = []
    for policy in (router, "nearest_neighbours", "random", "cheapest", "best_single", "oracle"):
        tested, curve = report["test"][policy], report["curves"].get(policy)
        low, high = tested["quality_95"]["low"], tested["quality_95"]["high"]
        name = f"{policy} ({reference[policy]})" if policy in reference else policy
        quality = f"{tested['quality']:.4f} [{low:.4f}, {high:.4f}]"
        rows.append([name, quality, f"{tested['cost_usd']:.3g}", f"{curve['aiq']:.4f}" if curve else ""])
    return Table(
        "RecSys for LLM",
        f"{reference['queries_test']:,} test queries after a stream of {reference['queries_online']:,}, trade-off "
        f"{headline['trade_off']:g}; mean per query [95 % interval]; AIQ: mean quality over all trade-offs",
        ["policy", "quality", "USD per query", "AIQ"],
        rows,
        page,
    )


def _comparison(report: dict[str, Any], page: Path) -> Table:
    rows = []
    for name, values in sorted(report["methods"].items(), key=lambda pair: -pair[1]["aiq"]):
        low, high = values["aiq_95"]["low"], values["aiq_95"]["high"]
        cost = values.get("cost_at_97_25")
        lead = values.get("router_lead_95")
        rows.append(
            [
                name,
                f"{values['aiq']:.4f} [{low:.4f}, {high:.4f}]",
                "never" if cost is None else f"{100 * cost:.1f} %",
                f"{values['router_lead']:+.4f} [{lead['low']:+.4f}, {lead['high']:+.4f}]" if lead else "",
            ]
        )
    return Table(
        "Routers compared",
        f"mean of {len(report['data']['splits'])} random splits [95 % interval]; AIQ: mean quality over all "
        "trade-offs; cost for 97.25 % of the best single LLM's quality, as a share of its cost; lead of the router's "
        "AIQ",
        ["method", "AIQ", "cost for 97.25 %", "router's lead"],
        rows,
        page,
    )


def _interval(value: dict[str, float]) -> str:
    return f"{value['mean']:.4f} [{value['low']:.4f}, {value['high']:.4f}]"


def text(reports: Path = REPORTS) -> str:
    """Return the tables for a terminal."""
    parts = []
    for table in tables(reports):
        cells = [list(table.header), *map(list, table.rows)]
        widths = [max(len(row[c]) for row in cells) for c in range(len(table.header))]
        lines = [
            "  ".join(cell.ljust(width) if c == 0 else cell.rjust(width) for c, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(row, widths, strict=True)) for row in cells)
        ]
        parts.append("\n".join([table.title, table.note, "", *lines, "", f"whole report: {_shown(table.page)}"]))
    return "\n\n".join(parts)


def _shown(path: Path) -> Path:
    """Return a path as it is reached from here."""
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path


def markdown(reports: Path = REPORTS) -> str:
    """Return the tables as Markdown."""
    parts = []
    for table in tables(reports):
        rule = ["---", *["---:"] * (len(table.header) - 1)]
        rows = [f"| {' | '.join(row)} |" for row in (table.header, rule, *table.rows)]
        parts.append("\n".join([f"**{table.title}** ({table.note})", "", *rows, ""]))
    return "\n".join(parts)


def write_readme(readme: Path = README, reports: Path = REPORTS) -> None:
    """Put the tables between the marks of README.md.

    Raises
    ------
    InputError
        The marks are not there, once each.
    """
    begin, end = map(re.escape, _MARKS)
    document = readme.read_text(encoding="utf-8")
    if len(re.findall(f"{begin}.*?{end}", document, re.DOTALL)) != 1:
        raise InputError(f"{readme} must hold the lines `{_MARKS[0]}` and `{_MARKS[1]}` once")
    generated = f"{_MARKS[0]}\n{markdown(reports)}{_MARKS[1]}"
    document = re.sub(f"{begin}.*?{end}", lambda _: generated, document, flags=re.DOTALL)
    with staged(readme) as (temporary,):
        temporary.write_text(document, encoding="utf-8")
