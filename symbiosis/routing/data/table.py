"""The long routing table: giving its columns their types, by one rule for all formats.

One row holds the outcome of one query with one LLM. `COLUMNS` lists what is read; other columns are ignored.
"""

import hashlib
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter

from symbiosis.core.errors import InputError, quoted
from symbiosis.routing.data.readers.columns import ALIASES, COLUMNS, NAMES, QUERIES, REQUIRED
from symbiosis.routing.data.readers.query_text import texts
from symbiosis.routing.data.readers.table_files import format_of, read_frame

# Where token counts come from: the provider's bill, one tokenizer for all LLMs, the LLM's mean length, a quarter of
# the characters, or the generative model of `symbiosis.routing.data.synthetic`.
TOKENS_BASES = ("api_reported", "tokenizer", "imputed_model_mean", "characters", "synthetic")
# Where costs come from: the data themselves, or tokens times a price list.
COST_BASES = ("source", "list_price")
# No table of real LLMs is slower than this on the median; one in milliseconds is.
SLOW_S, SLOW_TOKENS_PER_S = 100.0, 0.5
_DURATION = TypeAdapter(timedelta)


def read_table(path: Path, words: Mapping[str, float] | None = None) -> pl.DataFrame:
    """Read a long table and give every column of `COLUMNS` its type; optional columns that are absent become null.

    Columns may have one of the names in `ALIASES`. Where there is no id, every different text is a query.

    Parameters
    ----------
    path
        Of the file.
    words
        Marks of words in the column ``quality``.

    Raises
    ------
    InputError
        A required column is missing, there are no rows, or a value is not of its column's type.
    """
    return typed(long_frame(path), path, words)


def long_frame(path: Path) -> pl.DataFrame:
    """Read a long table, its columns named as in `COLUMNS` but of the types that the file gives them.

    Raises
    ------
    InputError
        A required column is missing, or the file is damaged.
    """
    kind = format_of(path)
    frame = read_frame(path, NAMES, QUERIES)
    if kind in ("json", "jsonl"):  # a key that no record has
        frame = frame.select(c for c in frame.columns if frame[c].null_count() < frame.height or not frame.height)
    frame = renamed(frame)
    require_columns(frame.columns, path)
    if kind == "csv":  # csv cannot tell an empty text from a missing one
        frame = frame.with_columns(pl.col("query_text").fill_null(""))
    return frame


def require_columns(names: Collection[str], path: Path) -> None:
    """Make sure that the required columns are there.

    Raises
    ------
    InputError
        One is missing.
    """
    missing = [c for c in REQUIRED if c not in names and not set(ALIASES[c]) & set(names)]
    if missing:
        raise InputError(
            f"{path}: the column `{missing[0]}` is missing: a routing table has {', '.join(REQUIRED)} and, where "
            f"known, {', '.join(c for c in COLUMNS if c not in REQUIRED)}"
        )


def typed(frame: pl.DataFrame, path: Path, words: Mapping[str, float] | None = None) -> pl.DataFrame:
    """Cast a frame to `COLUMNS`, its own order and rows kept.

    NaN and, among numbers, an empty text are null. Infinities are refused. A quality may be true or false, a latency a
    duration, a query a list of chat messages (see `symbiosis.routing.data.readers.query_text`).

    Raises
    ------
    InputError
        There are no rows, or a value does not fit its column.
    """
    if frame.is_empty():
        raise InputError(f"{path}: the table has no rows")
    for name in [c for c in COLUMNS if c in frame.columns]:
        given = frame[name].fill_nan(None) if frame[name].dtype.is_float() else frame[name]
        if COLUMNS[name] != pl.String():
            given = _without_blanks(given)
        if name == "quality" and words and given.dtype == pl.String:
            given = _marked(given, {word.lower(): str(mark) for word, mark in words.items()})
        try:
            cast = _cast(given, COLUMNS[name])
        except pl.exceptions.PolarsError:
            raise InputError(
                f"{path}: the column `{name}` holds {given.dtype}, not {COLUMNS[name]}: convert it"
            ) from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        lost = cast.is_null() & given.is_not_null()
        if lost.any():
            row = lost.arg_max() or 0
            raise InputError(
                f"{path}: `{name}` is {given[row]!r}, not {COLUMNS[name]}, in row {row + 1}, {place(frame, row)} "
                f"({lost.sum()} such rows): correct it"
            )
        frame = frame.with_columns(cast)
    frame = frame.select(
        pl.col(c) if c in frame.columns else pl.lit(None, dtype=dtype).alias(c) for c, dtype in COLUMNS.items()
    )
    return frame if frame["query_id"].null_count() < frame.height else frame.with_columns(_ids(frame["query_text"]))


def renamed(frame: pl.DataFrame) -> pl.DataFrame:
    """Give columns with other names, see `ALIASES`, those of `COLUMNS`."""
    names = {}
    for column, others in ALIASES.items():
        found = next((other for other in others if other in frame.columns), None)
        if column not in frame.columns and found is not None:
            names[found] = column
    return frame.rename(names)


def _ids(text: pl.Series) -> pl.Series:
    """Name every different text by its SHA-256."""
    names = {one: hashlib.sha256(one.encode()).hexdigest()[:16] for one in text.drop_nulls().unique()}
    return text.replace_strict(names, default=None, return_dtype=pl.String).alias("query_id")


def _marked(column: pl.Series, marks: Mapping[str, str]) -> pl.Series:
    """Replace words, whatever their case, by their marks."""
    known = column.str.to_lowercase().replace_strict(marks, default=None, return_dtype=pl.String)
    return known.fill_null(column).rename(column.name)


def _without_blanks(column: pl.Series) -> pl.Series:
    """Turn blank texts and written NaN among numbers into null."""
    if column.dtype in (pl.Categorical, pl.Enum):
        column = column.cast(pl.String)
    if column.dtype != pl.String:
        return column
    column = column.str.strip_chars()
    return column.set(column.str.to_lowercase().is_in(["", "nan"]).fill_null(value=False), None)


def _cast(column: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Cast; what does not fit becomes null. A whole number may be written as 98.0, as pandas does beside gaps.

    Raises
    ------
    polars.exceptions.PolarsError
        Nothing of the column's type fits.
    InputError
        A query is neither a text nor a list of messages.
    """
    name = column.name
    if name == "query_text":
        return texts(column)
    if dtype == pl.String():
        return column.cast(dtype, strict=False)
    if name == "latency_s" and column.dtype == pl.Duration:
        return (column.dt.total_nanoseconds() / 1e9).rename(name)
    is_right_or_wrong = name == "quality" and column.dtype == pl.Boolean
    if not (column.dtype.is_numeric() or column.dtype in (pl.String, pl.Null) or is_right_or_wrong):
        raise pl.exceptions.InvalidOperationError(f"{column.dtype} are no numbers")
    if dtype == pl.Int64() and column.dtype.is_integer():
        return column.cast(dtype, strict=False)
    number = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and name == "quality":
        words = column.str.to_lowercase().replace_strict({"true": 1.0, "false": 0.0}, default=None)
        number = number.fill_null(words.cast(pl.Float64))
    if column.dtype == pl.String and name == "latency_s":
        written = column.filter(number.is_null() & column.is_not_null()).unique()
        seconds = {text: _seconds(text) for text in written}
        number = number.fill_null(column.replace_strict(seconds, default=None, return_dtype=pl.Float64))
    number = number.set(~number.is_finite().fill_null(value=True), None)
    if dtype == pl.Int64():
        number = number.set((number != number.floor()).fill_null(value=False), None)
    return number.cast(dtype, strict=False)


def _seconds(text: str) -> float | None:
    """Read a duration as ISO 8601, pandas and Python write it."""
    try:
        return _DURATION.validate_python(text).total_seconds()
    except ValueError:
        return None


def require_plausible(frame: pl.DataFrame, path: Path) -> None:
    """Find what contradicts the units of a table.

    Parameters
    ----------
    frame
        As `typed` returns it.
    path
        Named in messages.

    Raises
    ------
    InputError
        Most qualities above 0 lie between 1 and 100, or answers took so long that they must be in milliseconds.
    """
    marks = frame["quality"].drop_nulls().to_numpy()
    marks = marks[marks != 0]
    if len(marks) and marks.min() > 0 and marks.max() <= 100 and (marks > 1).mean() > 0.5:
        raise InputError(
            f"{path}: `quality` goes up to {marks.max():g}, but is a share from 0 to 1: this looks like percent; "
            "divide by the highest mark there is"
        )
    timed = frame.filter(pl.col("latency_s") > 0, pl.col("response_tokens") > 0)
    slow = (
        timed.group_by("llm")
        .agg(
            pl.col("latency_s").median().alias("seconds"),
            (pl.col("response_tokens") / pl.col("latency_s")).median().alias("rate"),
        )
        .filter(pl.col("seconds") > SLOW_S, pl.col("rate") < SLOW_TOKENS_PER_S)
        .sort("llm")
    )
    for llm, seconds, rate in slow.iter_rows():
        raise InputError(
            f"{path}: the median `latency_s` of LLM {llm!r} is {seconds:,.0f}, at {rate:.2g} tokens a second: this "
            "looks like milliseconds; divide by 1,000"
        )


def place(frame: pl.DataFrame, row: int | None) -> str:
    """Name a row by its query and LLM, for messages."""
    column = "query_id" if "query_id" in frame.columns else "query_text"
    parts = [("query", column), ("LLM", "llm")]
    return ", ".join(f"{what} {quoted(frame[name][row or 0])}" for what, name in parts if name in frame.columns)
