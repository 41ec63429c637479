"""Feedback as assessments of traces in MLflow, by its REST interface; sent by a thread of its own.

The trace of an answer may still be under way when the feedback comes, from another worker, too: a trace that MLflow
does not know yet is tried again after a while.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

EXPERIMENT_HEADER = "x-mlflow-experiment-id"
TRACES_PATH = "/v1/traces"
MOST_WAITING = 1000
"""Assessments that wait; with more, new ones are dropped."""
PAUSES_S = (0.0, 2.0, 5.0, 15.0)
"""Before each try."""
TIMEOUT_S = 5.0
_log = logging.getLogger(__name__)


def mlflow_address(endpoint: str, headers: Mapping[str, str]) -> str | None:
    """Return the address of the MLflow server that traces go to; None: they go to something else."""
    names = {name.lower() for name in headers}
    return endpoint.rstrip("/").removesuffix(TRACES_PATH) if EXPERIMENT_HEADER in names else None


class Assessments:
    """Sends feedback to MLflow.

    Parameters
    ----------
    address
        Of the server.
    headers
        Sent along, such as an authorisation.
    before
        Called before each round: sends the spans that wait.
    """

    def __init__(self, address: str, headers: Mapping[str, str], before: Callable[[], Any]) -> None:
        self._address, self._headers, self._before = address, dict(headers), before
        self._waiting: queue.Queue[tuple[str, dict[str, Any]] | None] = queue.Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="assessments", daemon=True)
        self._thread.start()

    def add(self, trace_id: str, decision: str, value: float | bool, source: str) -> None:
        """Send an assessment by and by; if too many wait, it is dropped.

        Parameters
        ----------
        trace_id
            In hexadecimal.
        decision
            Id of the decision.
        value
            Quality, or whether the user was satisfied.
        source
            ``user``, or ``check:NAME``.
        """
        kind = "HUMAN" if source == "user" else "CODE"
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        assessment = {
            "assessment_name": "satisfied" if isinstance(value, bool) else "quality",
            "trace_id": f"tr-{trace_id}",
            "source": {"source_type": kind, "source_id": source},
            "create_time": now,
            "last_update_time": now,
            "feedback": {"value": value},
            "metadata": {"symbiosis.decision": decision},
        }
        try:
            self._waiting.put_nowait((f"tr-{trace_id}", assessment))
        except queue.Full:
            _log.warning("MLflow does not keep up: an assessment of decision %s was dropped", decision)

    def close(self) -> None:
        """Send what waits in one last try each, and end the thread; after `TIMEOUT_S` the rest is given up."""
        self._closing.set()
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(TIMEOUT_S)

    def _work(self) -> None:
        import httpx

        with httpx.Client(base_url=self._address, headers=self._headers, timeout=TIMEOUT_S) as client:
            while (waiting := self._waiting.get()) is not None:
                self._send(client, *waiting)

    def _send(self, client: Any, trace: str, assessment: dict[str, Any]) -> None:
        import httpx

        said = ""
        for pause in PAUSES_S:
            self._closing.wait(pause)
            try:
                self._before()
                path = f"/api/3.0/mlflow/traces/{trace}/assessments"
                answer = client.post(path, json={"assessment": assessment})
            except httpx.HTTPError as error:
                said = str(error) or type(error).__name__
            else:
                if answer.is_success:
                    return
                said = f"status {answer.status_code}: {answer.text[:200]}"
            if self._closing.is_set() and pause:
                break
        _log.warning("MLflow took no assessment of %s (%s)", trace, " ".join(said.split()))
