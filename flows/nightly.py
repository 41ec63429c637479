"""The scheduled flows: take in feedback, retrain, register, judge, promote.  Run them:  python -m flows.nightly

A failure or an outage stops what depends on it and nothing else, promotes nothing, and is one line of what waits.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from flows.workspace import command, one_writer, prefect_port, top
from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported
if __name__ == "__main__":
    with command():
        prefect_port()  # prefect's own message runs to pages
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

from prefect import flow, get_run_logger  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.states import State  # noqa: E402

from flows import pipeline  # noqa: E402
from flows.dag import select  # noqa: E402
from flows.gate import gate  # noqa: E402
from flows.loop.last_run import LastRun  # noqa: E402
from flows.loop.steps import STAGES, ingest, keep  # noqa: E402
from flows.parallel.runner import Runner, add_options, chosen_runner  # noqa: E402
from flows.states import failed, in_one_line, result_of  # noqa: E402
from symbiosis.core.artifacts import read_json  # noqa: E402
from symbiosis.core.errors import InputError, one_line  # noqa: E402
from symbiosis.core.serving import LINKS, Kind  # noqa: E402
from symbiosis.registry.gate import KINDS, VERDICT  # noqa: E402

if TYPE_CHECKING:
    from logging import Logger, LoggerAdapter


@flow(name="nightly", persist_result=False)
@in_one_line
def nightly(
    overrides: dict[str, Any] | None = None, force: bool = False, runner: Runner | None = None
) -> dict[str, str] | State:
    """Take in feedback, bring all stages up to date, and promote the models that the gate lets pass.

    Parameters
    ----------
    overrides
        Params to change first, by dotted key; they stay in ``params.yaml``.
    force
        Run every stage even if nothing changed.
    runner
        See `flows.pipeline.pipeline`.

    Returns
    -------
    dict or State
        By model: ``promoted``, ``refused``, ``unchanged`` or ``waiting``. A failed state, whose message says why, where
        stages failed or something waits; what does not depend on it was done.
    """
    return _run("nightly", [], KINDS, overrides or {}, force, runner or Runner())


@flow(name="hourly", persist_result=False)
@in_one_line
def hourly(
    overrides: dict[str, Any] | None = None, force: bool = False, runner: Runner | None = None
) -> dict[str, str] | State:
    """Do the same with the router's branch alone; see `nightly`."""
    return _run("hourly", pipeline.ROUTER_TARGETS, ("router",), overrides or {}, force, runner or Runner())


def _run(
    name: str, targets: Sequence[str], kinds: Sequence[Kind], overrides: dict[str, Any], force: bool, runner: Runner
) -> dict[str, str] | State:
    """Do the steps in order, in the workspace alone."""
    logger, root = get_run_logger(), top()
    with one_writer(root, logger.info):
        last, run = LastRun(name, root), None
        try:
            outcomes: dict[str, str] = dict.fromkeys(kinds, "waiting")
            if _kept(kinds, str(root), last):
                if file := ingest(str(root)):
                    last.words.append(f"feedback taken in: {file}")
                run = pipeline.bring_up_to_date(list(targets), overrides, force, runner)
                outcomes = _judged(run, kinds, last, logger)
        finally:
            last.finish(run)
    if last.waits:
        return failed("; ".join(last.waits))
    return outcomes


def _kept(kinds: Sequence[Kind], root: str, last: LastRun) -> bool:
    """Make champions of what serves from the workspace; tell whether it may be trained anew there."""
    for kind in kinds:
        state = keep(kind, root, return_state=True)
        if state.is_failed() or state.is_crashed():
            reason = one_line(state.message or "", 300)
            last.waits.append(f"the retraining waits, as the {kind} that serves could not be kept: {reason}")
    return not last.waits


def _judged(
    run: pipeline.PipelineRun, kinds: Sequence[Kind], last: LastRun, logger: "Logger | LoggerAdapter[Logger]"
) -> dict[str, str]:
    """Let the gate judge the models whose stages all went well and that were registered."""
    outcomes: dict[str, str] = dict.fromkeys(kinds, "waiting")
    if complaint := run.complaint():
        last.waits.append(complaint)
    if isinstance(run.published, str):
        last.waits.append(f"{' and '.join(kinds)} wait to be registered and judged: {run.published}")
        return outcomes
    last.waits += [f"not registered: {reason}" for reason in run.published.refused]
    registered = {one.kind for one in run.published.registered}
    for kind in kinds:
        needed = select(run.graph, STAGES[kind])
        if any(run.outcomes[stage] in ("failed", "not run") for stage in needed):
            logger.warning("the %s waits: not all of its stages went well", kind)
        elif kind not in registered:
            logger.warning("the %s waits: it was not registered", kind)
        else:
            outcomes |= gate(kind)
            if outcomes[kind] == "waiting":
                last.waits.append(f"the {kind}'s candidate waits to be judged or moved: the log of the gate says why")
            else:
                last.words.append(_words(kind, outcomes[kind], last))
    return outcomes


def _words(kind: Kind, outcome: str, last: LastRun) -> str:
    if outcome == "unchanged":
        return f"{kind} unchanged"
    try:
        return f"{kind} {outcome}: {read_json((last.root / LINKS[kind]).with_name(VERDICT))['words']}"
    except (InputError, KeyError, TypeError):
        return f"{kind} {outcome}"


def main() -> None:
    """Run a flow from the shell, on the local server if one runs, else on a temporary one."""
    parser = argparse.ArgumentParser(prog="python -m flows.nightly", description=__doc__)
    parser.add_argument("flow", nargs="?", choices=["nightly", "hourly"], default="nightly", help="which flow")
    parser.add_argument("-f", "--force", action="store_true", help="run stages even if nothing changed")
    add_options(parser)
    chosen = parser.parse_args()
    # Prefect passes SIGTERM on after the flow has cleaned up; sys.exit also stops the temporary server.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        address = None if os.environ.get("PREFECT_API_URL") else pipeline.local_server()
        runner = chosen_runner(chosen)
        top()
        with temporary_settings({PREFECT_API_URL: address}) if address else nullcontext():
            chosen_flow = nightly if chosen.flow == "nightly" else hourly
            outcomes: Any = result_of(
                lambda: chosen_flow(force=chosen.force, runner=runner, return_state=True),
                "feedback, retraining and candidates wait",
                address,
            )
        print(", ".join(f"{kind}: {outcome}" for kind, outcome in outcomes.items()))


if __name__ == "__main__":
    main()
