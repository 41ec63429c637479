"""Items that came after the training: read and checked."""

import json
from collections.abc import Collection
from pathlib import Path

import polars as pl

from symbiosis.core.errors import InputError, one_line, quoted
from symbiosis.core.text_files import LONGEST_LINE, decode, mended, read_lines

COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "description": pl.String,
    "price": pl.Float64,
}
"""What is told of a new item; all but ``item_id`` may be missing."""

MOST = 100_000


def read_new_items(path: Path | str) -> pl.DataFrame:
    """Read new items from a file of JSON lines (``.jsonl``) or a parquet file.

    Raises
    ------
    InputError
        The file is missing, damaged or has another form; the message names file and line.
    """
    path = Path(path)
    if path.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"{path}: new items are read from a .jsonl or a .parquet file: convert it")
    if not path.is_file():
        raise InputError(f"{path} is {'no file' if path.exists() else 'missing'}: give a file of new items")
    if path.suffix == ".parquet":
        from symbiosis.core import parquet_files  # here: pyarrow is slow to import, and few have new items

        try:
            return parquet_files.read(path)
        except (ValueError, *parquet_files.UNREADABLE) as error:
            raise InputError(f"{path} cannot be read ({one_line(error, 200)}): give a sound file") from None
    rows = []
    for number, line in read_lines(path):
        if line is None:
            raise InputError(f"{path}, line {number} has more than {LONGEST_LINE >> 20} MiB: give one item a line")
        try:
            row = json.loads(decode(line))
        except RecursionError:
            raise InputError(f"{path}, line {number} is nested too deeply: give one flat object a line") from None
        except ValueError as error:
            raise InputError(f"{path}, line {number} is not valid JSON ({one_line(error, 200)}): mend it") from None
        if not isinstance(row, dict):
            raise InputError(f'{path}, line {number} is no JSON object: give one item a line, {{"item_id": ...}}')
        rows.append(_checked(row, f"{path}, line {number}"))
    return pl.DataFrame(rows, schema=COLUMNS)


def checked_new_items(frame: pl.DataFrame, known: Collection[str], first: int) -> pl.DataFrame:
    """Check new items and number them behind those that are known.

    Parameters
    ----------
    frame
        Columns `COLUMNS`, of which all but ``item_id`` may be missing.
    known
        Original ids of the other items.
    first
        Number of the first new item.

    Returns
    -------
    polars.DataFrame
        Columns ``item`` and `COLUMNS`.

    Raises
    ------
    InputError
        A column is missing or of another type, or an id is empty, repeated or known; the message names the row.
    """
    if "item_id" not in frame.columns:
        raise InputError("new items have no column `item_id`: give each item its id")
    if len(frame) > MOST:
        raise InputError(f"{len(frame):,} new items are too many: give at most {MOST:,}, or train again")
    given = frame.select(name for name in frame.columns if name in COLUMNS)
    rows = [_checked(row, f"new item {number}") for number, row in enumerate(given.iter_rows(named=True), start=1)]
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        name = str(row["item_id"])
        if name in known or name in seen:
            others = "an item of the training" if name in known else "an earlier new item"
            raise InputError(f"new item {number}: {quoted(name)} is the id of {others}: leave it out or give another")
        seen.add(name)
    checked = pl.DataFrame(rows, schema=COLUMNS)
    return checked.select(pl.int_range(first, first + pl.len(), dtype=pl.UInt32).alias("item"), *COLUMNS)


def _checked(row: dict[str, object], where: str) -> dict[str, object]:
    """Return the known columns of one item, each of its type or None; NaN is None."""
    values = {name: row.get(name) for name in COLUMNS}
    name = values["item_id"]
    if isinstance(name, int) and not isinstance(name, bool):
        values["item_id"] = name = str(name)
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{where}: `item_id` is {quoted(name)}: give a text that is not empty")
    for column in ("item_id", "title", "brand", "description"):
        told = None if values[column] != values[column] else values[column]
        if not isinstance(told, str | None):
            raise InputError(f"{where}: `{column}` is {quoted(told)}: give a text, or leave it out")
        values[column] = None if told is None else mended(told)
    if values["price"] != values["price"]:
        values["price"] = None
    groups = values["categories"]
    if groups is not None and not (isinstance(groups, list) and all(isinstance(name, str) for name in groups)):
        raise InputError(f"{where}: `categories` is {quoted(str(groups))}: give a list of texts, or leave it out")
    if groups is not None:
        values["categories"] = [mended(group) for group in groups]
    price = values["price"]
    if price is not None and (not isinstance(price, int | float) or isinstance(price, bool) or not 0 <= price < 1e9):
        raise InputError(f"{where}: `price` is {quoted(price)}: give a number not below 0, or leave it out")
    return values
