"""From entries to rows of the tables, and back."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Boolean, Connection, Float, Integer, Row, Table, Text, cast, func, select

from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import (
    ROUTED,
    Answer,
    CallEntry,
    DecisionEntry,
    DecisionRecord,
    Lesson,
    ServedEntry,
    StoredDecision,
    StoredFeedback,
    StoreEntry,
    packed,
    unpacked,
)
from symbiosis.routing.serving.storage.tables import calls, decisions, feedback

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

ROWS = 2000
"""Of a frame, that are read at once."""
EXPLANATIONS = 200
"""That are read at once: polars takes 40 kB to read one of them."""
_CALL = tuple(field.name for field in fields(CallEntry))
_PLAIN = tuple(field.name for field in fields(DecisionEntry) if field.name not in ("record", "text"))
_RECORD = ("llm", "at", "propensity", "prompt_tokens", "cost_usd", "quality", "budget_usd")


class Grouped(NamedTuple):
    """Entries by table: rows of decisions and of calls, and which LLMs served."""

    decisions: list[dict[str, Any]]
    calls: list[dict[str, Any]]
    served: list[ServedEntry]


def grouped(entries: Sequence[StoreEntry]) -> Grouped:
    """Return the entries as rows."""
    made = Grouped([], [], [])
    for entry in entries:
        if isinstance(entry, DecisionEntry):
            made.decisions.append(_decision_row(entry))
        elif isinstance(entry, CallEntry):
            row = {name: getattr(entry, name) for name in _CALL}
            row["error"] = None if entry.error is None else clean(entry.error)
            made.calls.append(row)
        else:
            made.served.append(entry)
    return made


def clean(written: str) -> str:
    """Return a text as any database keeps it: NUL characters and halves of surrogate pairs are replaced."""
    return written.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def told(row: Row[Any]) -> Feedback:
    """Return what a row of feedback tells."""
    return Feedback(row.quality, row.response_tokens, row.satisfied)


def lesson(row: Row[Any]) -> Lesson:
    """Return a lesson from a row of a decision with its feedback's columns, ``told_...``.

    Where another LLM answered than was chosen, its expected quality and its chance are those of the explanation.
    """
    record = _record(row)
    if row.served != record.llm:
        record.llm = row.served
        for arm in (row.details or {}).get("arms", ()):
            if arm.get("llm") == row.served:
                record.quality = arm.get("quality", record.quality)
                record.propensity = arm.get("probability") or record.propensity
    tokens = row.counted_tokens if row.told_response_tokens is None else row.told_response_tokens
    given = Feedback(row.told_quality, tokens, row.told_satisfied)
    return Lesson(row.told_lesson, row.sequence, row.told_at, record, given)


def answer(row: Row[Any]) -> Answer:
    """Return a lesson with its decision from the same row, and what its upstream ``counted_...``."""
    drawn = row.mode in ROUTED and row.served == row.llm
    return Answer(
        lesson=lesson(row),
        chosen=row.llm,
        propensity=row.propensity if drawn else None,
        source=row.told_source,
        prompt_tokens=row.counted_prompt,
        cost_usd=row.counted_usd,
        **{name: getattr(row, name) for name in ("mode", "policy", "router", "version", "text_sha256", "text")},
    )


def stored(connection: Connection, found: Sequence[Row[Any]]) -> list[StoredDecision]:
    """Return decisions from their rows, with their calls and feedback."""
    ids = [row.id for row in found]
    called: dict[str, list[CallEntry]] = defaultdict(list)
    for row in connection.execute(select(calls).where(calls.c.decision.in_(ids)).order_by(calls.c.attempt)):
        called[row.decision].append(CallEntry(**{name: getattr(row, name) for name in _CALL}))
    given = {
        row.decision: StoredFeedback(told(row), row.at, row.source, row.lesson)
        for row in connection.execute(select(feedback).where(feedback.c.decision.in_(ids)))
    }
    return [
        StoredDecision(
            row.sequence,
            DecisionEntry(_record(row), text=row.text, **{name: getattr(row, name) for name in _PLAIN}),
            tuple(called[row.id]),
            given.get(row.id),
        )
        for row in found
    ]


def frame(connection: Connection, table: Table, since: float, without: Sequence[str] = ()) -> "pl.DataFrame":
    """Return the rows of a table since a time, in order."""
    import polars as pl

    kinds = {Integer: pl.Int64, Float: pl.Float64, Boolean: pl.Boolean}
    columns = [column for column in table.c if column.name not in without]
    schema = {
        column.name: next((kind for sql, kind in kinds.items() if isinstance(column.type, sql)), pl.String)
        for column in columns
    }
    chosen = select(*columns).where(table.c.at >= since).order_by(table.c.sequence)
    # Some at a time: as objects of Python, a day's rows would take many times what the frame does.
    found = connection.execute(chosen.execution_options(yield_per=ROWS))
    parts = [pl.DataFrame([tuple(row) for row in part], schema=schema, orient="row") for part in found.partitions()]
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def details(connection: Connection, since: float, step: int) -> "Iterator[pl.DataFrame]":
    """Give the id and the explanation, as JSON text, of each step-th decision since a time that has one, in parts."""
    import polars as pl

    table = decisions.c
    wanted = (table.at >= since, table.details.is_not(None), table.sequence % step == 0)
    # As text: a table of many is read faster by polars than row by row into objects.
    chosen = select(table.id, cast(table.details, Text)).where(*wanted).order_by(table.sequence)
    found = connection.execute(chosen.execution_options(yield_per=EXPLANATIONS))
    for part in found.partitions():
        yield pl.DataFrame([tuple(row) for row in part], schema={"id": pl.String, "details": pl.String}, orient="row")


def vectors(connection: Connection, since: float, after: int, most: int) -> list["np.ndarray"]:
    """Return the vectors of the decisions since a time and of higher sequences, at most so many: of more, each k-th."""
    table = decisions.c
    # A query without a vector was served by the default, as the router failed.
    wanted = (table.at >= since, table.sequence > after, table.mode != "failed-open")
    found = connection.scalar(select(func.count()).select_from(decisions).where(*wanted)) or 0
    step = -(-max(found, 1) // most)
    chosen = select(table.vector_type, table.vector).where(*wanted, table.sequence % step == 0)
    return [unpacked(kind, numbers) for kind, numbers in connection.execute(chosen.order_by(table.sequence))]


def write_lines(path: Path, found: Iterable[StoredDecision]) -> int:
    """Write decisions as JSON lines, whole or not at all; return how many.

    Raises
    ------
    InputError
        The path is a folder, or a device: nothing may take its place.
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is no file: name one")
    count = 0
    with staged(path) as (draft,), draft.open("w", encoding="utf-8") as file:
        for one in found:
            file.write(json.dumps(one.to_dict(vector=True), ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def _decision_row(entry: DecisionEntry) -> dict[str, Any]:
    record = entry.record
    row = {name: getattr(record, name) for name in _RECORD} | {name: getattr(entry, name) for name in _PLAIN}
    kind, numbers = packed(record.vector)
    row["text"] = None if entry.text is None else clean(entry.text)
    return row | {"id": record.decision, "vector_type": kind, "vector": numbers}


def _record(row: Row[Any]) -> DecisionRecord:
    values = {name: getattr(row, name) for name in _RECORD}
    return DecisionRecord(decision=row.id, vector=unpacked(row.vector_type, row.vector), **values)
