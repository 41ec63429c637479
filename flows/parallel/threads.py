"""Run tasks on threads of the flow's process, which do not outlive it: Prefect's own pool would."""

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from contextvars import copy_context
from typing import Any
from uuid import uuid4

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect import Task  # noqa: E402
from prefect.client.schemas.objects import RunInput  # noqa: E402
from prefect.futures import PrefectConcurrentFuture, PrefectFuture  # noqa: E402
from prefect.task_engine import run_task_sync  # noqa: E402
from prefect.task_runners import TaskRunner  # noqa: E402


class DaemonThreadTaskRunner(TaskRunner[PrefectConcurrentFuture[Any]]):
    """One thread per task; most wait, for other tasks or for a place.

    The threads of `prefect.task_runners.ThreadPoolTaskRunner` keep a process that was told to end for as long as one
    of them sleeps before another attempt, here five minutes.

    Parameters
    ----------
    patience
        Seconds that tasks which have been told to end get for it, when the context is left.
    """

    def __init__(self, patience: float = 15.0) -> None:
        super().__init__()
        self._patience = patience
        self._threads: list[threading.Thread] = []

    def duplicate(self) -> "DaemonThreadTaskRunner":
        """Return one with the same settings."""
        return type(self)(self._patience)

    def submit(
        self,
        task: "Task[..., Any]",
        parameters: dict[str, Any],
        wait_for: Iterable[PrefectFuture[Any]] | None = None,
        dependencies: dict[str, set[RunInput]] | None = None,
    ) -> PrefectConcurrentFuture[Any]:
        """Start a thread for a task that is not async; see `prefect.task_runners.TaskRunner`."""
        future: Future[Any] = Future()
        task_run_id, context = uuid4(), copy_context()

        def run() -> None:
            try:
                state = context.run(
                    run_task_sync,
                    task=task,
                    task_run_id=task_run_id,
                    parameters=parameters,
                    wait_for=wait_for,
                    return_type="state",
                    dependencies=dependencies,
                )
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(state)

        thread = threading.Thread(target=run, name=f"task {task_run_id}", daemon=True)
        self._threads.append(thread)
        thread.start()
        return PrefectConcurrentFuture(task_run_id=task_run_id, wrapped_future=future)

    def __exit__(self, *error: Any) -> None:
        """Wait for the tasks that were told to end, but not for one that sleeps."""
        for thread in self._threads:
            thread.join(self._patience)
            if thread.is_alive():
                break
        super().__exit__(*error)
