"""A verdict to read: as Markdown for a Prefect artifact, and as a page with a picture."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from symbiosis.registry.checks.check import Check
from symbiosis.registry.verdict import Verdict
from symbiosis.reporting.page import Block, Figure, Interval, Table, Text, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

_HEADER = ("check", "passed", "measured", "limit", "decides")
_COLOURS = {True: "#2b8a3e", False: "#c92a2a"}
_DECIDED = {"passed": "passes", "refused": "is refused", "unchanged": "serves already"}


def markdown(verdict: Verdict) -> str:
    """Return the verdict as Markdown: one sentence and a table of the checks."""
    lines = [f"**{_escaped(verdict.words)}**"]
    if verdict.checks:
        lines += ["", f"| {' | '.join(_HEADER)} |", f"| {' | '.join(['---'] * len(_HEADER))} |"]
        lines += [f"| {' | '.join(map(_escaped, _cells(check)))} |" for check in verdict.checks]
        lines += ["", *(f"- {_escaped(check.words)}" for check in verdict.checks)]
    return "\n".join(lines) + "\n"


def html(verdict: Verdict) -> str:
    """Return the verdict as one HTML document."""
    body: list[Block] = [Text(verdict.words, "verdict")]
    if drawn := [(check, shown) for check in verdict.checks if (shown := _interval(check))]:
        body.append(Figure.of(_figure(drawn), "Differences with 95 % intervals, and what is accepted at worst"))
    rows = []
    for check in verdict.checks:
        name, passed, measured, *rest = _cells(check)
        rows.append((name, passed, _interval(check) or measured, *rest))
    classes = {(row, 1): "pass" if check.passed else "fail" for row, check in enumerate(verdict.checks)}
    if rows:
        body.append(Table(_HEADER, rows, classes))
        body += [Text(check.words) for check in verdict.checks]
    champion = f"against the champion, {verdict.champion}" if verdict.champion else "there is no champion yet"
    title = f"The {verdict.kind}'s candidate {_DECIDED[verdict.standing]}"
    return render(title, f"{verdict.candidate}, {champion}; {verdict.at}.", body)


def _cells(check: Check) -> tuple[str, ...]:
    measured = "" if check.value is None else f"{check.value:.4g}"
    if check.low is not None and check.high is not None:
        measured += f" [{check.low:.4g}, {check.high:.4g}]"
    limit = "" if check.threshold is None else f"{check.threshold:g}"
    return check.name, "yes" if check.passed else "no", measured, limit, "yes" if check.decides else "no"


def _interval(check: Check) -> Interval | None:
    if check.value is None or check.low is None or check.high is None:
        return None
    return Interval(check.value, check.low, check.high)


def _figure(checks: Sequence[tuple[Check, Interval]]) -> "Drawing":
    """Draw each difference with its interval, and its limit as a bar that it must not cross."""
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(7, 0.8 + 0.4 * len(checks)), layout="constrained")
    axis = figure.subplots()
    for row, (check, shown) in enumerate(checks):
        colour = _COLOURS[check.passed] if check.decides else "0.5"
        axis.hlines(row, shown.low, shown.high, color=colour, linewidth=2)
        axis.plot([shown.value], [row], "o", color=colour, markersize=6)
        if check.threshold is not None:
            axis.vlines(check.threshold, row - 0.35, row + 0.35, color="0.2", linewidth=2, linestyle="--")
    axis.axvline(0, color="0.6", linewidth=0.8, linestyle=":")
    axis.set_yticks(range(len(checks)), [check.name for check, _ in checks])
    axis.set_ylim(len(checks) - 0.5, -0.5)
    axis.set_xlabel("candidate less what it is compared with; dashed: the limit; grey: does not decide")
    axis.grid(axis="x", color="0.9", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return text.replace("\\", "\\\\").translate({ord(sign): f"\\{sign}" for sign in "|*_`<[]"})
