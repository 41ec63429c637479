"""Metrics: what a scraper reads, of one worker and of several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from symbiosis.gateway.monitoring import metrics as module
from symbiosis.gateway.monitoring.drift import Check, Drift
from symbiosis.gateway.monitoring.errors import error_kind
from symbiosis.gateway.monitoring.metrics import FOLDER_VARIABLE, INLINE, OTHER, Metrics, shared_between_workers
from symbiosis.routing.serving.records import CallEntry

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(page: bytes) -> Samples:
    """Samples by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample."""
    return read(metrics.page()[0]).get((f"symbiosis_{name}", tuple(sorted(labels.items()))))


def entry(llm: str = "small", **others: object) -> CallEntry:
    """A call."""
    return CallEntry("d", 0, llm, "one", 0.0, **others)  # type: ignore[arg-type]


def test_a_good_call() -> None:
    """Times, tokens and cost are counted, no error."""
    metrics = Metrics()
    metrics.called(
        entry(status=200, first_token_s=0.3, total_s=2.0, prompt_tokens=10, cached_tokens=0, response_tokens=7,
              cost_usd=0.5)
    )  # fmt: skip
    assert value(metrics, "first_token_seconds_sum", llm="small") == 0.3
    assert value(metrics, "upstream_seconds_bucket", llm="small", le="3.0") == 1
    assert value(metrics, "upstream_seconds_bucket", llm="small", le="1.5") == 0
    assert value(metrics, "tokens_total", llm="small", kind="response") == 7
    assert value(metrics, "tokens_total", llm="small", kind="cached") is None
    assert value(metrics, "spend_usd_total", llm="small") == 0.5
    assert not [name for name, _ in read(metrics.page()[0]) if name == "symbiosis_upstream_errors_total"]


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (200, None, None),
        (429, "status: busy", "429"),
        (404, None, "4xx"),
        (503, "status: down", "5xx"),
        (None, "timeout: nothing came in 60 s", "timeout"),
        (200, "broken: reset", "broken"),
        (200, "client: left before the end", "client"),
        (None, "what a user wrote: 1", OTHER),
        (None, None, OTHER),
    ],
)
def test_kinds_of_errors_are_few(status: int | None, error: str | None, kind: str | None) -> None:
    """The kind before the colon, if it is one of ours."""
    assert error_kind(status, error) == kind
    metrics = Metrics()
    metrics.called(entry(status=status, error=error, total_s=1.0))
    counted = {name: dict(labels) for name, labels in read(metrics.page()[0]) if name.endswith("errors_total")}
    failed = kind not in (None, "client")
    assert counted == ({"symbiosis_upstream_errors_total": {"llm": "small", "kind": kind}} if failed else {})
    assert value(metrics, "clients_gone_total") == (kind == "client")
    assert (value(metrics, "upstream_seconds_count", llm="small") is not None) == (kind is None)


def test_decisions_spend_and_state() -> None:
    """What the service tells comes out; a saving may be a loss."""
    metrics = Metrics(["cheap"])
    metrics.decided("small", "cheap", "apply", 0.003)
    metrics.decided("small", "auto:floor=0.31", "apply")
    metrics.saved(2.0, 1.5)
    metrics.observed({"small": "closed"}, {"small": 2})
    metrics.observed({"small": "open"}, {"small": 1})
    metrics.fell_back("small")
    metrics.answered(200)
    metrics.answered(9000)
    metrics.refused("overload")
    metrics.told("small", "check:json")
    metrics.store_failed("write")
    metrics.learned(7, 41)
    metrics.drifted(Drift(60, 0.5, -0.1, -0.2, 0.0, 0.12, 0.04, 60, None, checks=(Check.of("cost", -0.5, 0.25, 60),)))
    assert value(metrics, "decisions_total", llm="small", policy="cheap", mode="apply") == 1
    assert value(metrics, "decisions_total", llm="small", policy=INLINE, mode="apply") == 1
    assert value(metrics, "overhead_seconds_count") == 1
    assert (value(metrics, "saved_usd"), value(metrics, "baseline_usd_total")) == (-0.5, 1.5)
    assert value(metrics, "circuit_state", llm="small") == 2
    assert value(metrics, "in_flight", llm="small") == 1
    assert value(metrics, "fallbacks_total", llm="small") == 1
    assert value(metrics, "answers_total", status="200") == value(metrics, "answers_total", status=OTHER) == 1
    assert value(metrics, "refusals_total", reason="overload") == 1
    assert value(metrics, "feedback_total", llm="small", source="check:json") == 1
    assert value(metrics, "store_errors_total", operation="write") == 1
    assert (value(metrics, "router_version"), value(metrics, "router_lessons")) == (7, 41)
    assert (value(metrics, "calibration_bias"), value(metrics, "calibration_error")) == (-0.1, 0.12)
    measured = [value(metrics, f"drift_{name}", check="cost") for name in ("value", "threshold", "alarm")]
    assert measured == [-0.5, 0.25, 1]
    assert (value(metrics, "calibration_error_training"), value(metrics, "feedback_rate")) == (0.04, 0.5)


def test_labels_are_escaped() -> None:
    """A name with quotes, backslashes, line ends and braces reads back as it is, in both forms of the page."""
    name = 'a"b\\c\nd{e="f"} é'
    metrics = Metrics()
    metrics.fell_back(name)
    assert value(metrics, "fallbacks_total", llm=name) == 1
    page, media_type = metrics.page("application/openmetrics-text; version=1.0.0")
    assert media_type.startswith("application/openmetrics-text")
    assert page.endswith(b"# EOF\n")


def test_values_of_a_label_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound, values count together; those seen before stay apart."""
    monkeypatch.setattr(module, "MOST_VALUES", 2)
    metrics = Metrics()
    for llm in ("a", "b", "c", "d", "a"):
        metrics.fell_back(llm)
    assert [value(metrics, "fallbacks_total", llm=llm) for llm in ("a", "b", "c", OTHER)] == [2, 1, None, 2]


WORKER = """
import sys, time
from symbiosis.gateway.monitoring.metrics import Metrics
metrics = Metrics()
metrics.fell_back("small")
metrics.observed({"small": sys.argv[2]}, {"small": 1})
metrics.learned(int(sys.argv[1]), 0)
metrics.saved(0.0, 1.0)
print("ready", flush=True)
if sys.argv[3] == "page":
    print(metrics.page()[0].decode())
else:
    sys.stdin.read()
"""


def test_several_workers_add_up() -> None:
    """Counts of all workers, the dead included; what is going on now of the living only; the folder goes in the end."""

    def worker(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, *arguments]
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        return started

    with shared_between_workers(3):
        folder = Path(os.environ[FOLDER_VARIABLE])
        with worker("1", "open", "wait") as dead:
            dead.kill()
        with worker("5", "half-open", "wait") as living:
            with worker("6", "closed", "page") as asked:
                page, _ = asked.communicate()
            living.kill()
    found = read(page.encode())
    llm = (("llm", "small"),)
    assert found["symbiosis_fallbacks_total", llm] == 3
    assert found["symbiosis_saved_usd", ()] == 3
    assert found["symbiosis_in_flight", llm] == 2
    assert found["symbiosis_router_version", ()] == 5
    assert found["symbiosis_circuit_state", llm] == 1
    assert not folder.exists()
    assert FOLDER_VARIABLE not in os.environ


def test_one_worker_needs_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an earlier folder of someone else's get lost."""
    with shared_between_workers(1):
        assert FOLDER_VARIABLE not in os.environ
    monkeypatch.setenv(FOLDER_VARIABLE, "elsewhere")
    with shared_between_workers(2):
        assert os.environ[FOLDER_VARIABLE] != "elsewhere"
    assert os.environ[FOLDER_VARIABLE] == "elsewhere"
