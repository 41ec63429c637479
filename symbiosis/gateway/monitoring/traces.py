"""OpenTelemetry spans of requests by the GenAI semantic conventions, sent to a collector or to MLflow.

One trace per request: the request itself (`chat auto`), in it the decision (`decide`), each call of an upstream
(`chat MODEL`), and from the second call on a `fallback` around it that says why. Off by default: then every method does
nothing. Spans are sent in batches by a thread of their own; if the collector does not keep up, spans are dropped, and
no request waits or fails.

A caller's ``traceparent`` is honoured, its decision not to sample included; ``OTEL_TRACES_SAMPLER`` and the other
variables of the SDK hold as usual. The conventions: opentelemetry.io/docs/specs/semconv/gen-ai.
"""

import json
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from symbiosis.gateway.monitoring.assessments import Assessments, mlflow_address
from symbiosis.gateway.monitoring.errors import CLIENT, error_kind

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as SpanProvider
    from opentelemetry.trace import Span, Tracer

    from symbiosis.gateway.config.schema import TracesConfig
    from symbiosis.routing.serving.records import CallEntry

EXPORT_S, CLOSING_S = 5.0, 3.0
"""Longest that one batch may take, tries included; and all that waits when the gateway ends."""


class Traces:
    """Makes the spans of requests and sends them away.

    Parameters
    ----------
    config
        Where to; without an endpoint nothing is made.
    texts
        Whether prompts and answers may be in the spans.
    """

    def __init__(self, config: "TracesConfig", *, texts: bool = False) -> None:
        self.texts = texts
        self._provider: SpanProvider | None = None
        self._tracer: Tracer | None = None
        self._assessments: Assessments | None = None
        if config.endpoint is None:
            return
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        # Not the global provider: MLflow, Prefect and other libraries in this process are no part of a request.
        resource = Resource.create({"service.name": config.service_name})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(endpoint=config.endpoint, headers=dict(config.headers), timeout=EXPORT_S)
        provider.add_span_processor(BatchSpanProcessor(self._exporter, schedule_delay_millis=1000))
        self._provider, self._tracer = provider, provider.get_tracer("symbiosis.gateway")
        if address := mlflow_address(config.endpoint, config.headers):
            self._assessments = Assessments(address, config.headers, before=provider.force_flush)

    def request(self, headers: Mapping[str, str], model: str, *, stream: bool = False) -> "RequestTrace":
        """Begin the trace of a request; `RequestTrace.end` must follow.

        Parameters
        ----------
        headers
            The request's, names in lower case.
        model
            As the client asked for it: ``auto``, ``auto:POLICY`` or an LLM.
        stream
            Whether the answer is to be streamed.
        """
        if self._tracer is None:
            return RequestTrace(None, None, texts=False)
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        parent = TraceContextTextMapPropagator().extract(headers)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "symbiosis",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": stream,
        }
        span = self._tracer.start_span(f"chat {model}", parent, SpanKind.SERVER, attributes)
        return RequestTrace(self._tracer, span, texts=self.texts)

    def feedback(
        self,
        trace: str | None,
        decision: str,
        *,
        quality: float | None = None,
        satisfied: bool | None = None,
        source: str = "user",
    ) -> None:
        """Tell of feedback on an answer, possibly long after it: as an assessment in MLflow, elsewhere as a span.

        Parameters
        ----------
        trace
            `RequestTrace.id` of the request, as it was kept with the decision; None: it was not traced.
        decision
            Id of the decision.
        quality, satisfied
            What was told, one of them.
        source
            ``user``, or ``check:NAME``.
        """
        value = quality if quality is not None else satisfied
        if self._tracer is None or not trace or value is None:
            return
        trace_id, _, span_id = trace.partition("-")
        if self._assessments is not None:
            self._assessments.add(trace_id, decision, value, source)
            return
        from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

        context = SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=True, trace_flags=TraceFlags(1))
        span = self._tracer.start_span("feedback", set_span_in_context(NonRecordingSpan(context)))
        span.set_attribute("symbiosis.decision", decision)
        named = "satisfied" if quality is None else "quality"
        span.add_event(
            "gen_ai.evaluation.result",
            {
                "gen_ai.evaluation.name": named,
                "gen_ai.evaluation.score.value": float(value),
                "symbiosis.feedback.source": source,
            },
        )
        span.end()

    def close(self) -> None:
        """Send what waits within `CLOSING_S`, give up the rest, and end the threads."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is None:
            return
        if self._assessments is not None:
            self._assessments.close()
        # The SDK's own shutdown waits for half a minute where the collector is gone.
        closing = threading.Thread(target=provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSING_S)
        if closing.is_alive():
            self._exporter.shutdown()
            closing.join(EXPORT_S)


class RequestTrace:
    """The spans of one request; without a span all methods do nothing."""

    def __init__(self, tracer: "Tracer | None", span: "Span | None", *, texts: bool) -> None:
        self._tracer, self._span, self._texts = tracer, span, texts
        self._calls = 0
        self._failed: tuple[str, str] | None = None

    @property
    def id(self) -> str | None:
        """Trace and span in hexadecimal, ``TRACE-SPAN``, to be kept with the decision; None: not traced."""
        if self._span is None:
            return None
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}-{context.span_id:016x}" if context.trace_flags.sampled else None

    def decided(self, began: float, decision: str, llm: str, **others: str | float | bool | None) -> None:
        """Add the decision, which ends now.

        Parameters
        ----------
        began
            When it began, `time.time()`.
        decision
            Its id.
        llm
            The LLM that was chosen.
        others
            Anything else, as attributes ``symbiosis.NAME``: mode, policy, propensity, expected_cost_usd, quality.
        """
        if self._tracer is None or self._span is None:
            return
        told = {"decision": decision, "llm": llm, **others}
        attributes: dict[str, Any] = {f"symbiosis.{name}": value for name, value in told.items() if value is not None}
        span = self._start("decide", began)
        span.set_attributes(attributes)
        span.end()
        self._span.set_attributes(attributes)

    def call(
        self, llm: str, model: str, base_url: str, *, stream: bool = False, began: float | None = None
    ) -> "CallTrace":
        """Begin a call of an upstream; `CallTrace.end` must follow.

        Parameters
        ----------
        llm
            Its name in the router.
        model
            The provider's name of it.
        base_url
            Of the upstream.
        stream
            Whether the answer is to be streamed.
        began
            When it began, `time.time()`, if it is over already; None: now.
        """
        if self._tracer is None or self._span is None:
            return CallTrace(self, None, None, llm)
        from opentelemetry.trace import SpanKind, set_span_in_context

        around: Span | None = None
        context = set_span_in_context(self._span)
        if self._failed is not None:
            around = self._start("fallback", began)
            around.set_attributes(
                {
                    "symbiosis.fallback.from": self._failed[0],
                    "symbiosis.fallback.to": llm,
                    "symbiosis.fallback.reason": self._failed[1],
                }
            )
            context = set_span_in_context(around)
        address = urlsplit(base_url)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.request.stream": stream,
            "server.address": address.hostname or "",
            "server.port": address.port or (443 if address.scheme == "https" else 80),
            "symbiosis.llm": llm,
            "symbiosis.attempt": self._calls,
        }
        self._calls += 1
        start = None if began is None else int(began * 1e9)
        span = self._tracer.start_span(f"chat {model}", context, SpanKind.CLIENT, attributes, start_time=start)
        return CallTrace(self, span, around, llm, began)

    def end(self, status: int, *, error: str | None = None, prompt: str = "", answer: str = "") -> None:
        """End the request.

        Parameters
        ----------
        status
            HTTP status of the answer.
        error
            What went wrong, if anything.
        prompt, answer
            Texts; they are added only where `Traces` may.
        """
        if self._span is None:
            return
        self._span.set_attribute("http.response.status_code", status)
        if self._texts:
            for name, role, text in (("input", "user", prompt), ("output", "assistant", answer)):
                message = [{"role": role, "parts": [{"type": "text", "content": text}]}]
                self._span.set_attribute(f"gen_ai.{name}.messages", json.dumps(message, ensure_ascii=False))
        # A server's span fails by its own faults only, so says the convention for HTTP.
        _conclude(self._span, "error" if error is not None or status >= 500 else None, error or f"status {status}")
        self._span.end()

    def _start(self, name: str, began: float | None = None) -> "Span":
        from opentelemetry.trace import set_span_in_context

        assert self._tracer is not None
        assert self._span is not None
        start = None if began is None else int(began * 1e9)
        return self._tracer.start_span(name, set_span_in_context(self._span), start_time=start)

    def _ended(self, llm: str, call: "CallEntry", model: str | None) -> None:
        """Take note of a call that is over."""
        kind = error_kind(call.status, call.error)
        if kind is not None and kind != CLIENT:
            self._failed = llm, kind
        elif self._span is not None:
            # The tokens stay with the call: where spans are summed up, as MLflow does, they would count twice here.
            self._span.set_attribute("gen_ai.response.model", model or llm)


class CallTrace:
    """The span of one call of an upstream."""

    def __init__(
        self, request: RequestTrace, span: "Span | None", around: "Span | None", llm: str, past: float | None = None
    ) -> None:
        self._request, self._span, self._around, self._llm = request, span, around, llm
        self._past = past

    def end(self, call: "CallEntry", *, model: str | None = None) -> None:
        """End the call.

        Parameters
        ----------
        call
            As it goes to the store.
        model
            That the upstream says has answered.
        """
        if self._span is None:
            return
        counts = {
            "gen_ai.usage.input_tokens": call.prompt_tokens,
            "gen_ai.usage.output_tokens": call.response_tokens,
            "gen_ai.usage.cache_read.input_tokens": call.cached_tokens,
        }
        self._span.set_attributes({name: int(value) for name, value in counts.items() if value is not None})
        if call.status is not None:
            self._span.set_attribute("http.response.status_code", call.status)
        if call.cost_usd is not None:
            self._span.set_attribute("symbiosis.cost_usd", call.cost_usd)
        if model is not None:
            self._span.set_attribute("gen_ai.response.model", model)
        kind = error_kind(call.status, call.error)
        if kind is not None:
            self._span.set_attribute("error.type", kind)
        if call.first_token_s is not None:
            self._span.set_attribute("gen_ai.response.time_to_first_chunk", call.first_token_s)
        ended = None if self._past is None else int((self._past + (call.total_s or 0.0)) * 1e9)
        self._request._ended(self._llm, call, model)
        for span in (self._span, self._around):
            if span is not None:
                _conclude(span, kind if kind != CLIENT else None, call.error)
                span.end(ended)
        self._span = None


def _conclude(span: "Span", kind: str | None, text: str | None) -> None:
    """Set the span's status: an error where there is a kind of it."""
    from opentelemetry.trace import Status, StatusCode

    if kind is not None:
        span.set_status(Status(StatusCode.ERROR, text or kind))
