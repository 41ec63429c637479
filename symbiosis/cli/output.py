"""What a command prints: text and tables for people, or one line of JSON."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from symbiosis.core.errors import InputError, one_line, printable

JSON = Annotated[bool, typer.Option("--json", help="Print JSON on one line instead of text.")]


def say(text: str, document: Any, as_json: bool) -> None:
    """Print a text, or what it says as JSON on one line.

    A text goes out without control characters, JSON in ASCII where the output's encoding is not Unicode.
    """
    if as_json:
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        text = json.dumps(document, ensure_ascii=not encoding.lower().startswith("utf"), allow_nan=False)
    else:
        text = "\n".join(map(printable, text.split("\n")))
    print(text, flush=True)


def note(text: str) -> None:
    """Print what a user should know beside the result, on standard error."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def read_input() -> str:
    """Return standard input as text; its encoding is told as a file's is, see `symbiosis.core.text_files`.

    Raises
    ------
    InputError
        It is closed, or no text.
    """
    from symbiosis.core.text_files import decoded

    if sys.stdin is None:
        raise InputError("standard input is closed: give the prompt as TEXT")
    return decoded(sys.stdin.buffer.read(), "standard input")


LONGEST_CELL = 400
"""Characters of a text in a table; JSON has it whole."""


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
        laid.add_column(printable(name), justify="right" if number else "left", no_wrap=True)
    for row in rows:
        # As `Text`: brackets in a title are no markup.
        laid.add_row(*(Text(_cell(value)) for value in row.values()))
    # A line is as long as its cells: a terminal wraps it, a pipe gets it whole.
    console = Console(file=StringIO(), width=10_000, color_system=None)
    with console.capture() as captured:
        console.print(laid)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"  # a small price is not 0
    text = printable(str(value))
    return text if len(text) <= LONGEST_CELL else f"{text[:LONGEST_CELL]} ..."
