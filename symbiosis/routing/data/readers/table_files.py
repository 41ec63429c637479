"""Tables in files: parquet, csv and jsonl to one frame, whatever legal form the text comes in."""

import csv
import io
import json
from collections.abc import Collection
from pathlib import Path

import polars as pl

from symbiosis.core import parquet_files, text_files
from symbiosis.core.errors import InputError
from symbiosis.routing.data.readers.query_text import text_of

_LONGEST_LINE = 64 << 20  # bytes
_ROWS_PER_CHUNK = 50_000  # rows held as Python objects before they become a compact frame


def read_frame(path: Path, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Read a parquet, csv or jsonl file; csv and jsonl give text columns only.

    Parameters
    ----------
    path
        The suffix tells the format; csv and jsonl may be gzip, see `symbiosis.core.text_files`.
    columns
        Columns to read where the file has them; None reads all. A jsonl file needs them named: it has no header, and
        a column that no line has comes out as null.

    Raises
    ------
    InputError
        The file cannot be read in its format.
    """
    if path.suffix == ".jsonl" and columns is not None:
        return _jsonl(path, columns)
    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: this table must be a parquet or csv file")
    text = text_files.read_text(path) if path.suffix == ".csv" else ""
    try:
        if path.suffix == ".csv":  # all of it: else polars passes over surplus fields, the mark of an unquoted comma
            frame = pl.read_csv(text.lstrip("\r\n").encode("utf-8"), infer_schema=False)
            blank = pl.all_horizontal(pl.all().fill_null("").str.strip_chars() == "")
            frame = frame.filter(~blank)  # blank lines are no records
            return frame.select(c for c in frame.columns if columns is None or c in columns)
        return parquet_files.read(path, columns)
    except parquet_files.UNREADABLE as error:
        raise _refusal(path, error, text) from None


def column_names(path: Path) -> list[str]:
    """Return the column names of a parquet or csv file.

    Raises
    ------
    InputError
        The file cannot be read in its format.
    """
    text = text_files.read_text(path) if path.suffix == ".csv" else ""
    try:
        if path.suffix == ".csv":
            return pl.read_csv(text.lstrip("\r\n").encode("utf-8"), infer_schema=False, n_rows=0).columns
        return parquet_files.column_names(path)
    except parquet_files.UNREADABLE as error:
        raise _refusal(path, error, text) from None


def _refusal(path: Path, error: BaseException, text: str) -> InputError:
    where = _broken_csv(text) or (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} is not a readable {path.suffix[1:]} file: {where}; export it again")


def _broken_csv(text: str) -> str | None:
    """Name the first line with more fields than the header."""
    rows = csv.reader(io.StringIO(text, newline=""))
    try:
        width = len(next(rows, []))
        for row in rows:
            if len(row) > width:
                return f"line {rows.line_num} has {len(row)} fields, the header {width}"
    except csv.Error as error:
        return f"line {rows.line_num}: {error}"
    return None


def _jsonl(path: Path, columns: Collection[str]) -> pl.DataFrame:
    schema = dict.fromkeys(columns, pl.String())
    chunks: list[pl.DataFrame] = [pl.DataFrame(schema=schema)]
    rows: dict[str, list[str | None]] = {name: [] for name in columns}
    for number, line in text_files.read_lines(path, _LONGEST_LINE):
        for name, value in _record(path, number, line, columns).items():
            rows[name].append(value)
        if len(next(iter(rows.values()))) == _ROWS_PER_CHUNK:
            chunks.append(pl.DataFrame(rows, schema))
            rows = {name: [] for name in columns}
    return pl.concat([*chunks, pl.DataFrame(rows, schema)])


def _record(path: Path, number: int, line: bytes | None, columns: Collection[str]) -> dict[str, str | None]:
    """Return the values of a line as texts, NaN, as Python writes it, as null."""
    try:
        record = json.loads(text_files.decode(line)) if line is not None else None
        fault = f"is longer than {_LONGEST_LINE:,} bytes" if line is None else "is not a JSON object"
    except json.JSONDecodeError:
        record, fault = None, "is not a JSON object"
    except RecursionError:
        record, fault = None, "is nested too deep"
    except ValueError as error:
        record, fault = None, f"is no text ({error}): {text_files.ENCODE}"
    if not isinstance(record, dict):
        raise InputError(f"{path} is not a readable jsonl file: line {number} {fault}; export it again")
    values = {name: record.get(name) for name in columns}
    asked = values.get("query_text")
    if isinstance(asked, list | dict):
        values["query_text"] = text_of(asked)
        if values["query_text"] is None:
            raise InputError(f"{path}: `query_text` in line {number} is neither a text nor chat messages: correct it")
    return {name: _as_text(value) for name, value in values.items()}


def _as_text(value: object) -> str | None:
    if value is None or value != value:
        return None
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False)
    return text_files.mended(value)
