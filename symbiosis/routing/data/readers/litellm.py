"""Logs of LiteLLM's proxy, to one row per answer.

Two forms: the ``StandardLoggingPayload`` that its loggers write, one JSON object a line
(docs.litellm.ai/docs/proxy/logging_spec: ``model``, ``messages``, ``response_cost``, ``prompt_tokens``,
``completion_tokens``, ``startTime`` and ``endTime`` in seconds, ``status``, ``cache_hit``, ``metadata``), and rows of
its table ``LiteLLM_SpendLogs``, where the cost is ``spend`` and times are dates. Prompts are only there where
``store_prompts_in_spend_logs`` is on. LiteLLM logs no quality: it is taken from a mark among `MARKS` in the record or
in its metadata.

Left out are failed calls, calls that are no chat, and calls without a prompt. What came out of a cache has neither
cost nor latency.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from symbiosis.routing.data.readers.columns import ALIASES
from symbiosis.routing.data.readers.nested import NAMES, told
from symbiosis.routing.data.readers.query_text import text_of
from symbiosis.routing.data.readers.records import Record

KEYS = {"model", "startTime", "endTime"}
COSTS = ("response_cost", "spend")
MARKS = ("quality", "score", "satisfied", "feedback", "rating", "thumbs", "user_feedback")
"""Names of a quality, in the record or in its metadata."""
WORDS = dict.fromkeys(("up", "good", "pass", "passed", "correct", "yes", "true", "positive", "thumbs_up", "like"), 1.0)
WORDS |= dict.fromkeys(("down", "bad", "fail", "failed", "incorrect", "no", "false", "negative", "thumbs_down"), 0.0)
"""What users and checks say of answers in logs."""
_CHATS = ("completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses", "")
_INNER = ("metadata", "requester_metadata", "spend_logs_metadata")


def is_one(record: Mapping[str, Any]) -> bool:
    """Tell whether a record is of such a log."""
    record = _payload(record)
    return record.keys() >= KEYS and any(name in record for name in COSTS)


def rows(records: Iterable[tuple[str, Record]], left_out: Counter[str]) -> Iterator[tuple[str, Record]]:
    """Yield one row per answer; count in `left_out` what is none."""
    for place, whole in records:
        record = _payload(whole)
        if str(record.get("status") or "success").lower() not in ("success", "ok", "200"):
            left_out["failed_calls"] += 1
            continue
        if str(record.get("call_type") or "").removeprefix("litellm.") not in _CHATS:
            left_out["calls_that_are_no_chat"] += 1
            continue
        asked = _prompt(record)
        if not asked:
            left_out["answers_without_prompt"] += 1
            continue
        cached = str(record.get("cache_hit")).lower() == "true"
        cost = next((record[name] for name in COSTS if record.get(name) is not None), None)
        around = _around(record)
        yield (
            place,
            {
                "query_text": asked,
                "domain": domain_of(around),
                "llm": record.get("model") or record.get("model_group"),
                "quality": mark_of(around),
                "prompt_tokens": record.get("prompt_tokens"),
                "response_tokens": record.get("completion_tokens"),
                "cost_usd": None if cached else cost,
                "latency_s": None if cached else _seconds(record.get("startTime"), record.get("endTime")),
                "tokens_basis": "api_reported",
                "cost_basis": "source",
            },
        )


def mark_of(parts: Iterable[Mapping[str, Any]], names: Iterable[str] = MARKS) -> Any:
    """Return the first quality that is told, words as `WORDS` say; None if none is."""
    names = tuple(names)
    for part in parts:
        for name in names:
            value = part.get(name)
            if isinstance(value, dict):
                value = told(value, "quality") if any(n in value for n in NAMES["quality"]) else value.get("value")
            if isinstance(value, str):
                value = WORDS.get(value.strip().lower(), value)
            if isinstance(value, bool | int | float | str) and value != "":
                return value
    return None


def domain_of(parts: Iterable[Mapping[str, Any]]) -> Any:
    """Return the first label of a domain that is told; None if none is."""
    names = ("domain", *ALIASES["domain"])
    return next((part[name] for part in parts for name in names if isinstance(part.get(name), str)), None)


def _payload(record: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = record.get("standard_logging_object")
    return inner if isinstance(inner, dict) else record


def _around(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the record, and whatever metadata it holds."""
    found: list[Mapping[str, Any]] = [record]
    for part in found:
        found += [inner for name in _INNER if isinstance(inner := _read(part.get(name)), dict) and inner]
    return found


def _prompt(record: Mapping[str, Any]) -> str | None:
    request = _read(record.get("proxy_server_request"))
    places = (
        record.get("messages"),
        record.get("input"),
        request.get("messages") if isinstance(request, dict) else None,
    )
    for given in places:
        value = _read(given)
        if value and (text := text_of(value)) and "redacted-by-litellm" not in text:
            return text
    return None


def _read(value: Any) -> Any:
    """Return what a JSON text holds; a text that is none, and anything else, as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _seconds(start: Any, end: Any) -> float | None:
    """Seconds between two times, each a number of seconds or a date."""
    first, last = _time(start), _time(end)
    return None if first is None or last is None or last < first else last - first


def _time(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(str(value).strip()).timestamp()
    except ValueError:
        return None
