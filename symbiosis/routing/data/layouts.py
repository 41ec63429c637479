"""What a file of answers is, told by its content, and how it becomes a long table.

Read are long tables, tables with the answers of several LLMs in one record, comparisons of two answers, RouterBench's
wide table, and logs: LiteLLM's, OpenTelemetry's, and our own decisions. See the modules of
`symbiosis.routing.data.readers`. A log has one answer to a query, mostly, and often no quality; what has one is a
partial matrix, see `symbiosis.routing.data.partial`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import polars as pl

from symbiosis.core.errors import InputError, one_line
from symbiosis.routing.data import table
from symbiosis.routing.data.readers import (
    decisions,
    litellm,
    nested,
    opentelemetry,
    pairs,
    pickles,
    records,
    routerbench,
)
from symbiosis.routing.data.readers.columns import ALIASES, COLUMNS
from symbiosis.routing.data.readers.records import Record
from symbiosis.routing.data.readers.table_files import column_names, format_of, read_frame

TITLES = {
    "table": "a table with one row per answer",
    "nested": "a table with several answers in one record",
    "pairs": "comparisons of two answers",
    "routerbench": "RouterBench's wide table",
    "litellm": "a log of LiteLLM",
    "opentelemetry": "OpenTelemetry's spans of generative AI",
    "decisions": "decisions of a router of ours",
    "frozen": "frozen decisions of a router of ours",
}
LOGS = ("litellm", "opentelemetry", "decisions", "frozen")
"""Layouts of what was served: mostly one answer to a query."""
_PROMPTS = {
    "litellm": "set `general_settings.store_prompts_in_spend_logs: true` in the proxy's config",
    "opentelemetry": "let the instrumentation record `gen_ai.input.messages`",
    "decisions": "set `store_texts: true` in gateway.yaml",
    "frozen": "set `store_texts: true` in gateway.yaml",
}
_MARKS = {
    "litellm": "log `score` (0 to 1) in a call's metadata, or add it to the lines",
    "opentelemetry": "add events `gen_ai.evaluation.result` with `gen_ai.evaluation.score.value`",
    "decisions": "say how answers were by `symbiosis feedback` or POST /v1/feedback",
    "frozen": "say how answers were by `symbiosis feedback` or POST /v1/feedback",
}
_SAMPLE = 50
_MISSHAPEN = (AttributeError, IndexError, KeyError, OverflowError, RecursionError, TypeError, ValueError)
"""What a reader of records stumbles with over one that has another form than its layout says."""


@dataclass(frozen=True)
class Reading:
    """What was read of one or more files of the same layout.

    Attributes
    ----------
    layout
        One of `TITLES`.
    frame
        The long table before `symbiosis.routing.data.table.typed`.
    left_out
        How many records were left out, by reason.
    """

    layout: str
    frame: pl.DataFrame
    left_out: dict[str, int] = field(default_factory=dict)


def recognise(path: Path) -> str:
    """Tell the layout of a file, one of `TITLES`.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    kind = format_of(path)
    if kind == "store":
        return "decisions"
    if kind in ("parquet", "csv"):
        columns = set(column_names(path))
    elif kind == "pickle":
        columns = set(pickles.read_frame(path).columns)
    else:
        sample = [record for _, record in islice(records.read_records(path), _SAMPLE)]
        return _of_records(sample, {name for record in sample for name in record}, path)
    if any(name.endswith(routerbench.COST) for name in columns):
        return "routerbench"
    if columns >= decisions.FROZEN:
        return "frozen"
    if _is_long(columns) and not (columns >= litellm.KEYS or columns >= pairs.ARENA):
        return "table"
    return _of_records([record for _, record in islice(_records(path), _SAMPLE)], columns, path)


def read(path: Path, layout: str | None = None) -> Reading:
    """Read a file, whatever its layout.

    Parameters
    ----------
    path
        Of the file.
    layout
        One of `TITLES`; None: as `recognise` tells.

    Raises
    ------
    InputError
        The file is damaged.
    """
    layout = layout or recognise(path)
    if layout == "routerbench":
        return Reading(layout, routerbench.to_long(path, _wide(path)))
    if layout == "table":
        pickled = format_of(path) == "pickle"
        return Reading(layout, table.renamed(_wide(path)) if pickled else table.long_frame(path))
    left: Counter[str] = Counter()
    seen: list[str] = []
    given = _watched(decisions.store_records(path) if format_of(path) == "store" else _records(path), seen)
    makers: dict[str, Callable[[], Iterator[tuple[str, Record]]]] = {
        "nested": lambda: nested.rows(given),
        "pairs": lambda: pairs.rows(given),
        "litellm": lambda: litellm.rows(given, left),
        "opentelemetry": lambda: opentelemetry.rows(given, left),
        "decisions": lambda: decisions.rows(given, left),
        "frozen": lambda: decisions.frozen_rows(given, left),
    }
    with _of_its_form(path, layout, seen):
        frame = records.to_frame(makers[layout](), COLUMNS)
    return Reading(layout, frame.select(c for c in frame.columns if frame[c].null_count() < frame.height), dict(left))


def _watched(given: Iterable[tuple[str, Record]], seen: list[str]) -> Iterator[tuple[str, Record]]:
    """Yield records, and keep in `seen` where the last one stands."""
    for place, record in given:
        seen[:] = [place]
        yield place, record


def read_all(paths: list[Path]) -> Reading:
    """Read files of one layout as one table.

    Raises
    ------
    InputError
        A file is damaged, or has another layout.
    """
    readings = [read(path) for path in paths]
    layouts = {reading.layout for reading in readings}
    if len(layouts) > 1:
        raise InputError(
            f"{paths[0].parent} holds files of several kinds ({', '.join(TITLES[one] for one in sorted(layouts))}): "
            "name one of them"
        )
    left = sum((Counter(reading.left_out) for reading in readings), Counter[str]())
    frame = pl.concat([reading.frame for reading in readings], how="diagonal_relaxed")
    return Reading(readings[0].layout, frame, dict(left))


def learnable(reading: Reading, path: Path) -> Reading:
    """Leave out what a log does not say the quality of, and make sure that something is left.

    Raises
    ------
    InputError
        No query, or no quality, is there: the message says what is, and what to do.
    """
    if reading.layout not in LOGS:
        return reading
    lacking = lacks(reading)
    if lacking is not None:
        raise InputError(f"{path}: {lacking}")
    known = reading.frame.filter(pl.col("quality").is_not_null())
    unknown = reading.frame.height - known.height
    left = reading.left_out | ({"answers_without_quality": unknown} if unknown else {})
    return Reading(reading.layout, known, left)


def lacks(reading: Reading) -> str | None:
    """Say in one line what a log lacks to be learned from at all, and what to do; None if it lacks nothing."""
    title, frame = TITLES[reading.layout], reading.frame
    if frame.is_empty():
        unasked = reading.left_out.get("answers_without_prompt", 0)
        if unasked:
            return f"{title} with {unasked:,} answers, none of them with its prompt: {_PROMPTS[reading.layout]}"
        return f"{title} without answers ({_counted(reading.left_out) or 'it is empty'}): give more"
    if "quality" in frame.columns and frame["quality"].null_count() < frame.height:
        return None
    there = [what for name, what in (("cost_usd", "costs"), ("prompt_tokens", "tokens"), ("latency_s", "times"))
             if name in frame.columns]  # fmt: skip
    return (
        f"{title} with {frame.height:,} answers of {frame['llm'].n_unique()} LLMs"
        f"{', with ' + ', '.join(there) if there else ''}, but no quality, which is what a router learns: "
        f"{_MARKS[reading.layout]}"
    )


def _counted(left_out: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in left_out.items())


def _of_records(sample: list[Record], columns: set[str], path: Path) -> str:
    """Tell the layout of JSON, or of a parquet file with nested columns, by some records of it."""
    if columns >= decisions.EXPORTED:
        return "decisions"
    if columns >= pairs.ALPACA or columns >= pairs.ARENA:
        return "pairs"
    with _of_its_form(path):
        if any(map(opentelemetry.is_one, sample)):
            return "opentelemetry"
        if any(map(litellm.is_one, sample)):
            return "litellm"
    if any(name.endswith(routerbench.COST) for name in columns):
        return "routerbench"
    if _is_long(columns):
        return "table"
    with _of_its_form(path):
        if any(nested.is_results_of_one(record) or nested.answers_of(record) for record in sample):
            return "nested"
    return "table"


@contextmanager
def _of_its_form(path: Path, layout: str | None = None, seen: Sequence[str] = ()) -> Iterator[None]:
    """Name the file, and the last record that was seen, where a reader stumbles over a record.

    Raises
    ------
    InputError
        A record has another form than its layout, or a reader refuses it.
    """
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except _MISSHAPEN as error:
        where = f", {seen[-1]} or before" if seen else ""
        what = f", unlike {TITLES[layout]}" if layout else ""
        reason = one_line(f"{type(error).__name__}: {error}", 200)
        raise InputError(
            f"{path}{where}: a record has another form than the others{what} ({reason}): correct it, or take it out"
        ) from None


def _is_long(columns: set[str]) -> bool:
    """Tell whether every row says of which LLM it is, and how good the answer was."""
    return all(columns & {column, *ALIASES[column]} for column in ("llm", "quality"))


def _records(path: Path) -> Iterator[tuple[str, Record]]:
    if format_of(path) in ("json", "jsonl"):
        yield from records.read_records(path)
        return
    frame = _wide(path)
    for number, record in enumerate(frame.iter_rows(named=True), start=1):
        yield f"row {number}", record


def _wide(path: Path) -> pl.DataFrame:
    """Read all columns of a file."""
    kind = format_of(path)
    if kind == "pickle":
        return pickles.read_frame(path)
    if kind in ("parquet", "csv"):
        return read_frame(path)
    sample = list(records.read_records(path))
    names = dict.fromkeys(name for _, record in sample for name in record)
    return records.to_frame(sample, names, asked=(routerbench.PROMPT,))
