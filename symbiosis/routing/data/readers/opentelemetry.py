"""Spans of generative AI in OpenTelemetry's conventions, to one row per answer.

Read are OTLP's JSON (``resourceSpans``, and ``resourceLogs`` with events; as the collector's file exporter writes it,
one object a line) and the spans that the SDKs' console exporters print. An answer is a span with
``gen_ai.request.model`` or ``gen_ai.response.model``: tokens in ``gen_ai.usage.input_tokens`` and ``.output_tokens``
(before: ``prompt_tokens``, ``completion_tokens``), the query in ``gen_ai.input.messages`` (before: ``gen_ai.prompt``,
in an event, or ``gen_ai.prompt.0.content``). Quality is ``gen_ai.evaluation.score.value`` or ``.label`` of the event
``gen_ai.evaluation.result``, on the span, on a span below it, or in a log that names the span or
``gen_ai.response.id``. The conventions name no cost: ``gen_ai.usage.cost``, ``gen_ai.cost.total`` and the like are
read. Sources: opentelemetry.io/docs/specs/semconv/gen-ai (spans and events), opentelemetry.io/docs/specs/otlp.

A span around others that are answers, such as a gateway's, is none itself: query and evaluation pass down to the one
below that did not fail. Left out are failed calls and calls without a query.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from symbiosis.routing.data.readers.litellm import MARKS, domain_of, mark_of
from symbiosis.routing.data.readers.query_text import text_of
from symbiosis.routing.data.readers.records import Record

MODELS = ("symbiosis.llm", "gen_ai.request.model", "gen_ai.response.model")
COSTS = ("gen_ai.usage.cost", "gen_ai.usage.cost_usd", "gen_ai.cost.total", "gen_ai.usage.total_cost",
         "llm.usage.total_cost", "llm.cost.total", "symbiosis.cost_usd", "cost_usd", "cost")  # fmt: skip
PROMPT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens")
RESPONSE_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens")
EVALUATION = "gen_ai.evaluation."
SCORES = ("gen_ai.evaluation.score.value", "gen_ai.evaluation.score", "gen_ai.evaluation.score.label")
_CHATS = ("chat", "text_completion", "generate_content", "completion", "")
_FAILED = ("2", "ERROR", "STATUS_CODE_ERROR")


@dataclass
class _Span:
    """What is read of a span; times in seconds, events with their attributes."""

    place: str
    key: str
    above: str
    attributes: Mapping[str, Any]
    events: Sequence[tuple[str, Mapping[str, Any]]]
    seconds: float | None
    failed: bool
    marks: list[Any] = field(default_factory=list)

    @property
    def is_answer(self) -> bool:
        operation = str(self.attributes.get("gen_ai.operation.name") or "")
        return operation in _CHATS and any(self.attributes.get(name) for name in MODELS)


def is_one(record: Mapping[str, Any]) -> bool:
    """Tell whether a record holds such spans."""
    if any(name in record for name in ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")):
        return True
    attributes = record.get("attributes")
    told = _flat(attributes) if isinstance(attributes, list | dict) else {}
    return any(str(name).startswith("gen_ai.") for name in told)


def rows(records: Iterable[tuple[str, Record]], left_out: Counter[str]) -> Iterator[tuple[str, Record]]:
    """Yield one row per answer; count in `left_out` what is none."""
    spans: dict[str, _Span] = {}
    marks: dict[str, list[Any]] = defaultdict(list)
    for place, record in records:
        for span in _spans(place, record):
            spans[span.key] = span
        for key, mark in _logged(record):
            marks[key].append(mark)
    below: dict[str, list[_Span]] = defaultdict(list)
    for span in spans.values():
        span.marks += [_mark(event) for name, event in span.events if _judges(name, event)]
        span.marks += marks.get(span.key, []) + marks.get(str(span.attributes.get("gen_ai.response.id")), [])
        below[span.above].append(span)
    for span in spans.values():  # feedback that came late, in a span of its own
        if not span.is_answer and span.marks and span.above in spans:
            spans[span.above].marks += span.marks
    wrapping = {span.key for span in spans.values() if span.is_answer and any(_answers_below(span, below))}
    for span in spans.values():
        if not span.is_answer or span.key in wrapping:
            continue
        if span.failed:
            left_out["failed_calls"] += 1
            continue
        line = [span, *_above(span, spans, wrapping, below)]
        asked = next((text for one in line if (text := _asked(one))), None)
        if asked is None:
            left_out["answers_without_prompt"] += 1
            continue
        told = span.attributes
        yield (
            span.place,
            {
                "query_text": asked,
                "domain": domain_of(one.attributes for one in line),
                "llm": _first(told, MODELS),
                "quality": next((mark for one in line if (mark := _judged(one)) is not None), None),
                "prompt_tokens": _first(told, PROMPT_TOKENS),
                "response_tokens": _first(told, RESPONSE_TOKENS),
                "cost_usd": _first(told, COSTS),
                "latency_s": span.seconds,
                "tokens_basis": "api_reported",
                "cost_basis": "source",
            },
        )


def _above(
    span: _Span, spans: Mapping[str, _Span], wrapping: set[str], below: Mapping[str, list[_Span]]
) -> Iterator[_Span]:
    """Yield the spans around a call for which it is the only one that did not fail."""
    seen = {span.key}
    while (above := spans.get(span.above)) is not None and above.key not in seen:
        seen.add(above.key)
        alone = sum(not one.failed for one in _answers_below(above, below)) == 1
        if alone and (above.key in wrapping or not above.is_answer):
            yield above
        span = above


def _answers_below(span: _Span, below: Mapping[str, list[_Span]]) -> Iterator[_Span]:
    """Yield the answers anywhere below a span, none of which is around another."""
    waiting, seen = list(below.get(span.key, [])), {span.key}
    while waiting:
        one = waiting.pop()
        if one.key in seen:
            continue
        seen.add(one.key)
        inner = below.get(one.key, [])
        waiting += inner
        if one.is_answer and not any(i.is_answer for i in inner):
            yield one


def _spans(place: str, record: Record) -> Iterator[_Span]:
    groups = record.get("resourceSpans", record.get("resource_spans"))
    if groups is None:
        if "attributes" in record and ("start_time" in record or "startTimeUnixNano" in record):
            yield _span(place, record)
        return
    for group in groups:
        scopes = group.get("scopeSpans") or group.get("scope_spans") or group.get("instrumentationLibrarySpans") or []
        for scope in scopes:
            yield from (_span(place, span) for span in scope.get("spans") or [])


def _span(place: str, span: Mapping[str, Any]) -> _Span:
    context = span.get("context") or {}
    trace = _either(span, "traceId", "trace_id") or context.get("trace_id")
    own = _either(span, "spanId", "span_id") or context.get("span_id")
    above = _either(span, "parentSpanId", "parent_span_id") or span.get("parent_id")
    start = _time(_either(span, "startTimeUnixNano", "start_time"))
    end = _time(_either(span, "endTimeUnixNano", "end_time"))
    status = span.get("status") or {}
    attributes = _flat(span.get("attributes"))
    failed = str(_either(status, "code", "status_code")) in _FAILED or "error.type" in attributes
    events = [(str(event.get("name")), _flat(event.get("attributes"))) for event in span.get("events") or []]
    seconds = end - start if start is not None and end is not None and end >= start else None
    return _Span(place, f"{trace}-{own}", f"{trace}-{above}", attributes, events, seconds, failed)


def _logged(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield what evaluations in logs are of, the key of a span or the id of a response, and their marks."""
    for group in record.get("resourceLogs", record.get("resource_logs")) or []:
        for scope in group.get("scopeLogs") or group.get("scope_logs") or []:
            for log in scope.get("logRecords") or scope.get("log_records") or []:
                attributes = _flat(log.get("attributes"))
                name = str(_either(log, "eventName", "event_name") or attributes.get("event.name"))
                if not _judges(name, attributes):
                    continue
                trace, span = _either(log, "traceId", "trace_id"), _either(log, "spanId", "span_id")
                response = attributes.get("gen_ai.response.id")
                yield f"{trace}-{span}" if span else str(response), _mark(attributes)


def _asked(span: _Span) -> str | None:
    """Return the query of a span, from whichever place holds it."""
    told = span.attributes
    parts = [_written(told.get("gen_ai.system_instructions")), _written(told.get("gen_ai.input.messages"))]
    if parts[1] is None:
        named = [key for key in told if key.startswith(("gen_ai.prompt.", "llm.prompts.")) and key.endswith(".content")]
        parts = [told[key] for key in sorted(named, key=lambda key: [int(p) for p in key.split(".") if p.isdigit()])]
    if not parts:
        parts = [_written(told.get(key)) for key in ("gen_ai.prompt", "gen_ai.request.prompt", "input.value")]
    if not any(parts):
        held = ("gen_ai.prompt", "gen_ai.input.messages", "content", "gen_ai.event.content")
        parts = [
            _written(next((event[key] for key in held if key in event), None))
            for name, event in span.events
            if name.startswith(
                ("gen_ai.content.prompt", "gen_ai.system.message", "gen_ai.user.message", "gen_ai.client")
            )
        ]
    texts = [text for part in parts if part and (text := text_of(part))]
    return "\n".join(texts) or None


def _judged(span: _Span) -> Any:
    """Return the quality that a span tells; the mean of several, if all are numbers."""
    marks = [mark for mark in span.marks if mark is not None]
    if len(marks) > 1 and all(isinstance(mark, bool | int | float) for mark in marks):
        return sum(float(mark) for mark in marks) / len(marks)
    return marks[-1] if marks else mark_of([span.attributes], (*SCORES, *MARKS))


def _judges(name: str, attributes: Mapping[str, Any]) -> bool:
    return name.startswith(EVALUATION.rstrip(".")) or any(key.startswith(EVALUATION) for key in attributes)


def _mark(attributes: Mapping[str, Any]) -> Any:
    return mark_of([attributes], SCORES)


def _written(value: Any) -> Any:
    """Return what a JSON text holds; any other text as it is."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return value if text_of(read) is None else read
    return value


def _flat(attributes: Any) -> dict[str, Any]:
    """Return attributes as a map, from OTLP's list of keys and typed values or from a map."""
    if isinstance(attributes, dict):
        return attributes
    return {
        pair["key"]: _value(pair.get("value")) for pair in attributes or [] if isinstance(pair, dict) and "key" in pair
    }


def _value(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return value
    kind, held = next(iter(value.items()))
    if kind in ("arrayValue", "array_value"):
        return [_value(one) for one in held.get("values") or []]
    if kind in ("kvlistValue", "kvlist_value"):
        return _flat(held.get("values"))
    if kind in ("intValue", "int_value"):  # OTLP writes 64-bit numbers as texts
        return int(held)
    return held


def _first(told: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((told[name] for name in names if told.get(name) not in (None, "")), None)


def _either(record: Mapping[str, Any], *names: str) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)


def _time(value: Any) -> float | None:
    """Seconds since the epoch of nanoseconds or a date."""
    try:
        return float(value) / 1e9
    except (TypeError, ValueError):
        pass
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return None
