"""Records of JSON files as Python objects, and back to a frame of texts that the typing of tables takes.

A file may hold one object a line, a list of objects, an object that holds such a list, or columns as pandas writes
them; with or without gzip.
"""

import json
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from symbiosis.core import text_files
from symbiosis.core.errors import InputError
from symbiosis.routing.data.readers.query_text import text_of

LONGEST_LINE = 64 << 20
"""Bytes."""
ROWS_PER_CHUNK = 50_000
"""Rows held as Python objects before they become a compact frame."""
HOLDERS = ("data", "rows", "examples", "annotations", "results", "logs", "spans")
"""Keys under which an object may hold a list of records."""

Record = dict[str, Any]


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield where a record stands, such as ``line 3``, and the record.

    Raises
    ------
    InputError
        The file is damaged, or holds something that is no record.
    """
    first = next((line for _, line in text_files.read_lines(path, LONGEST_LINE)), b"")
    if first is None or not first or _is_one_record(first):
        for number, line in text_files.read_lines(path, LONGEST_LINE):
            yield f"line {number}", line_record(path, number, line)
        return
    try:
        document = json.loads(text_files.read_text(path))
    except RecursionError:
        raise InputError(f"{path} is not a readable json file: it is nested too deep") from None
    except ValueError as error:
        raise InputError(f"{path} is not a readable json file: {error}; export it again") from None
    for number, record in enumerate(_listed(document, path), start=1):
        if not isinstance(record, dict):
            raise InputError(f"{path}: record {number} is not a JSON object: give a list of objects")
        yield f"record {number}", record


def line_record(path: Path, number: int, line: bytes | None) -> Record:
    """Return the JSON object of one line.

    Raises
    ------
    InputError
        It is none; the message names the line.
    """
    try:
        record = json.loads(text_files.decode(line)) if line is not None else None
        fault = f"is longer than {LONGEST_LINE:,} bytes" if line is None else "is not a JSON object"
    except json.JSONDecodeError:
        record, fault = None, "is not a JSON object"
    except RecursionError:
        record, fault = None, "is nested too deep"
    except ValueError as error:
        record, fault = None, f"is no text ({error}): {text_files.ENCODE}"
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a readable jsonl file: line {number} {fault}; export it again")
    return record


def to_frame(
    rows: Iterable[tuple[str, Record]], columns: Collection[str], asked: Collection[str] = ("query_text",)
) -> pl.DataFrame:
    """Lay records out as a frame of texts; what is no text is written as JSON, and NaN is null.

    Parameters
    ----------
    rows
        Where each record stands, and the record; keys that are not in `columns` are left out.
    columns
        Of the frame.
    asked
        The columns that may hold the query, the first of a record that does: there, chat messages and lists of texts
        become what they say.

    Raises
    ------
    InputError
        A query is neither a text nor chat messages; the message begins with the column and the place.
    """
    schema = dict.fromkeys(columns, pl.String())
    chunks: list[pl.DataFrame] = [pl.DataFrame(schema=schema)]
    values: dict[str, list[str | None]] = {name: [] for name in columns}
    for count, (place, record) in enumerate(rows, start=1):
        query = next((name for name in asked if record.get(name) is not None), None)
        for name in columns:
            value = record.get(name)
            if name == query and isinstance(value, list | dict):
                said = text_of(value)
                if said is None:
                    raise InputError(f"`{name}` in {place} is neither a text nor chat messages: correct it")
                value = said
            values[name].append(as_text(value))
        if count % ROWS_PER_CHUNK == 0:
            chunks.append(pl.DataFrame(values, schema))
            values = {name: [] for name in columns}
    return pl.concat([*chunks, pl.DataFrame(values, schema)])


def as_text(value: object) -> str | None:
    """Return a value as text, as JSON where it is none; None for null and NaN."""
    if value is None or value != value:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return text_files.mended(value)


def _is_one_record(line: bytes) -> bool:
    """Tell whether a line is a JSON object of its own, or tries to be one and is no part of a longer document."""
    if not line.lstrip().startswith(b"{"):
        return not line.lstrip().startswith(b"[")
    try:
        document = json.loads(text_files.decode(line))
    except json.JSONDecodeError:
        return line.rstrip().endswith(b"}")
    except (ValueError, RecursionError):
        return True
    return not isinstance(document, dict) or (_holder(document) is None and _from_columns(document) is None)


def _holder(document: Record) -> str | None:
    return next((name for name in HOLDERS if isinstance(document.get(name), list)), None)


def _listed(document: object, path: Path) -> list[Any]:
    """Find the records of a document."""
    if isinstance(document, list):
        return document
    if not isinstance(document, dict):
        raise InputError(f"{path} holds neither a list of objects nor an object: export it again")
    rows = _from_columns(document)
    if rows is not None:
        return rows
    holder = _holder(document)
    return document[holder] if holder is not None else [document]


def _from_columns(document: Record) -> list[Record] | None:
    """Return the rows of a table that is written column by column; None if a document is none."""
    columns = list(document.values())
    if len(columns) < 2:
        return None
    if all(isinstance(column, dict) for column in columns):  # {column: {row: value}}, as pandas writes it
        rows = list(columns[0])
        if all(list(column) == rows for column in columns):
            return [{name: column[row] for name, column in document.items()} for row in rows]
    if all(isinstance(column, list) for column in columns) and len(set(map(len, columns))) == 1:
        return [dict(zip(document, values, strict=True)) for values in zip(*columns, strict=True)]
    return None
