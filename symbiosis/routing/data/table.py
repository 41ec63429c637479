"""The long routing table: reading it and giving its columns their types.

One row holds the outcome of one query with one LLM. `COLUMNS` lists what is read; other columns are ignored.
"""

import csv
import json
from collections.abc import Collection
from pathlib import Path

import polars as pl

from symbiosis.core.errors import InputError

COLUMNS: dict[str, pl.DataType] = {
    "query_id": pl.String(),
    "query_text": pl.String(),
    "domain": pl.String(),
    "subdomain": pl.String(),
    "llm": pl.String(),
    "quality": pl.Float64(),
    "prompt_tokens": pl.Int64(),
    "response_tokens": pl.Int64(),
    "cost_usd": pl.Float64(),
    "latency_s": pl.Float64(),
    "tokens_basis": pl.String(),
    "cost_basis": pl.String(),
}
REQUIRED = ("query_id", "query_text", "domain", "llm", "quality", "cost_usd", "cost_basis")
# Where token counts come from: the provider's bill, one tokenizer for all LLMs, the LLM's mean length, a quarter of
# the characters, or the generative model of `symbiosis.routing.data.synthetic`.
TOKENS_BASES = ("api_reported", "tokenizer", "imputed_model_mean", "characters", "synthetic")
# Where costs come from: the data themselves, or tokens times a price list.
COST_BASES = ("source", "list_price")


def read_frame(path: Path, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Read a parquet, csv or jsonl file; csv and jsonl give text columns only.

    Parameters
    ----------
    path
        The suffix tells the format.
    columns
        Columns to read where the file has them; None reads all. A jsonl file needs them named: it has no header, and
        a column that no line has comes out as null.

    Raises
    ------
    InputError
        The file cannot be read in its format.
    """
    try:
        if path.suffix == ".parquet":
            lazy = pl.scan_parquet(path)
        elif path.suffix == ".csv":
            lazy = pl.scan_csv(path, infer_schema=False)
        elif path.suffix == ".jsonl" and columns is not None:
            lazy = pl.scan_ndjson(path, schema=dict.fromkeys(columns, pl.String()))
        else:
            raise InputError(f"{path}: this table must be a parquet or csv file")
        present = [c for c in lazy.collect_schema().names() if columns is None or c in columns]
        if path.suffix == ".csv":  # all of it: else polars passes over surplus fields, the mark of an unquoted comma
            return lazy.collect(engine="streaming").select(present)
        return lazy.select(present).collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        find = {".jsonl": _broken_jsonl, ".csv": _broken_csv}.get(path.suffix, lambda path: None)
        where = find(path) or str(error).splitlines()[0]
        raise InputError(f"{path} is not a readable {path.suffix[1:]} file: {where}; export it again") from None


def _broken_jsonl(path: Path) -> str | None:
    """Name the first line that is not a JSON object."""
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            try:
                if not line.strip() or isinstance(json.loads(line), dict):
                    continue
            except ValueError:
                pass
            return f"line {number} is not a JSON object"
    return None


def _broken_csv(path: Path) -> str | None:
    """Name the first line with more fields than the header."""
    with path.open(newline="", encoding="utf-8", errors="replace") as handle:
        rows = csv.reader(handle)
        try:
            width = len(next(rows, []))
            for row in rows:
                if len(row) > width:
                    return f"line {rows.line_num} has {len(row)} fields, the header {width}"
        except csv.Error as error:
            return f"line {rows.line_num}: {error}"
    return None


def read_table(path: Path) -> pl.DataFrame:
    """Read a long table and give every column of `COLUMNS` its type; optional columns that are absent become null.

    Raises
    ------
    InputError
        A required column is missing, there are no rows, or a value is not of its column's type.
    """
    frame = read_frame(path, COLUMNS)
    if path.suffix == ".jsonl":  # a key that no line has
        frame = frame.select(c for c in frame.columns if frame[c].null_count() < frame.height or not frame.height)
    require_columns(frame.columns, path)
    if path.suffix == ".csv":  # csv cannot tell an empty text from a missing one
        frame = frame.with_columns(pl.col("query_text").fill_null(""))
    return typed(frame, path)


def require_columns(names: Collection[str], path: Path) -> None:
    """Make sure that the required columns are there.

    Raises
    ------
    InputError
        One is missing.
    """
    missing = [c for c in REQUIRED if c not in names]
    if missing:
        raise InputError(
            f"{path}: the column `{missing[0]}` is missing: a routing table has {', '.join(REQUIRED)} and, where "
            f"known, {', '.join(c for c in COLUMNS if c not in REQUIRED)}"
        )


def typed(frame: pl.DataFrame, path: Path) -> pl.DataFrame:
    """Cast a frame to `COLUMNS`, its own order and rows kept.

    Raises
    ------
    InputError
        There are no rows, or a value does not fit its column.
    """
    if frame.is_empty():
        raise InputError(f"{path}: the table has no rows")
    for name in [c for c in COLUMNS if c in frame.columns]:
        try:
            cast = _cast(frame[name], COLUMNS[name])
        except pl.exceptions.PolarsError:
            raise InputError(
                f"{path}: the column `{name}` holds {frame[name].dtype}, not {COLUMNS[name]}: convert it"
            ) from None
        lost = cast.is_null() & frame[name].is_not_null()
        if lost.any():
            row = lost.arg_max() or 0
            raise InputError(
                f"{path}: `{name}` is {frame[name][row]!r}, not {COLUMNS[name]}, in row {row + 1}, {place(frame, row)} "
                f"({lost.sum()} such rows): correct it"
            )
        frame = frame.with_columns(cast)
    return frame.select(
        pl.col(c) if c in frame.columns else pl.lit(None, dtype=dtype).alias(c) for c, dtype in COLUMNS.items()
    )


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Cast; what does not fit becomes null. A whole number may be written as 98.0, as pandas does beside gaps."""
    if dtype == pl.Int64 and not column.dtype.is_integer():
        number = column.cast(pl.Float64, strict=False)
        column = pl.select(pl.when(number == number.floor()).then(number)).to_series().alias(column.name)
    return column.cast(dtype, strict=False)


def place(frame: pl.DataFrame, row: int | None) -> str:
    """Name a row by its query and LLM, for messages."""
    return f"query {frame['query_id'][row or 0]!r}, LLM {frame['llm'][row or 0]!r}"
