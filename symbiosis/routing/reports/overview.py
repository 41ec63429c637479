"""All routing tables on one page.  Run it:  python -m symbiosis.routing.reports.overview FOLDER PAGE

FOLDER/TABLE/router_study.json are the comparisons that `flows.routers` has run, one per table; PAGE.json and PAGE.html
are written.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from symbiosis.core.artifacts import read_json, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.rounding import rounded
from symbiosis.reporting.names import INFORMED
from symbiosis.routing.experiments.comparison_results import ROUTER
from symbiosis.routing.metrics.metrics import cost_key
from symbiosis.routing.reports import overview_page

UNLABELLED = "router_without_labels"
CEILING = "known_class"
NEIGHBOURS = "nearest_neighbours"
LOG_LINES, LOG_QUALITY = "optllm_log_parsing", 0.80
JOINED = 0.9
"""Share of the gain by which newcomers count as taken up, if its interval lies above 0."""


def collect(folder: Path) -> dict[str, dict[str, Any]]:
    """Read what of every table goes on the page, by table.

    Raises
    ------
    InputError
        There is no table, or one is from an older version.
    """
    found = {file.parent.name: read_json(file) for file in sorted(folder.glob("*/router_study.json"))}
    if not found:
        raise InputError(f"{folder} holds no comparison of routers: run `make routers`")
    for name, numbers in found.items():
        if "standard" not in next(iter(numbers["methods"].values())):
            raise InputError(f"{folder / name} is from an older version: run `make routers` again")
    return {name: _table(numbers) for name, numbers in found.items()}


def _table(numbers: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("kind", "aiq", "aiq_95", "aiq_log", "aiq_log_95", "aiq_seeds", "router_lead", "router_lead_95",
            "router_lead_log", "router_lead_log_95", "top_quality", "top_cost", "router_quality_at_top",
            cost_key(0.9725), "standard")  # fmt: skip
    methods = {
        name: {key: value for key, value in one.items() if key in kept} for name, one in numbers["methods"].items()
    }
    settings = numbers["settings"][0].get(CEILING, {})
    found = {
        "data": numbers["data"],
        "methods": methods,
        "operating_point": numbers["operating_point"],
        "router": numbers["router"],
        "robustness": numbers.get("robustness"),
        "classes": settings.get("classes"),
        "newcomers": _newcomers(numbers["feedback"]["adaptability"]["recovered"]),
        "feedback": _feedback(numbers["feedback"]["continual"]),
    }
    if {"zero", "oracle"} <= methods.keys():
        found["share_of_oracle"] = _share_of_oracle(methods)
    return found


def _newcomers(rows: list[dict[str, Any]]) -> dict[str, Any]:
    known = [row for row in rows if "recovered" in row]
    if not known:
        return {}
    taken = [row["step"] for row in known if row["recovered"] >= JOINED and row["low"] > 0]
    return {"last": known[-1], "first_taken_up": min(taken, default=None)}


def _feedback(continual: Mapping[str, Any]) -> dict[str, Any]:
    """Gain in AIQ by refined and binary feedback, at the least share of offline queries."""
    share = min(continual, key=float)
    return {
        "offline_share": float(share),
        **{
            kind: {"gain_aiq": continual[share][kind]["gain_aiq"], **continual[share][kind]["gain_aiq_95"]}
            for kind in ("refined", "binary")
            if kind in continual[share]
        },
    }


def _share_of_oracle(methods: Mapping[str, Any]) -> dict[str, float]:
    """Place every method between the mix of single LLMs (0) and the oracle (1), by AIQ."""
    floor, top = methods["zero"]["aiq"], methods["oracle"]["aiq"]
    return {name: rounded((one["aiq"] - floor) / (top - floor)) for name, one in methods.items()} if top > floor else {}


def rivals(table: Mapping[str, Any]) -> list[str]:
    """Return the baselines that the router has to lead: no form of it, and none that sees what no router can."""
    return [name for name in table["methods"] if not name.startswith(ROUTER) and name not in INFORMED]


def bars(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Judge what the router should reach.

    Returns
    -------
    dict
        ``lead``: by table, the rivals that the 95 % interval of its lead in AIQ is ``above`` and ``below``, and whether
        it is above all; ``held``: whether that is so on half of the tables or more, and below on none; ``labels``: by
        table, AIQ lost without labels; ``log_lines``: quality at the cost of nearest neighbours' best point.
    """
    lead: dict[str, dict[str, Any]] = {}
    for name, table in tables.items():
        bounds = {rival: table["methods"][rival]["router_lead_95"] for rival in rivals(table)}
        above = [rival for rival, one in bounds.items() if one["low"] > 0]
        below = [rival for rival, one in bounds.items() if one["high"] < 0]
        lead[name] = {"above": above, "below": below, "above_all": len(above) == len(bounds), "rivals": len(bounds)}
    lost = {
        name: {"lost": one["router_lead"], **one["router_lead_95"]}
        for name, table in tables.items()
        if (one := table["methods"].get(UNLABELLED)) is not None
    }
    found: dict[str, Any] = {
        "lead": lead,
        "lead_held": 2 * sum(one["above_all"] for one in lead.values()) >= len(lead)
        and not any(one["below"] for one in lead.values()),
        "labels": lost,
        "labels_held": all(one["lost"] <= overview_page.LABEL_LOSS for one in lost.values()),
        "newcomers": {name: table["newcomers"].get("first_taken_up") for name, table in tables.items()},
    }
    if (lines := tables.get(LOG_LINES)) is not None and NEIGHBOURS in lines["methods"]:
        reached = lines["methods"][NEIGHBOURS]["router_quality_at_top"]
        found["log_lines"] = {"quality": reached, "wanted": LOG_QUALITY, "held": reached >= LOG_QUALITY}
    return found


def write(folder: Path, page: Path) -> None:
    """Write the page and its numbers."""
    tables = collect(folder)
    numbers = {"tables": tables, "bars": bars(tables)}
    with staged(page.with_suffix(".json"), page.with_suffix(".html")) as (json_file, html_file):
        write_json(json_file, numbers)
        html_file.write_text(overview_page.html(numbers), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m symbiosis.routing.reports.overview", description=__doc__)
    parser.add_argument("folder", type=Path, help="with the results of each table")
    parser.add_argument("page", type=Path, help="path of the page without its suffix")
    chosen = parser.parse_args()
    try:
        write(chosen.folder, chosen.page)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
