"""The results so far, in three lines and in tables, for the terminal, README.md or JSON: `symbiosis results`."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.reporting.summaries import REPORTS, Headline, Table, headlines, tables

if TYPE_CHECKING:
    from rich.table import Table as RichTable

README = Path("README.md")
_MARKS = ("<!-- results: symbiosis results --readme -->", "<!-- end of results -->")
_UNBOUNDED = 10_000  # columns: a pipe has no width to fit


def data(reports: Path = REPORTS) -> dict[str, Any]:
    """Return headlines and tables as plain values for JSON: ``headlines`` and ``tables``, lists of their attributes."""
    return {
        name: [asdict(part) | {"page": _shown(part.page).as_posix()} for part in parts]
        for name, parts in (("headlines", headlines(reports)), ("tables", tables(reports)))
    }


def text(reports: Path = REPORTS) -> str:
    """Return the tables as plain text, as wide as they are."""
    from rich.console import Console

    parts = []
    for table in tables(reports):
        buffer = io.StringIO()
        Console(file=buffer, width=_UNBOUNDED, color_system=None).print(_drawn(table, plain=True))
        lines = [line.rstrip() for line in buffer.getvalue().splitlines()]
        parts.append("\n".join([table.title, table.note, "", *lines, "", f"whole report: {_shown(table.page)}"]))
    return "\n\n".join(parts)


def show(reports: Path = REPORTS) -> None:
    """Print the tables: fitted to its width on a terminal, as plain text elsewhere."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        print(text(reports))
        return
    for table in tables(reports):
        console.print(Text(table.title, style="bold"))
        console.print(Text(table.note, style="dim"))
        console.print(_drawn(table, plain=False))
        console.print(Text(f"whole report: {_shown(table.page)}\n"), soft_wrap=True)


def _drawn(table: Table, *, plain: bool) -> "RichTable":
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(box=None if plain else box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    for column, name in enumerate(table.header):
        drawn.add_column(Text(name), justify="left" if column == 0 else "right", overflow="fold")
    for number, row in enumerate(table.rows):
        # Text, because brackets in a string would be read as markup.
        drawn.add_row(*(Text(cell) for cell in row), style="bold" if number == table.ours and not plain else "")
    return drawn


def _shown(path: Path) -> Path:
    """Return a path as it is reached from here."""
    here = Path.cwd()
    return path.resolve().relative_to(here) if path.resolve().is_relative_to(here) else path


def markdown(reports: Path = REPORTS) -> str:
    """Return the tables as Markdown."""
    return "\n".join(
        f"**{table.title}** ({table.note})\n\n{_markdown(table.header, table.rows)}" for table in tables(reports)
    )


def headline_markdown(reports: Path = REPORTS) -> str:
    """Return the headlines as a Markdown table with links to the reports."""
    found = headlines(reports)
    return headline_table(found, {one.page.stem: _shown(one.page).as_posix() for one in found})


def headline_table(found: Sequence[Headline], links: Mapping[str, str]) -> str:
    """Return headlines as a Markdown table.

    Parameters
    ----------
    found
        A row each.
    links
        Where a report is found, by its name; a headline without one is plain text.
    """
    rows = [
        [
            f"[{one.title}]({links[one.page.stem]})" if one.page.stem in links else one.title,
            one.measure,
            one.ours,
            one.strongest,
            one.gain,
        ]
        for one in found
    ]
    return _markdown(["", "measure", "ours [95 % interval]", "strongest baseline", "gain [95 % interval]"], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows)) + "\n"


def write_readme(readme: Path = README, reports: Path = REPORTS) -> None:
    """Write the headlines between the marks of README.md.

    Raises
    ------
    InputError
        The marks are not there, once each.
    """
    begin, end = map(re.escape, _MARKS)
    document = readme.read_text(encoding="utf-8")
    if len(re.findall(f"{begin}.*?{end}", document, re.DOTALL)) != 1:
        raise InputError(f"{readme} must hold the lines `{_MARKS[0]}` and `{_MARKS[1]}` once")
    generated = f"{_MARKS[0]}\n{headline_markdown(reports)}{_MARKS[1]}"
    document = re.sub(f"{begin}.*?{end}", lambda _: generated, document, flags=re.DOTALL)
    with staged(readme) as (temporary,):
        temporary.write_text(document, encoding="utf-8")
