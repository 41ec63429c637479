"""The long routing table: reading it, typing it, choosing a complete part, and checking it.

One row holds the outcome of one query with one LLM. `COLUMNS` lists what is read; other columns are ignored.
"""

import csv
import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import polars as pl

from symbiosis.errors import InputError

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
# the characters, or the generative model of `symbiosis.routing.synthetic`.
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
                f"{path}: `{name}` is {frame[name][row]!r}, not {COLUMNS[name]}, in row {row + 1}, {_of(frame, row)} "
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


def choose(
    frame: pl.DataFrame,
    path: Path,
    *,
    domains: Collection[str] = (),
    llms: Collection[str] = (),
    exclude_llms: Collection[str] = (),
) -> pl.DataFrame:
    """Keep some domains and LLMs; an empty collection keeps all.

    Raises
    ------
    InputError
        A name is not in the table, or nothing or a single LLM is left.
    """
    for column, key, names in (
        ("domain", "domains", domains),
        ("llm", "llms", llms),
        ("llm", "exclude_llms", exclude_llms),
    ):
        known = set(frame[column].drop_nulls())
        unknown = [name for name in names if name not in known]
        if unknown:
            raise InputError(
                f"{path}: `clean_routing.{key}` names {unknown[0]!r}, which the table does not have; "
                f"it has {_some(sorted(known))}"
            )
    if domains:
        frame = frame.filter(pl.col("domain").is_in(list(domains)))
    if llms:
        frame = frame.filter(pl.col("llm").is_in(list(llms)))
    if exclude_llms:
        frame = frame.filter(~pl.col("llm").is_in(list(exclude_llms)))
    if frame["llm"].n_unique() < 2:
        raise InputError(
            f"{path}: routing needs at least two LLMs, but `clean_routing.domains`, `.llms` and `.exclude_llms` leave "
            f"{frame['llm'].n_unique()}: choose more"
        )
    return frame


def complete(frame: pl.DataFrame, path: Path, incomplete_queries: Literal["refuse", "drop"]) -> pl.DataFrame:
    """Make sure that every query has one answer with a quality of every LLM, and one text and domain.

    Parameters
    ----------
    frame
        As `read_table` returns it.
    path
        Named in messages.
    incomplete_queries
        What to do about a query without the row, or without the quality, of some LLM.

    Returns
    -------
    polars.DataFrame
        Sorted by query_id and llm.

    Raises
    ------
    InputError
        A pair of query and LLM is missing or there twice, a query has two texts or domains, or a cost is missing.
    """
    for column in ("query_id", "llm", "query_text", "domain"):
        if frame[column].null_count():
            row = frame[column].is_null().arg_max()
            raise InputError(
                f"{path}: `{column}` is missing in {frame[column].null_count()} rows, as in {_of(frame, row)}: give it"
            )
    frame = frame.with_columns(pl.col("subdomain").fill_null("")).sort("query_id", "llm", maintain_order=True)
    repeated = frame.group_by("query_id", "llm").len().filter(pl.col("len") > 1).sort("query_id", "llm")
    if repeated.height:
        query, llm, times = repeated.row(0)
        raise InputError(
            f"{path}: query {query!r} has {times} rows for LLM {llm!r} ({repeated.height} such pairs): keep one of them"
        )
    about = frame.group_by("query_id").agg(pl.col("query_text", "domain", "subdomain").n_unique())
    for column in ("query_text", "domain", "subdomain"):
        several = about.filter(pl.col(column) > 1)["query_id"].sort()
        if len(several):
            raise InputError(
                f"{path}: query {several[0]!r} has more than one `{column}` ({len(several)} such queries): give every "
                "query an id of its own"
            )
    answered = frame.filter(pl.col("quality").is_not_null())
    llms = frame["llm"].unique().sort()
    counts = answered.group_by("query_id").len().filter(pl.col("len") == len(llms))
    whole = answered.filter(pl.col("query_id").is_in(counts["query_id"].implode()))
    if not whole.height or (whole.height < frame.height and incomplete_queries == "refuse"):
        broken = frame.filter(~pl.col("query_id").is_in(counts["query_id"].implode()))
        query = broken["query_id"][0]
        there = broken.filter((pl.col("query_id") == query) & pl.col("quality").is_not_null())["llm"]
        absent = llms.filter(~llms.is_in(there.implode()))[0]
        raise InputError(
            f"{path}: query {query!r} has no quality for LLM {absent!r} ({broken['query_id'].n_unique()} of "
            f"{frame['query_id'].n_unique()} queries lack some LLM): add it, choose a complete part by "
            "`clean_routing.domains`, `.llms` or `.exclude_llms`, or set `clean_routing.incomplete_queries` to `drop`"
        )
    unpriced = whole.filter(pl.col("cost_usd").is_null())["llm"].unique().sort().to_list()
    if unpriced:
        raise InputError(
            f"{path}: routing needs costs, but {whole['cost_usd'].null_count()} outcomes of {len(unpriced)} LLMs have "
            f"none: give them, or set `clean_routing.exclude_llms` to [{', '.join(unpriced)}]"
        )
    return whole


def _of(frame: pl.DataFrame, row: int | None) -> str:
    place = row or 0
    return f"query {frame['query_id'][place]!r}, LLM {frame['llm'][place]!r}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
