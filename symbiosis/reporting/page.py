"""Self-contained HTML pages from Jinja2 templates: one file, its own style, pictures as inline SVG, nothing fetched.

A page is a list of blocks: `Text`, `Table`, `Figure` and `Section`. Each renders itself by the template of its name in
``templates/``, where every value is escaped.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

OURS, STRONGEST = "ours", "strongest"
"""Marks of table rows: our method, and the baseline that it has to beat."""
MARKS = {OURS: "ours", STRONGEST: "strongest baseline"}
_MANY = 5  # intervals, so that some can be called far off
_WIDTH, _MARGIN = 110.0, 4.0  # of a whisker, in the units of templates/table.html


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("symbiosis.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


class Block:
    """A part of a page that renders itself by its template."""

    template: ClassVar[str]

    def __html__(self) -> str:
        """Return the HTML, escaped; templates call this."""
        return _environment().get_template(self.template).render(block=self)

    def __str__(self) -> str:
        return self.__html__()


@dataclass(frozen=True)
class Text(Block):
    """A paragraph.

    Attributes
    ----------
    text
        Backquoted parts become code.
    kind
        ``note`` (small print), ``verdict`` (the page's one sentence) or ``warning``.
    """

    text: str
    kind: str = "note"
    template: ClassVar[str] = "text.html"

    @property
    def parts(self) -> list[str]:
        """The text in parts, every second of them code."""
        return self.text.split("`")


@dataclass(frozen=True)
class Interval:
    """A value with its interval: a table cell that shows the value and draws the interval as a whisker.

    Attributes
    ----------
    value, low, high
        On one scale, which all intervals of a column share.
    form
        Format of all three.
    note
        Text after the value.
    """

    value: float
    low: float
    high: float
    form: str = ".4f"
    note: str = ""

    @classmethod
    def of(cls, numbers: Mapping[str, float], form: str = ".4f", note: str = "") -> "Interval":
        """Read ``mean``, ``low`` and ``high``."""
        return cls(numbers["mean"], numbers["low"], numbers["high"], form, note)

    def __str__(self) -> str:
        return f"{self.value:{self.form}}{self.note and ' ' + self.note}"


@dataclass(frozen=True)
class Row:
    """A table row with a mark (`OURS`, `STRONGEST` or none)."""

    cells: Sequence[object]
    mark: str = ""


@dataclass(frozen=True)
class Table(Block):
    """A table that scrolls sideways inside its box where the screen is narrow.

    Attributes
    ----------
    header
        Column names.
    rows
        `Row` or plain sequences of cells; a cell is an `Interval` or turned into text by `str`.
    classes
        CSS class (``best``, ``second``, ``pass``, ``fail``) of the cell at (row, column).
    """

    header: Sequence[str]
    rows: Sequence[Row | Sequence[object]]
    classes: Mapping[tuple[int, int], str] = field(default_factory=dict)
    template: ClassVar[str] = "table.html"
    marks: ClassVar[Mapping[str, str]] = MARKS

    @property
    def drawn(self) -> list[dict[str, Any]]:
        """Rows as the template reads them."""
        rows = [row if isinstance(row, Row) else Row(row) for row in self.rows]
        marks = [row.mark for row in rows]
        scales = {column: scale([row.cells[column] for row in rows], marks) for column in range(len(self.header))}
        return [
            {
                "mark": row.mark,
                "cells": [
                    {
                        "text": str(cell),
                        "kind": self.classes.get((r, c), ""),
                        "whisker": _whisker(cell, *scales[c]) if isinstance(cell, Interval) else None,
                    }
                    for c, cell in enumerate(row.cells)
                ],
            }
            for r, row in enumerate(rows)
        ]


def scale(cells: Sequence[object], marks: Sequence[str]) -> tuple[float, float]:
    """Return the ends of the scale that intervals are drawn on.

    It spans all intervals of marked rows. Of many others it leaves out those far off (by four times the median distance
    from the median, or more), which would squeeze the rest to dots.
    """
    shown = [cell for cell in cells if isinstance(cell, Interval)]
    marked = [cell for cell, mark in zip(cells, marks, strict=True) if mark and isinstance(cell, Interval)]
    if not shown:
        return 0.0, 0.0
    middle = median(cell.value for cell in shown)
    spread = median(abs(cell.value - middle) for cell in shown)
    near = [cell for cell in shown if abs(cell.value - middle) < 4 * spread]
    spanned = [*marked, *near] if len(shown) >= _MANY and spread > 0 else shown
    ends = [end for cell in spanned for end in (cell.low, cell.high, cell.value)]
    return min(ends), max(ends)


def _whisker(cell: Interval, start: float, stop: float) -> dict[str, Any]:
    def place(value: float) -> float:
        share = (value - start) / (stop - start) if stop > start else 0.5
        return round(_MARGIN + min(max(share, 0.0), 1.0) * (_WIDTH - 2 * _MARGIN), 1)

    return {
        "label": f"95 % interval {cell.low:{cell.form}} to {cell.high:{cell.form}}",
        "low": place(cell.low),
        "high": place(cell.high),
        "value": place(cell.value),
        "zero": place(0.0) if start < 0 < stop else None,
        "outside": not start <= cell.value <= stop,
    }


@dataclass(frozen=True)
class Figure(Block):
    """A picture as inline SVG."""

    svg: Markup
    label: str
    template: ClassVar[str] = "figure.html"

    @classmethod
    def of(cls, drawing: "Drawing", label: str) -> "Figure":
        """Turn a matplotlib figure into SVG, the same bytes for the same drawing, and close it."""
        import matplotlib as mpl
        from matplotlib import pyplot as plt

        buffer = io.StringIO()
        with mpl.rc_context({"svg.hashsalt": label, "svg.fonttype": "none"}):
            drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
        plt.close(drawing)
        drawn = buffer.getvalue()
        # matplotlib has escaped the texts in it.
        return cls(Markup(drawn[drawn.index("<svg") :].strip()), label)  # nosec B704


@dataclass(frozen=True)
class Section(Block):
    """Blocks under a heading.

    Attributes
    ----------
    heading
        Plain text.
    parts
        The blocks.
    folded
        Show only the heading until the reader opens it.
    """

    heading: str
    parts: Sequence[Block]
    folded: bool = False
    template: ClassVar[str] = "section.html"


def render(title: str, lead: str, body: Sequence[Block]) -> str:
    """Return a page as one HTML document.

    Parameters
    ----------
    title, lead
        Plain text.
    body
        Its blocks; a report opens with its verdict and one picture.
    """
    return _environment().get_template("page.html").render(title=title, lead=lead, body=body) + "\n"
