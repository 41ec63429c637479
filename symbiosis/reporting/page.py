"""Self-contained HTML pages: one file, its own style, pictures as inline SVG, nothing fetched."""

import html
import io
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2a6f97; }
body { font: 15px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.lead { color: #777; margin-top: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid var(--line); }
tbody tr:hover { background: var(--soft); }
td.best { font-weight: 700; } td.second { text-decoration: underline; text-underline-offset: 3px; }
td.pass::before { content: "\\2713 "; color: #2b8a3e; } td.fail::before { content: "\\2717 "; color: #c92a2a; }
.note { color: #777; font-size: .9rem; }
figure { margin: 1rem 0; background: #fff; border-radius: 6px; } figure svg { max-width: 100%; height: auto; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: 3px; }
"""


def page(title: str, lead: str, body: Sequence[str]) -> str:
    """Join sections into one HTML document.

    Parameters
    ----------
    title, lead
        Plain text; escaped here.
    body
        HTML fragments, as `section`, `table`, `note` and `figure` return them.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body><h1>{html.escape(title)}</h1>\n"
        f'<p class="lead">{html.escape(lead)}</p>\n' + "\n".join(body) + "\n</body></html>\n"
    )


def section(heading: str) -> str:
    """Return a heading."""
    return f"<h2>{html.escape(heading)}</h2>"


def note(text: str) -> str:
    """Return a paragraph of small print; backquoted parts become code."""
    return '<p class="note">' + re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text)) + "</p>"


def table(
    header: Sequence[str], rows: Sequence[Sequence[object]], classes: dict[tuple[int, int], str] | None = None
) -> str:
    """Return a table; every cell is escaped.

    Parameters
    ----------
    header
        Column names.
    rows
        Cells, turned into text by `str`.
    classes
        CSS class (``best``, ``second``, ``pass``, ``fail``) of the cell at (row, column).
    """
    classes = classes or {}
    head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
    lines = []
    for r, row in enumerate(rows):
        cells = "".join(
            f'<td class="{classes[r, c]}">{html.escape(str(cell))}</td>'
            if (r, c) in classes
            else f"<td>{html.escape(str(cell))}</td>"
            for c, cell in enumerate(row)
        )
        lines.append(f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figure(drawing: "Figure", label: str) -> str:
    """Return a matplotlib figure as inline SVG, the same bytes for the same drawing, and close it."""
    import matplotlib as mpl
    from matplotlib import pyplot as plt

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": label, "svg.fonttype": "none"}):
        drawing.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    plt.close(drawing)
    drawn = buffer.getvalue()
    return f'<figure role="img" aria-label="{html.escape(label)}">{drawn[drawn.index("<svg") :]}</figure>'
