"""The pipeline as Prefect flows: one task per DVC stage.  Run it:  python -m flows.pipeline --help

DVC decides what must run and stores all results; Prefect schedules, retries and displays. `dvc repro` does the same
work without Prefect.
"""

import argparse
import os
import signal
import sys
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
from prefect.states import State  # noqa: E402

from flows.dag import select, stage_graph  # noqa: E402
from flows.overrides import override, parse  # noqa: E402
from flows.parallel.clusters import started  # noqa: E402
from flows.parallel.lease import lease  # noqa: E402
from flows.parallel.runner import Runner, add_options, chosen_runner  # noqa: E402
from flows.parallel.stages import GraphRun, Job, carried, run_stages  # noqa: E402
from flows.states import failed, in_one_line, result_of  # noqa: E402
from symbiosis.registry import publication  # noqa: E402
from symbiosis.tracking.store import explain  # noqa: E402

ROUTER_TARGETS = ["online-replay"]


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
class PipelineRun(GraphRun):
    """What became of the stages.

    Attributes
    ----------
    published
        See `publish_state`.
    """

    published: publication.Publication | str


@flow(name="pipeline", persist_result=False)
@in_one_line
def pipeline(
    targets: list[str] | None = None,
    overrides: dict[str, Any] | None = None,
    force: bool = False,
    runner: Runner | None = None,
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
    runner
        Who runs the stages that are ready side by side: threads of this process if not given.

    Returns
    -------
    dict or State
        The outcome of every stage: ``ran``, ``restored`` or ``unchanged``. A failed state, whose message says why, for
        an unknown stage or params key, before anything runs, and where a stage failed: stages that do not depend on it
        have been brought up to date.
    """
    return _outcomes(bring_up_to_date(targets or [], overrides or {}, force, runner or Runner()))


@flow(name="router-refresh", persist_result=False)
@in_one_line
def router_refresh(
    overrides: dict[str, Any] | None = None, force: bool = False, runner: Runner | None = None
) -> dict[str, str] | State:
    """Bring only the router's branch up to date; see `pipeline`."""
    return _outcomes(bring_up_to_date(ROUTER_TARGETS, overrides or {}, force, runner or Runner()))


def _outcomes(run: PipelineRun) -> dict[str, str] | State:
    complaint = run.complaint()
    return run.outcomes if complaint is None else failed(complaint)


def bring_up_to_date(targets: list[str], overrides: dict[str, Any], force: bool, runner: Runner) -> PipelineRun:
    """Run the stages as tasks of the flow that calls this, see `pipeline`; a stage that fails raises no error here."""
    logger, root = get_run_logger(), top()
    runner.check()
    with one_writer(root, logger.info):
        graph = select(stage_graph(root), targets)
        if changed := override(root / "params.yaml", overrides):
            logger.info("changed params: %s", ", ".join(f"{k}: {old} -> {new}" for k, (old, new) in changed.items()))
            graph = select(stage_graph(root), targets)  # params may add members to a matrix stage
        environment = carried()
        with started(runner) as submit, lease(root) as held:
            done = run_stages(graph, Job(str(root), held.path, environment, force), submit)
        table = [{"stage": stage, "outcome": done.outcomes[stage], "seconds": done.seconds[stage]} for stage in graph]
        create_table_artifact(table, key="stages", description=f"Outcome and time of each stage of `{root.name}`")
        published = publish_state(str(root), flow_run.get_id())
        return PipelineRun(done.outcomes, done.seconds, graph, published)


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
    add_options(parser)
    chosen = parser.parse_args()
    # Prefect passes SIGTERM on after the flow has cleaned up; sys.exit also stops the temporary server.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        address = None if os.environ.get("PREFECT_API_URL") else local_server()
        overrides, runner = parse(chosen.set), chosen_runner(chosen)
        select(stage_graph(top()), chosen.targets)
        override(top() / "params.yaml", overrides, write=False)
        with temporary_settings({PREFECT_API_URL: address}) if address else nullcontext():
            result_of(
                lambda: pipeline(chosen.targets or None, overrides or None, chosen.force, runner, return_state=True),
                "no stage was run",
                address,
            )


if __name__ == "__main__":
    main()
