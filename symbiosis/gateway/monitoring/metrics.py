"""Prometheus metrics of the gateway; the rest of the program calls `Metrics` and knows nothing of Prometheus.

With several workers, each process writes its numbers to files in one folder, and whichever worker is asked adds them up
(`prometheus_client`'s multiprocess mode). That mode is chosen when the library is imported, by an environment variable:
the server makes the folder with `shared_between_workers` before it starts them.

Labels are names from the config, never text of users, and there is an upper bound on how many of them are kept apart.
"""

import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from symbiosis.gateway.monitoring.drift import Drift
from symbiosis.gateway.monitoring.errors import CLIENT, OTHER, error_kind

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from symbiosis.routing.serving.records import CallEntry

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
OVERHEAD_S = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 1.0)
RECOMMENDATION_S = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.3, 2.5, 5.0, 10.0, 30.0)
LATENCY_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0, 100.0, 300.0)
MOST_VALUES = 1000
"""Values of a label that are kept apart; those that come later count as `OTHER`."""
INLINE = "inline"
CIRCUITS = ("closed", "half-open", "open")
Refusal = Literal["overload", "rate", "budget", "key", "request"]


@contextmanager
def shared_between_workers(workers: int) -> Iterator[None]:
    """Provide the folder in which several workers add up their metrics; it goes when the context ends.

    Enter it in the server, before a worker starts. One worker alone needs no folder.

    Parameters
    ----------
    workers
        Number of processes.
    """
    if workers < 2:
        yield
        return
    before = os.environ.get(FOLDER_VARIABLE)
    # Files of an earlier server would be counted again, so that the folder is new each time.
    with tempfile.TemporaryDirectory(prefix="symbiosis-metrics-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER_VARIABLE] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ[FOLDER_VARIABLE]
            else:
                os.environ[FOLDER_VARIABLE] = before


class Metrics:
    """The gateway's metrics. Its methods are cheap and may be called from several threads.

    Parameters
    ----------
    policies
        Names of policies that are kept apart; goals that a user writes into the model's name count as `INLINE`.
    """

    def __init__(self, policies: Collection[str] = ()) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # a second series for each, which says when it began
        self.registry = CollectorRegistry()
        self._policies = {"auto", "", *policies}
        self._values: dict[str, set[str]] = {}

        def counter(name: str, text: str, *labels: str) -> Any:
            return Counter(f"symbiosis_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Any:
            return Histogram(f"symbiosis_{name}", text, labels, buckets=buckets, registry=self.registry)

        def gauge(name: str, text: str, mode: Any, *labels: str) -> Any:
            return Gauge(f"symbiosis_{name}", text, labels, registry=self.registry, multiprocess_mode=mode)

        self._decisions = counter("decisions_total", "Decisions.", "llm", "policy", "mode")
        self._overhead = histogram("overhead_seconds", "Time that the gateway adds to a request.", OVERHEAD_S)
        self._answers = counter("answers_total", "Answers sent to clients, by HTTP status.", "status")
        self._refusals = counter("refusals_total", "Requests that were refused.", "reason")
        self._gone = counter("clients_gone_total", "Clients that left before their answer was complete.")
        self._in_flight = gauge("in_flight", "Upstream calls that are under way.", "livesum", "llm")
        self._first = histogram("first_token_seconds", "Time to an upstream's first token.", LATENCY_S, "llm")
        self._total = histogram("upstream_seconds", "Time to an upstream's last token.", LATENCY_S, "llm")
        self._errors = counter("upstream_errors_total", "Upstream calls that failed.", "llm", "kind")
        self._fallbacks = counter("fallbacks_total", "Failed calls after which another LLM was asked.", "llm")
        self._tokens = counter("tokens_total", "Tokens as upstreams counted them.", "llm", "kind")
        self._spend = counter("spend_usd_total", "USD spent on upstreams.", "llm")
        self._baseline = counter("baseline_usd_total", "USD that the best single LLM was expected to cost.")
        self._saved = gauge("saved_usd", "USD saved against the best single LLM; below 0: lost.", "sum")
        self._circuits = gauge("circuit_state", "0 closed, 1 half-open, 2 open in some worker.", "livemax", "llm")
        self._feedback = counter("feedback_total", "Feedback that was taken in.", "llm", "source")
        self._rate = gauge("feedback_rate", "Share of the window's answers with feedback.", "mostrecent")
        self._bias = gauge("calibration_bias", "Observed less expected quality.", "mostrecent")
        self._calibration = gauge("calibration_error", "Expected calibration error of the window.", "mostrecent")
        self._trained = gauge("calibration_error_training", "The same when the router was trained.", "mostrecent")
        self._cost = gauge("cost_log_ratio", "Mean log of actual over expected cost.", "mostrecent")
        self._drift = gauge("drift_value", "The last window against the training.", "mostrecent", "check")
        self._bound = gauge("drift_threshold", "Beyond it, either way, the check rings.", "mostrecent", "check")
        self._alarm = gauge("drift_alarm", "1: the check rings.", "mostrecent", "check")
        self._version = gauge("router_version", "Version that decides; the oldest among the workers.", "livemin")
        self._lessons = gauge("router_lessons", "Feedback that this version has learned from.", "livemin")
        self._learner = gauge("learner", "1: a process of this gateway learns for all of the store.", "livemax")
        self._recommended = counter("recommendations_total", "Answers with recommended items.", "method")
        self._recommending = histogram("recommendation_seconds", "Time to recommended items.", RECOMMENDATION_S)
        self._store = counter("store_errors_total", "Operations of the store that failed.", "operation")

    def decided(self, llm: str, policy: str, mode: str, overhead_s: float | None = None) -> None:
        """Count a decision, and the seconds that the gateway added."""
        named = policy if policy in self._policies else INLINE
        self._decisions.labels(self._label("llm", llm), named, self._label("mode", mode)).inc()
        if overhead_s is not None:
            self._overhead.observe(overhead_s)

    def called(self, call: "CallEntry") -> None:
        """Count an upstream call that is over: its times, tokens and cost, or what went wrong."""
        llm = self._label("llm", call.llm)
        kind = error_kind(call.status, call.error)
        if kind == CLIENT:
            self._gone.inc()
        elif kind is not None:
            self._errors.labels(llm, kind).inc()
        else:
            for histogram, seconds in ((self._first, call.first_token_s), (self._total, call.total_s)):
                if seconds is not None:
                    histogram.labels(llm).observe(seconds)
        counts = {"prompt": call.prompt_tokens, "cached": call.cached_tokens, "response": call.response_tokens}
        for counted, tokens in counts.items():
            if tokens is not None and tokens > 0:
                self._tokens.labels(llm, counted).inc(tokens)
        if call.cost_usd is not None and call.cost_usd > 0:
            self._spend.labels(llm).inc(call.cost_usd)

    def saved(self, spend_usd: float, baseline_usd: float) -> None:
        """Count what a routed query cost, and what the best single LLM was expected to cost for it."""
        self._baseline.inc(max(baseline_usd, 0.0))
        self._saved.inc(baseline_usd - spend_usd)

    def fell_back(self, llm: str) -> None:
        """Count a failed call of an LLM after which another one was asked."""
        self._fallbacks.labels(self._label("llm", llm)).inc()

    def answered(self, status: int) -> None:
        """Count an answer to a client."""
        self._answers.labels(str(status) if 100 <= status < 600 else OTHER).inc()

    def refused(self, reason: Refusal) -> None:
        """Count a request that was refused."""
        self._refusals.labels(self._label("reason", reason)).inc()

    def observed(self, circuits: Mapping[str, str], in_flight: Mapping[str, int]) -> None:
        """Note the present state of this worker: each LLM's circuit breaker, and its calls that are under way.

        A scrape shows of other workers what they noted last: call it every moment, and before `page`.
        """
        for llm, state in circuits.items():
            self._circuits.labels(self._label("llm", llm)).set(CIRCUITS.index(state))
        for llm, calls in in_flight.items():
            self._in_flight.labels(self._label("llm", llm)).set(calls)

    def told(self, llm: str, source: str) -> None:
        """Count feedback that was taken in, from ``user`` or ``check:NAME``."""
        self._feedback.labels(self._label("llm", llm), self._label("source", source)).inc()

    def store_failed(self, operation: str) -> None:
        """Count an operation of the store that failed, such as ``write``."""
        self._store.labels(self._label("operation", operation)).inc()

    def recommended(self, method: str, seconds: float) -> None:
        """Count an answer with recommended items, by ``model``, ``text`` or ``popularity``, and its time."""
        self._recommended.labels(self._label("method", method)).inc()
        self._recommending.observe(seconds)

    def learned(self, version: int, lessons: int, is_learner: bool = False) -> None:
        """Note the version that this worker decides with, and whether it is the one that learns."""
        self._version.set(version)
        self._lessons.set(lessons)
        self._learner.set(is_learner)

    def drifted(self, drift: Drift) -> None:
        """Note how far expectations are off; numbers that the window does not give stay as they are."""
        values: Mapping[Any, float | None] = {
            self._rate: drift.feedback_rate,
            self._bias: drift.bias,
            self._calibration: drift.calibration_error,
            self._trained: drift.training_error,
            self._cost: drift.cost_log_ratio,
        }
        for metric, value in values.items():
            if value is not None:
                metric.set(value)
        for check in drift.checks:
            for gauge, number in (
                (self._drift, check.value),
                (self._bound, check.threshold),
                (self._alarm, check.alarm),
            ):
                gauge.labels(check.name).set(number)

    def page(self, accept: str | None = None) -> tuple[bytes, str]:
        """Return the metrics of all workers as a scraper reads them, and their media type.

        Parameters
        ----------
        accept
            The request's ``Accept`` header.
        """
        from prometheus_client.exposition import choose_encoder

        encode, media_type = choose_encoder(accept or "")
        return encode(self._collected()), media_type

    def _collected(self) -> "CollectorRegistry":
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            return self.registry
        from prometheus_client import CollectorRegistry
        from prometheus_client.multiprocess import MultiProcessCollector

        _forget_the_dead(Path(folder))
        together = CollectorRegistry()
        MultiProcessCollector(together, path=folder)
        return together

    def _label(self, name: str, value: str) -> str:
        """Return the value of a label, `OTHER` where too many have been seen."""
        seen = self._values.setdefault(name, set())
        if value not in seen:
            if len(seen) >= MOST_VALUES:
                return OTHER
            seen.add(value)
        return value


def _forget_the_dead(folder: Path) -> None:
    """Remove what workers that are gone say of the present; what they counted stays."""
    import psutil
    from prometheus_client.multiprocess import mark_process_dead

    found = (re.fullmatch(r"gauge_live[a-z]+_(\d+)\.db", file.name) for file in folder.glob("gauge_live*.db"))
    for number in {int(match.group(1)) for match in found if match}:
        if not psutil.pid_exists(number):
            try:
                mark_process_dead(number, str(folder))
            except FileNotFoundError:  # another worker was faster
                continue
