"""The pipeline as Prefect flows: one task per DVC stage.  Run it:  python -m flows.pipeline --help

DVC decides what must run and stores all results; Prefect schedules, retries and displays. `dvc repro` does the same
work without Prefect.
"""

import argparse
import os
import signal
import sys
import time
import urllib.request
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.workspace import command, one_writer, prefect_port, top
from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported
if __name__ == "__main__":
    with command():
        prefect_port()  # prefect's own message runs to pages
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.runtime import flow_run  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.states import Completed, State  # noqa: E402

from flows.dag import select, stage_graph  # noqa: E402
from flows.overrides import override, parse  # noqa: E402
from flows.repro import StageError, reproduce  # noqa: E402
from flows.states import failed, in_one_line, result_of  # noqa: E402
from symbiosis.registry import publication  # noqa: E402
from symbiosis.tracking.store import explain  # noqa: E402

ROUTER_TARGETS = ["online-replay"]


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
    task_run_name="{stage}",
    retries=3,
    retry_delay_seconds=[10, 60, 300],
    retry_condition_fn=should_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
@in_one_line
def run_stage(stage: str, root: str, force: bool) -> State:
    """Bring one stage up to date; the final state is named Ran, Restored or Unchanged."""
    done = reproduce(stage, Path(root), get_run_logger().info, force=force)
    return Completed(name=done.outcome.capitalize(), message=f"{done.seconds} s")


@task(name="publish", task_run_name="publish", cache_policy=NO_CACHE, persist_result=False)
def publish_state(root: str, flow_run_id: str | None) -> publication.Publication | str:
    """Record the pipeline's state in MLflow and register its models; a server that is down fails no flow.

    Returns
    -------
    Publication or str
        What was done, or why nothing was.
    """
    logger = get_run_logger()
    try:
        done = publication.publish_state(Path(root), flow_run_id=flow_run_id)
    except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
        logger.warning("nothing recorded in MLflow: %s", explain(error))
        return f"MLflow: {explain(error)}"
    if done is None:
        logger.info("tracking is switched off: nothing recorded")
        return "tracking is switched off"
    for line in done.lines():
        logger.info(line)
    return done


@dataclass(frozen=True)
class PipelineRun:
    """What became of the stages.

    Attributes
    ----------
    outcomes
        Of every stage: ``ran``, ``restored``, ``unchanged``, ``failed`` or ``not run``.
    seconds
        Of every stage.
    graph
        Every stage with those whose outputs it needs.
    published
        See `publish_state`.
    """

    outcomes: dict[str, str]
    seconds: dict[str, float]
    graph: dict[str, tuple[str, ...]]
    published: publication.Publication | str

    def complaint(self) -> str | None:
        """Return which stages failed and which could not be run therefore; None: all went well."""
        failed, not_run = ([s for s, o in self.outcomes.items() if o == wanted] for wanted in ("failed", "not run"))
        if not failed:
            return None
        missed = f"; not run, they depend on it: {', '.join(not_run)}" if not_run else ""
        return f"failed: {', '.join(failed)}{missed}"


@flow(name="pipeline", persist_result=False)
@in_one_line
def pipeline(
    targets: list[str] | None = None, overrides: dict[str, Any] | None = None, force: bool = False
) -> dict[str, str] | State:
    """Full retraining: bring all stages up to date.

    Parameters
    ----------
    targets
        Stages to bring up to date, with everything upstream of them; all stages if not given.
    overrides
        Params to change first, by dotted key: ``{"finetune.learning_rate": 1e-4}``. They stay in ``params.yaml``.
    force
        Run every stage even if nothing changed.

    Returns
    -------
    dict or State
        The outcome of every stage: ``ran``, ``restored`` or ``unchanged``. A failed state, whose message says why, for
        an unknown stage or params key, before anything runs, and where a stage failed: stages that do not depend on it
        have been brought up to date.
    """
    return _outcomes(bring_up_to_date(targets or [], overrides or {}, force))


@flow(name="router-refresh", persist_result=False)
@in_one_line
def router_refresh(overrides: dict[str, Any] | None = None, force: bool = False) -> dict[str, str] | State:
    """Bring only the router's branch up to date; see `pipeline`."""
    return _outcomes(bring_up_to_date(ROUTER_TARGETS, overrides or {}, force))


def _outcomes(run: PipelineRun) -> dict[str, str] | State:
    complaint = run.complaint()
    return run.outcomes if complaint is None else failed(complaint)


def bring_up_to_date(targets: list[str], overrides: dict[str, Any], force: bool = False) -> PipelineRun:
    """Run the stages as tasks of the flow that calls this, see `pipeline`; a stage that fails raises no error here."""
    logger, root = get_run_logger(), top()
    with one_writer(root, logger.info):
        graph = select(stage_graph(root), targets)
        if changed := override(root / "params.yaml", overrides):
            logger.info("changed params: %s", ", ".join(f"{k}: {old} -> {new}" for k, (old, new) in changed.items()))
            graph = select(stage_graph(root), targets)  # params may add members to a matrix stage
        states: dict[str, State] = {}
        outcomes: dict[str, str] = {}
        seconds: dict[str, float] = {}
        for stage, upstream in graph.items():
            begun = time.monotonic()
            states[stage] = run_stage(
                stage, str(root), force, wait_for=[states[name] for name in upstream], return_state=True
            )
            outcomes[stage] = (states[stage].name or "").lower() if states[stage].is_final() else "not run"
            seconds[stage] = round(time.monotonic() - begun, 1)
        table = [{"stage": stage, "outcome": outcomes[stage], "seconds": seconds[stage]} for stage in graph]
        create_table_artifact(table, key="stages", description=f"Outcome and time of each stage of `{root.name}`")
        return PipelineRun(outcomes, seconds, graph, publish_state(str(root), flow_run.get_id()))


def local_server() -> str | None:
    """Return the address of the server that `make serve` started here, if it answers."""
    url = f"http://127.0.0.1:{prefect_port()}/api"
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
            return url if answer.status == 200 else None
    except OSError:
        return None


def main() -> None:
    """Run a flow from the shell, on the local server if one runs, else on a temporary one."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="run only these and their upstream stages")
    parser.add_argument("-S", "--set", action="append", default=[], metavar="KEY=VALUE", help="change a param first")
    parser.add_argument("-f", "--force", action="store_true", help="run stages even if nothing changed")
    chosen = parser.parse_args()
    # Prefect passes SIGTERM on after the flow has cleaned up; sys.exit also stops the temporary server.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        address = None if os.environ.get("PREFECT_API_URL") else local_server()
        overrides = parse(chosen.set)
        select(stage_graph(top()), chosen.targets)
        override(top() / "params.yaml", overrides, write=False)
        with temporary_settings({PREFECT_API_URL: address}) if address else nullcontext():
            result_of(
                lambda: pipeline(chosen.targets or None, overrides or None, chosen.force, return_state=True),
                "no stage was run",
                address,
            )


if __name__ == "__main__":
    main()
