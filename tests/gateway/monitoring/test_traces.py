"""Traces: what a collector on loopback receives, and that nobody waits for one that is gone."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from symbiosis.gateway.config.schema import TracesConfig
from symbiosis.gateway.monitoring import assessments as module
from symbiosis.gateway.monitoring import traces as spans
from symbiosis.gateway.monitoring.assessments import Assessments, mlflow_address
from symbiosis.gateway.monitoring.traces import Traces
from symbiosis.routing.serving.records import CallEntry

PARENT = "0af7651916cd43dd8448eb211c80319c"


class Collector(ThreadingHTTPServer):
    """Takes spans as a collector does, and assessments as MLflow does."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.resources: set[str] = set()
        self.assessments: list[tuple[str, dict[str, Any]]] = []
        self.statuses: list[int] = []
        self.paused = threading.Event()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def named(self, name: str) -> Span:
        """The only span of this name."""
        (found,) = (span for span in self.spans if span.name == name)
        return found


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Collector

    def do_POST(self) -> None:
        """Take it down."""
        body = self.rfile.read(int(self.headers["content-length"]))
        collector = self.server
        status = collector.statuses.pop(0) if collector.statuses else 200
        if self.path == "/v1/traces":
            collector.headers.append({name.lower(): value for name, value in self.headers.items()})
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                collector.resources |= {one.value.string_value for one in resource.resource.attributes}
                for scope in resource.scope_spans:
                    collector.spans += scope.spans
        else:
            collector.assessments.append((self.path, json.loads(body)["assessment"]))
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector on a port of the system's choice."""
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def attributes(span: Any) -> dict[str, Any]:
    """Attributes of a span or an event, by name."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def entry(llm: str, **others: Any) -> CallEntry:
    """A call."""
    return CallEntry("d-1", 0, llm, "one", 0.0, **others)


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ask(traces: Traces, headers: dict[str, str] | None = None) -> str | None:
    """A request whose first LLM is busy and whose second answers."""
    trace = traces.request(headers or {}, "auto:cheap", stream=True)
    trace.decided(time.time() - 0.5, "d-1", "small", mode="apply", propensity=0.75, expected_cost_usd=None)
    first = trace.call("small", "small-2", "https://one.example/v1", stream=True)
    first.end(entry("small", status=429, error="status: busy"))
    second = trace.call("large", "large-9", "http://127.0.0.1:9100/v1", stream=True)
    good = entry(
        "large",
        status=200,
        prompt_tokens=12.0,
        cached_tokens=4.0,
        response_tokens=30.0,
        cost_usd=0.25,
        first_token_s=0.5,
    )
    second.end(good, model="large-9-2026")
    trace.end(200, prompt="What?", answer="That.")
    return trace.id


def test_a_request_with_a_fallback(collector: Collector) -> None:
    """Request, decision, two calls and the fallback around the second, by the GenAI conventions."""
    traces = Traces(TracesConfig(endpoint=f"{collector.address}/v1/traces", headers={"x-team": "a"}, service_name="gw"))
    before = traces.request({}, "auto").id  # not ended: never sent
    assert before is not None
    ask(traces)
    traces.close()
    assert collector.headers[0]["x-team"] == "a"
    assert "gw" in collector.resources
    assert {span.name for span in collector.spans} == {
        "chat auto:cheap",
        "decide",
        "chat small-2",
        "fallback",
        "chat large-9",
    }
    top, decision, fallback = (collector.named(name) for name in ("chat auto:cheap", "decide", "fallback"))
    failed, good = collector.named("chat small-2"), collector.named("chat large-9")
    assert top.parent_span_id == b""
    assert decision.parent_span_id == failed.parent_span_id == fallback.parent_span_id == top.span_id
    assert good.parent_span_id == fallback.span_id
    assert len({span.trace_id for span in collector.spans}) == 1
    assert decision.end_time_unix_nano - decision.start_time_unix_nano >= 5e8
    assert attributes(decision) == {
        "symbiosis.decision": "d-1",
        "symbiosis.llm": "small",
        "symbiosis.mode": "apply",
        "symbiosis.propensity": 0.75,
    }
    told = attributes(top)
    assert told["gen_ai.request.model"] == "auto:cheap"
    assert told["gen_ai.response.model"] == "large-9-2026"
    assert told["symbiosis.decision"] == "d-1"
    assert not [name for name in told if name.endswith((".messages", "_tokens"))]
    assert attributes(fallback) == {
        "symbiosis.fallback.from": "small",
        "symbiosis.fallback.to": "large",
        "symbiosis.fallback.reason": "429",
    }
    assert attributes(failed)["error.type"] == "429"
    assert (attributes(failed)["server.address"], attributes(failed)["server.port"]) == ("one.example", 443)
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "large-9",
        "gen_ai.response.model": "large-9-2026",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 30,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "server.address": "127.0.0.1",
        "server.port": 9100,
        "http.response.status_code": 200,
        "symbiosis.cost_usd": 0.25,
    }
    assert wanted.items() <= attributes(good).items()
    assert attributes(good)["gen_ai.response.time_to_first_chunk"] == 0.5
    codes = [span.status.code for span in (top, failed, good, fallback)]
    unset, error = Status.STATUS_CODE_UNSET, Status.STATUS_CODE_ERROR
    assert codes == [unset, error, unset, unset]
    assert (top.kind, failed.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)


def test_texts_only_where_the_config_allows(collector: Collector) -> None:
    """Prompt and answer in the conventions' form."""
    traces = Traces(TracesConfig(endpoint=f"{collector.address}/v1/traces"), texts=True)
    ask(traces)
    traces.close()
    told = attributes(collector.named("chat auto:cheap"))
    assert json.loads(told["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "What?"}]}
    ]
    assert json.loads(told["gen_ai.output.messages"])[0]["role"] == "assistant"


@pytest.mark.parametrize("sampled", [True, False])
def test_the_callers_trace_goes_on(collector: Collector, sampled: bool) -> None:
    """A `traceparent` is the parent; one that is not sampled stays without spans."""
    traces = Traces(TracesConfig(endpoint=f"{collector.address}/v1/traces"))
    trace = ask(traces, {"traceparent": f"00-{PARENT}-b7ad6b7169203331-0{int(sampled)}"})
    traces.close()
    if not sampled:
        assert trace is None
        assert collector.spans == []
        return
    top = collector.named("chat auto:cheap")
    assert top.trace_id.hex() == PARENT
    assert top.parent_span_id.hex() == "b7ad6b7169203331"
    assert trace == f"{PARENT}-{top.span_id.hex()}"


@pytest.mark.parametrize("bad", ["", "00-zz-1-01", f"00-{'0' * 32}-{'0' * 16}-01", "x" * 10_000])
def test_a_bad_parent_begins_a_new_trace(collector: Collector, bad: str) -> None:
    """What is no `traceparent` is passed over."""
    traces = Traces(TracesConfig(endpoint=f"{collector.address}/v1/traces"))
    assert ask(traces, {"traceparent": bad}) is not None
    traces.close()
    assert collector.named("chat auto:cheap").parent_span_id == b""


def test_off_by_default() -> None:
    """Every method does nothing."""
    traces = Traces(TracesConfig())
    assert ask(traces) is None
    traces.feedback(None, "d-1", quality=1.0)
    traces.close()


def test_a_collector_that_is_gone_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand requests go on while nobody answers; closing ends, and what cannot be sent is lost."""
    monkeypatch.setattr(spans, "EXPORT_S", 0.3)
    monkeypatch.setattr(spans, "CLOSING_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        traces = Traces(TracesConfig(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}/v1/traces"))
        for _ in range(1000):
            assert ask(traces) is not None
        names = {thread.name for thread in threading.enumerate()}
        traces.close()
    assert any("BatchSpan" in name for name in names)
    # Closing waits for `CLOSING_S` alone: on a busy machine a last export may still be running out of time.
    for thread in [thread for thread in threading.enumerate() if "BatchSpan" in thread.name]:
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_feedback_is_a_span_elsewhere(collector: Collector) -> None:
    """In the request's trace, below its span, as the conventions' evaluation event."""
    traces = Traces(TracesConfig(endpoint=f"{collector.address}/v1/traces"))
    trace = ask(traces)
    traces.feedback(trace, "d-1", satisfied=False, source="check:json")
    traces.feedback(trace, "d-1")
    traces.feedback(None, "d-1", quality=0.5)
    traces.close()
    span, top = collector.named("feedback"), collector.named("chat auto:cheap")
    assert (span.trace_id, span.parent_span_id) == (top.trace_id, top.span_id)
    (event,) = span.events
    assert event.name == "gen_ai.evaluation.result"
    assert attributes(event)["gen_ai.evaluation.name"] == "satisfied"
    assert attributes(event)["gen_ai.evaluation.score.value"] == 0.0


def test_feedback_is_an_assessment_in_mlflow(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its spans were sent; a trace that is not there yet is tried again."""
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.01))
    headers = {"X-MLflow-Experiment-Id": "3"}
    traces = Traces(TracesConfig(endpoint=f"{collector.address}/v1/traces", headers=headers))
    trace = ask(traces)
    assert trace is not None
    until(lambda: collector.spans)
    collector.statuses = [404, 200]
    traces.feedback(trace, "d-1", quality=0.5)
    until(lambda: len(collector.assessments) == 2)
    traces.feedback(trace, "d-1", satisfied=True, source="check:json")
    until(lambda: len(collector.assessments) == 3)
    traces.close()
    number = f"tr-{trace.partition('-')[0]}"
    assert {path for path, _ in collector.assessments} == {f"/api/3.0/mlflow/traces/{number}/assessments"}
    first, again, checked = (assessment for _, assessment in collector.assessments)
    assert first == again
    assert (first["assessment_name"], first["feedback"]) == ("quality", {"value": 0.5})
    assert first["source"] == {"source_type": "HUMAN", "source_id": "user"}
    assert first["metadata"] == {"symbiosis.decision": "d-1"}
    assert (checked["assessment_name"], checked["feedback"]) == ("satisfied", {"value": True})
    assert checked["source"]["source_type"] == "CODE"
    assert not [span for span in collector.spans if span.name == "feedback"]


def test_assessments_wait_in_a_bounded_queue(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With too many waiting, new ones are dropped, and said so; closing sends what waits."""
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    at_work, go = threading.Event(), threading.Event()

    def before() -> None:
        at_work.set()
        go.wait(30)

    waiting = Assessments(collector.address, {}, before)
    waiting.add("0", "d-0", 1.0, "user")
    assert at_work.wait(30)
    for number in (1, 2, 3):
        waiting.add(str(number), f"d-{number}", 1.0, "user")
    assert "decision d-3 was dropped" in caplog.text
    go.set()
    until(lambda: len(collector.assessments) == 3)
    waiting.close()
    assert [assessment["metadata"]["symbiosis.decision"] for _, assessment in collector.assessments] == [
        "d-0",
        "d-1",
        "d-2",
    ]


def test_a_refused_assessment_is_given_up(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the last try it is said, and the next one goes on."""
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0))
    collector.statuses = [404, 404, 200]
    waiting = Assessments(collector.address, {}, lambda: None)
    waiting.add("0", "d-0", 1.0, "user")
    waiting.add("1", "d-1", 1.0, "user")
    until(lambda: len(collector.assessments) == 3)
    waiting.close()
    assert "MLflow took no assessment of tr-0 (status 404:)" in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "headers", "address"),
    [
        ("http://one:5000/v1/traces", {"x-mlflow-experiment-id": "1"}, "http://one:5000"),
        ("http://one:5000/v1/traces/", {"X-MLflow-Experiment-ID": "1"}, "http://one:5000"),
        ("http://one:4318/v1/traces", {"authorization": "x"}, None),
    ],
)
def test_mlflow_is_known_by_its_header(endpoint: str, headers: dict[str, str], address: str | None) -> None:
    """The header names the experiment."""
    assert mlflow_address(endpoint, headers) == address
