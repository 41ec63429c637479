"""The page of all routing tables: verdict and one picture first, then who leads whom, and everything else per table."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from symbiosis.reporting import page
from symbiosis.reporting.names import INFORMED, label, strongest_baseline
from symbiosis.reporting.page import OURS, STRONGEST, Block, Interval, Row, Section, Table, Text
from symbiosis.routing.experiments.comparison_results import ROUTER
from symbiosis.routing.metrics.metrics import cost_key
from symbiosis.routing.reports.cells import SCORES, interval, percent, score_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABEL_LOSS = 0.005
"""AIQ that a router without labels may be below the one with them."""
SOON = 500
"""Queries within which newcomers should be taken up."""

LEFT = -0.3
"""Where methods are drawn that are worse than the mix of single LLMs."""

SHOWN = (ROUTER, "nearest_neighbours", "best_single")
"""Methods whose standard scores stand on this page; those of all others are on each table's own page."""


def html(numbers: Mapping[str, Any]) -> str:
    """Return the page as one HTML document.

    Parameters
    ----------
    numbers
        ``tables`` and ``bars``, see `symbiosis.routing.reports.overview`.
    """
    tables, bars = numbers["tables"], numbers["bars"]
    methods = _methods(tables)
    body: list[Block] = [
        Text(verdict(numbers), "verdict"),
        page.Figure.of(_placed(tables), "Routers between the mix of single LLMs and the oracle"),
        Section("What was wanted", [_bars(bars), Text(WANTED)]),
        Section("The router's lead in AIQ over every method", [_leads(tables, methods, ""), Text(LEADS)]),
        Section("The same over log cost", [_leads(tables, methods, "_log")], folded=True),
        Section("AIQ", [_values(tables, methods, lambda one: interval(one, "aiq")), Text(AIQ)]),
        Section("AIQ over log cost", [_values(tables, methods, _log)], folded=True),
        Section(
            "Cost for 97.25 % of the best single LLM's quality",
            [_values(tables, methods, lambda one: percent(one.get(cost_key(0.9725))))],
        ),
        Section("Scores of other benchmarks", [_standard(tables), Text(STANDARD)]),
        Section("The same question in another form", [_flips(tables), Text(FLIPS)]),
        Section("Newcomers, feedback and seeds", [_learning(tables), Text(LEARNING)]),
    ]
    lead = f"{len(tables)} tables: " + ", ".join(
        f"{name} ({data['queries']:,} queries, {data['llms']} LLMs, {len(data['splits'])} splits)"
        for name, data in ((name, table["data"]) for name, table in tables.items())
    )
    return page.render("Routers on every table", lead, body)


WANTED = (
    "Lead: the 95 % interval of the router's lead in AIQ above 0 over every baseline on at least half of the tables, "
    "below 0 on none. Baselines that are given the true label or the outcomes of test queries are shown, not counted."
)
LEADS = (
    "AIQ of the router minus the method's, 95 % intervals by paired bootstrap over queries, mean over splits. Green: "
    "the interval lies above 0; red: below."
)
AIQ = (
    "Mean quality along the concave hull between the costs of the cheapest and of the best single LLM. Noise ceiling: "
    "the class of each query in a latent-class model is known, the luck of each answer is not; its lead over the "
    "router is what a better text router could still gain, the oracle's lead over it is coin-flipping. With few "
    "queries the classes cannot be told apart, and of log lines that come again more than their class is known: where "
    "it lies below a router it is no ceiling. The mix of single LLMs (RouterBench's zero router) is the hull of their "
    "means over the test queries themselves, which flatters it where LLMs are many and queries few; the global mean "
    "is the same, chosen on training queries."
)
STANDARD = (
    "RouterArena's score at the best operating point; APGR and CPT of RouteLLM, read for a pool of LLMs; gain and "
    "saving of LLMRouterBench, by one setting (none: no setting is as good as the best single LLM)."
)
FLIPS = (
    "Share of the choices that change, at the router's operating point, over twelve forms of each question (blanks, "
    "case, end mark, typing error, other words, wrappers in English, German and Chinese). NN: nearest neighbours on "
    "the same vectors at the nearest cost."
)
LEARNING = (
    "Newcomers: share of the gain that LLMs added mid-stream had recovered by the last query shown. Feedback: gain in "
    "AIQ with the fewest offline queries. Seeds: least and largest AIQ of the router over seeds."
)


def verdict(numbers: Mapping[str, Any]) -> str:
    """Say in a few sentences on how many tables the router leads, and what was missed."""
    bars = numbers["bars"]
    lead = bars["lead"]
    ahead = [name for name, one in lead.items() if one["above_all"]]
    behind = {name: one["below"] for name, one in lead.items() if one["below"]}
    said = f"The router is ahead of every baseline, beyond noise, on {len(ahead)} of {len(lead)} tables"
    said += f" ({', '.join(ahead)})" if ahead else ""
    if behind:
        said += "; it is behind " + "; ".join(
            f"{', '.join(map(label, rivals))} on {name}" for name, rivals in behind.items()
        )
    else:
        said += " and behind none on any"
    lost = {name: one["lost"] for name, one in bars["labels"].items()}
    if lost:
        worst = max(lost, key=lambda name: lost[name])
        said += f". Without labels it loses at most {max(lost[worst], 0):.4f} of AIQ ({worst})"
    if "log_lines" in bars:
        lines = bars["log_lines"]
        side = "reaches" if lines["held"] else "misses"
        at = f"quality {lines['quality']:.4f} at nearest neighbours' cost"
        said += f". On log lines it {side} {lines['wanted']:.2f}: {at}"
    return f"{said}."


def _methods(tables: Mapping[str, Any]) -> list[str]:
    names: list[str] = []
    for table in tables.values():
        names += [name for name in table["methods"] if name not in names]
    mean = {
        name: [t["methods"][name]["aiq"] - t["methods"][ROUTER]["aiq"] for t in tables.values() if name in t["methods"]]
        for name in names
    }
    return sorted(names, key=lambda name: -sum(mean[name]) / len(mean[name]))


def _bars(bars: Mapping[str, Any]) -> Table:
    rows: list[list[object]] = []
    for name, one in bars["lead"].items():
        behind = f", behind {', '.join(map(label, one['below']))}" if one["below"] else ""
        rows.append(
            [f"lead on {name}", f"above {len(one['above'])} of {one['rivals']} baselines{behind}", one["above_all"]]
        )
    rows.append(["lead, over all tables", "", bars["lead_held"]])
    for name, one in bars["labels"].items():
        lost = f"{one['lost']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
        text = f"AIQ lost without labels {lost}, at most {LABEL_LOSS:g}"
        rows.append([f"no labels on {name}", text, one["lost"] <= LABEL_LOSS])
    for name, step in bars["newcomers"].items():
        text = "not within the queries played" if step is None else f"after {step} queries"
        rows.append([f"newcomers on {name}", f"90 % of the gain: {text}", step is not None and step <= SOON])
    if "log_lines" in bars:
        lines = bars["log_lines"]
        text = f"quality {lines['quality']:.4f} at nearest neighbours' cost, wanted {lines['wanted']:.2f}"
        rows.append(["log lines", text, lines["held"]])
    shown = [[what, text, "met" if held else "missed"] for what, text, held in rows]
    classes = {(row, 2): "pass" if held else "fail" for row, (_, _, held) in enumerate(rows)}
    return Table(["", "measured", ""], shown, classes)


def _mark(method: str, tables: Mapping[str, Any]) -> str:
    best = {strongest_baseline({n: m["aiq"] for n, m in t["methods"].items()}) for t in tables.values()}
    return OURS if method == ROUTER else STRONGEST if method in best and len(best) == 1 else ""


def _name(method: str) -> str:
    return f"{label(method)} (reference)" if method in INFORMED else label(method)


def _leads(tables: Mapping[str, Any], methods: list[str], axis: str) -> Table:
    key = f"router_lead{axis}"
    rows: list[Row | Sequence[object]] = []
    classes: dict[tuple[int, int], str] = {}
    for method in (name for name in methods if name != ROUTER):
        cells: list[object] = [_name(method)]
        for column, table in enumerate(tables.values(), start=1):
            one = table["methods"].get(method, {})
            if f"{key}_95" not in one:
                cells.append("")
                continue
            bounds = one[f"{key}_95"]
            cells.append(Interval(one[key], bounds["low"], bounds["high"], "+.4f"))
            if bounds["low"] > 0 or bounds["high"] < 0:
                classes[len(rows), column] = "pass" if bounds["low"] > 0 else "fail"
        rows.append(Row(cells, _mark(method, tables)))
    return Table(["over", *tables], rows, classes)


def _log(one: Mapping[str, Any]) -> object:
    return interval(one, "aiq_log") if "aiq_log_95" in one else ""


def _values(tables: Mapping[str, Any], methods: list[str], cell: Callable[[Mapping[str, Any]], object]) -> Table:
    rows = [
        Row(
            [_name(name), *(cell(t["methods"][name]) if name in t["methods"] else "" for t in tables.values())],
            _mark(name, tables),
        )
        for name in methods
    ]
    return Table(["method", *tables], rows)


def _standard(tables: Mapping[str, Any]) -> Table:
    rows = []
    for name, table in tables.items():
        for method in (one for one in SHOWN if one in table["methods"]):
            scores = score_cells(table["methods"][method]["standard"])
            rows.append(Row([name, label(method), *scores], OURS if method == ROUTER else ""))
    return Table(["table", "method", *SCORES], rows)


def _flips(tables: Mapping[str, Any]) -> Table:
    rows: list[list[object]] = []
    for name, table in tables.items():
        if not table["robustness"]:
            continue
        methods = table["robustness"]["methods"]
        pairs = [methods[ROUTER], methods.get("nearest_neighbours")]
        rows.append(
            [
                name,
                table["robustness"]["queries"],
                *("" if one is None else percent(one["invisible"]) for one in pairs),
                *("" if one is None else percent(one["mean"]) for one in pairs),
                *("" if one is None else f"{one['quality_change']:+.4f}" for one in pairs),
            ]
        )
    header = ["table", "queries", "blanks and case: router", "NN", "all forms: router", "NN", "quality: router", "NN"]
    return Table(header, rows)


def _learning(tables: Mapping[str, Any]) -> Table:
    rows: list[list[object]] = []
    for name, table in tables.items():
        joined, learned = table["newcomers"], table["feedback"]
        taken: object = ""
        if joined:
            last = joined["last"]
            taken = Interval(last["recovered"], last["low"], last["high"], ".0%", f"after {last['step']}")
        gains = [
            Interval(one["gain_aiq"], one["low"], one["high"], "+.4f") if (one := learned.get(kind)) else ""
            for kind in ("refined", "binary")
        ]
        seeds = table["methods"][ROUTER].get("aiq_seeds")
        spread = "" if seeds is None else f"{seeds['low']:.4f} to {seeds['high']:.4f}"
        rows.append([name, taken, f"{learned['offline_share']:.0%}", *gains, spread, table["classes"] or ""])
    header = [
        "table",
        "newcomers",
        "offline",
        "refined feedback",
        "binary feedback",
        "AIQ over seeds",
        "latent classes",
    ]
    return Table(header, rows)


def _placed(tables: Mapping[str, Any]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.5 * len(tables)), layout="constrained")
    axes = figure.subplots()
    drawn = {
        ROUTER: ("o", "#c92a2a"),
        "nearest_neighbours": ("s", "#2a6f97"),
        "known_class": ("D", "#e6a700"),
    }
    names = list(tables)
    for row, name in enumerate(names):
        places = tables[name].get("share_of_oracle", {})
        others = [v for m, v in places.items() if m not in drawn and m not in INFORMED and not m.startswith(ROUTER)]
        axes.plot([max(v, LEFT) for v in others], [row] * len(others), "|", color="0.55", markersize=9)
        for method, (form, colour) in drawn.items():
            if method in places:
                axes.plot([max(places[method], LEFT)], [row], form, color=colour, markersize=7)
    for method, (form, colour) in drawn.items():
        axes.plot([], [], form, color=colour, label=label(method))
    axes.plot([], [], "|", color="0.55", label="other baselines")
    axes.axvline(0, color="0.4", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(LEFT - 0.03, 1.03)
    axes.set_xlabel("AIQ: 0 the mix of single LLMs, 1 the oracle, which is lucky with every answer")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure
