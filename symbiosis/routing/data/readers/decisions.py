"""Our own decisions with feedback, to one row per answer: a store, an export as JSON lines, or a freeze.

A store is the SQLite file that the gateway and the command line keep, ``.router/store.db``; one in PostgreSQL is
exported first (`symbiosis decisions export`). Only decisions of which somebody said how the answer was have a quality,
and texts are there only where ``gateway.yaml`` has ``store_texts: true``. Others are left out.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from symbiosis.core.errors import InputError
from symbiosis.routing.data.readers.records import Record

STORE = "store.db"
"""Name of the file in a folder of the router's state."""
EXPORTED = {"id", "llm", "calls", "feedback", "text_sha256"}
"""Keys of a line of an export."""
FROZEN = {"lesson", "decision", "vector", "text_sha256"}
"""Columns of a freeze, see `symbiosis.routing.data.readers.exports.EXPORT`."""


def store_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the decisions of a store as an export has them; the store may be in use.

    Raises
    ------
    InputError
        The file is damaged or no store.
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        try:
            calls: dict[str, list[Record]] = {}
            for row in connection.execute("SELECT * FROM calls WHERE decision IS NOT NULL ORDER BY decision, attempt"):
                calls.setdefault(row["decision"], []).append(dict(row))
            told = {row["decision"]: dict(row) for row in connection.execute("SELECT * FROM feedback")}
            query = "SELECT sequence, id, llm, served, text FROM decisions ORDER BY sequence"
            for row in connection.execute(query):
                record = dict(row) | {"calls": calls.get(row["id"], []), "feedback": told.get(row["id"])}
                yield f"decision {row['id']}", record
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(f"{path} is no store of decisions ({error}): name another file") from None


def rows(records: Iterable[tuple[str, Record]], left_out: Counter[str]) -> Iterator[tuple[str, Record]]:
    """Yield one row per decision with feedback; count in `left_out` what has no text."""
    for place, record in records:
        if not record.get("text"):
            left_out["answers_without_prompt"] += 1
            continue
        feedback = record.get("feedback") or {}
        llm = record.get("served") or record["llm"]
        answered = [c for c in record.get("calls") or [] if c.get("llm") == llm and not c.get("error")]
        call: Mapping[str, Any] = answered[-1] if answered else {}
        tokens = call.get("response_tokens")
        yield (
            place,
            {
                "query_text": record["text"],
                "llm": llm,
                "quality": _quality(feedback),
                "prompt_tokens": _whole(call.get("prompt_tokens")),
                "response_tokens": _whole(feedback.get("response_tokens") if tokens is None else tokens),
                "cost_usd": call.get("cost_usd"),
                "latency_s": call.get("total_s"),
                "tokens_basis": "api_reported",
                "cost_basis": "source",
            },
        )


def frozen_rows(records: Iterable[tuple[str, Record]], left_out: Counter[str]) -> Iterator[tuple[str, Record]]:
    """Yield one row per answer of a freeze; count in `left_out` what has no text."""
    for place, record in records:
        if not record.get("text"):
            left_out["answers_without_prompt"] += 1
            continue
        counts = {name: _whole(record.get(name)) for name in ("prompt_tokens", "response_tokens")}
        about = {"query_text": record["text"], "llm": record["llm"], "cost_usd": record.get("cost_usd")}
        bases = {"tokens_basis": "api_reported", "cost_basis": "source"}
        yield place, about | counts | bases | {"quality": _quality(record)}


def _quality(told: Mapping[str, Any]) -> float | None:
    quality, satisfied = told.get("quality"), told.get("satisfied")
    return quality if quality is not None else None if satisfied is None else float(satisfied)


def _whole(count: float | None) -> int | None:
    return None if count is None else round(count)
