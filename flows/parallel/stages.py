"""The stages of a graph as Prefect tasks, one each; whatever is ready runs side by side."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect import get_run_logger, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.states import Completed, Crashed, State  # noqa: E402

from flows.parallel.clusters import Submit  # noqa: E402
from flows.parallel.lease import is_held, read_result, write_result  # noqa: E402
from flows.parallel.places import one_place  # noqa: E402
from flows.parallel.runner import is_heavy  # noqa: E402
from flows.repro import StageError, StageStoppedError, reproduce  # noqa: E402
from flows.states import in_one_line  # noqa: E402

CARRIED = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MALLOC_TRIM_THRESHOLD_",
    "CUDA_VISIBLE_DEVICES",
    "PYTHONHASHSEED",
)
"""Environment variables that Dask and Ray set for their workers; stages get the flow's: threads change last digits."""
PATIENCE_SECONDS = 15.0
"""For a task to end with its flow."""


def carried() -> dict[str, str | None]:
    """Return the variables that stages get from the flow wherever they run; before the runner is started."""
    return {name: os.environ.get(name) for name in CARRIED}


@dataclass(frozen=True)
class Job:
    """What the stages of one run of the pipeline have in common; plain values, for other processes.

    Attributes
    ----------
    root
        The top of the workspace or work tree.
    lease
        File of `flows.parallel.lease.Lease`.
    environment
        Variables for the stages, see `carried`; None: not set.
    force
        Run every stage even if nothing changed.
    prefix
        Of the stages' names in logs and on Prefect's pages, if several pipelines run at a time.
    """

    root: str
    lease: str
    environment: Mapping[str, str | None]
    force: bool = False
    prefix: str = ""


@dataclass(frozen=True)
class GraphRun:
    """What became of the stages.

    Attributes
    ----------
    outcomes
        Of every stage: ``ran``, ``restored``, ``unchanged``, ``failed`` or ``not run``.
    seconds
        Of every stage that began, those of its last attempt.
    graph
        Every stage with those whose outputs it needs.
    """

    outcomes: dict[str, str]
    seconds: dict[str, float]
    graph: dict[str, tuple[str, ...]]

    def complaint(self) -> str | None:
        """Return which stages failed and which could not be run therefore; None: all went well."""
        failed, not_run = ([s for s, o in self.outcomes.items() if o == wanted] for wanted in ("failed", "not run"))
        if not failed:
            return None
        missed = f"; not run, they depend on it: {', '.join(not_run)}" if not_run else ""
        return f"failed: {', '.join(failed)}{missed}"


def should_retry(_task: Any, _task_run: Any, state: State) -> bool:
    """Return whether another attempt can help."""
    try:
        state.result()
    except StageError as error:
        return error.retryable
    except Exception:
        return False
    return False


@task(
    name="stage",
    task_run_name="{job.prefix}{stage}",
    retries=3,
    retry_delay_seconds=[10, 60, 300],
    retry_condition_fn=should_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
@in_one_line
def run_stage(stage: str, job: Job, order: int, upstream: Any = None) -> State:
    """Bring one stage up to date; the final state is named Ran, Restored or Unchanged.

    Parameters
    ----------
    stage
        As DVC addresses it.
    job
        Of the whole run.
    order
        Stages of lower numbers go first where places are few.
    upstream
        Not used here, see `flows.parallel.clusters`.
    """

    def going() -> bool:
        return is_held(job.lease)

    name = f"{job.prefix}{stage}"
    done = read_result(job.lease, name)
    if done is None:
        with one_place(order, is_heavy(stage), going):
            try:
                done = reproduce(
                    stage,
                    Path(job.root),
                    get_run_logger().info,
                    force=job.force,
                    environment=job.environment,
                    going=going,
                )
            except StageStoppedError as stopped:
                return Crashed(message=str(stopped))
        write_result(job.lease, name, done)
    return Completed(name=done.outcome.capitalize(), message=f"{done.seconds} s", data=done.seconds)


def run_stages(graph: dict[str, tuple[str, ...]], job: Job, submit: Submit, first: int = 0) -> GraphRun:
    """Run the stages of a graph, each as soon as those upstream of it are done; a stage that fails raises no error.

    Parameters
    ----------
    graph
        Every stage with those whose outputs it needs, in topological order.
    job
        What the stages have in common.
    submit
        Of the runner that was started.
    first
        Order of the first stage, see `run_stage`.
    """
    futures: dict[str, PrefectFuture[Any]] = {}
    for order, (stage, upstream) in enumerate(graph.items(), start=first):
        parameters = {"stage": stage, "job": job, "order": order, "upstream": None}
        futures[stage] = submit(run_stage, parameters, [futures[name] for name in upstream], is_heavy(stage))
    states = {stage: _final(future, job.lease) for stage, future in futures.items()}
    outcomes = {stage: _outcome(state) for stage, state in states.items()}
    seconds = {stage: _seconds(state) for stage, state in states.items()}
    return GraphRun(outcomes, seconds, graph)


def _final(future: "PrefectFuture[Any]", held: str) -> State:
    """Wait for a task; if the flow ends meanwhile, no longer than tasks need to end with it."""
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    while not ended.wait(1.0):
        if not is_held(held) and not ended.wait(PATIENCE_SECONDS):
            return Crashed(message="its flow has ended")
    future.wait()
    return future.state


def _outcome(state: State) -> str:
    if state.is_completed():
        return (state.name or "").lower()
    return "not run" if state.is_pending() else "failed"


def _seconds(state: State) -> float:
    """Return the seconds that a stage reports, whether it went well or failed."""
    with suppress(Exception):
        told: Any = state.result(raise_on_failure=False)
        return told.seconds if isinstance(told, StageError) else float(told)
    return 0.0
