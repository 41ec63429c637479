"""Tables in files: parquet, csv and JSON to one frame, whatever legal form the text comes in."""

import csv
import io
from collections.abc import Collection
from pathlib import Path

import polars as pl

from symbiosis.core import parquet_files, text_files
from symbiosis.core.errors import InputError
from symbiosis.routing.data.readers.records import read_records, to_frame

FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".pkl": "pickle",
    ".pickle": "pickle",
    ".db": "store",
    ".sqlite": "store",
}
"""By suffix, that of gzip aside; a file of another name is known by its first bytes."""


def format_of(path: Path) -> str | None:
    """Return the format of a file, one of the values of `FORMATS`; None if it is none of them."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    own = suffixes[-2:-1] if suffixes[-1:] == [".gz"] else suffixes[-1:]
    if own and own[0] in FORMATS:
        return FORMATS[own[0]]
    with path.open("rb") as handle:
        first = handle.read(16)
    if first.startswith(b"PAR1"):
        return "parquet"
    if first.startswith(b"SQLite format 3"):
        return "store"
    return "jsonl" if first.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")) else None


def read_frame(
    path: Path, columns: Collection[str] | None = None, asked: Collection[str] = ("query_text",)
) -> pl.DataFrame:
    """Read a parquet, csv or JSON file; csv and JSON give text columns only.

    Parameters
    ----------
    path
        Of the file; csv and JSON may be gzip, see `symbiosis.core.text_files`.
    columns
        Columns to read where the file has them; None reads all. JSON needs them named: it has no header, and a column
        that no record has comes out as null.
    asked
        The columns with queries, see `symbiosis.routing.data.readers.records.to_frame`.

    Raises
    ------
    InputError
        The file cannot be read in its format.
    """
    kind = format_of(path)
    if kind in ("json", "jsonl") and columns is not None:
        try:
            return to_frame(read_records(path), columns, asked)
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    if kind not in ("parquet", "csv"):
        raise InputError(f"{path}: this table must be a parquet or csv file")
    text = text_files.read_text(path) if kind == "csv" else ""
    try:
        if kind == "csv":  # all of it: else polars passes over surplus fields, the mark of an unquoted comma
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
    kind = format_of(path)
    text = text_files.read_text(path) if kind == "csv" else ""
    try:
        if kind == "csv":
            return pl.read_csv(text.lstrip("\r\n").encode("utf-8"), infer_schema=False, n_rows=0).columns
        return parquet_files.column_names(path)
    except parquet_files.UNREADABLE as error:
        raise _refusal(path, error, text) from None


def _refusal(path: Path, error: BaseException, text: str) -> InputError:
    where = _broken_csv(text) or (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path} is not a readable {format_of(path)} file: {where}; export it again")


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
