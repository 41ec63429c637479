"""What a command prints: text and tables for people, or one line of JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print JSON on one line instead of text.")]


def say(text: str, document: Any, as_json: bool) -> None:
    """Print a text, or what it says as JSON on one line."""
    print(json.dumps(document, ensure_ascii=False, allow_nan=False) if as_json else text, flush=True)


def note(text: str) -> None:
    """Print what a user should know beside the result, on standard error."""
    print(f"note: {text}", file=sys.stderr)


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows as aligned columns, their names above, numbers to the right.

    Parameters
    ----------
    rows
        At least one; the first names the columns.
    """
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    laid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name, value in rows[0].items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        laid.add_column(name, justify="right" if number else "left", no_wrap=True, overflow="ignore")
    for row in rows:
        # As `Text`: brackets in a title are no markup.
        laid.add_row(*(Text(f"{value:.3f}" if isinstance(value, float) else str(value)) for value in row.values()))
    # A line is as long as its cells: a terminal wraps it, a pipe gets it whole.
    console = Console(file=StringIO(), width=10_000, color_system=None)
    with console.capture() as captured:
        console.print(laid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
