"""The recommender's full table: one run of the pipeline per data set, seed and variant.  Run it:  make table

All runs of a data set share one work tree, `.runs/table_DATASET`, and the repository's DVC cache, so stages that a
variant does not affect are restored. Runs of different data sets, and ready stages of a run, go side by side. Results
are stored in `.runs/results/TABLE/DATASET/VARIANT/SEED`; the command resumes where it was stopped.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from flows.workspace import command, one_writer, prefect_port, top
from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported
if __name__ == "__main__":
    with command():
        prefect_port()  # prefect's own message runs to pages

from prefect import flow, get_run_logger  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.states import State  # noqa: E402

from flows.configuration import read  # noqa: E402
from flows.dag import select, stage_graph  # noqa: E402
from flows.overrides import override  # noqa: E402
from flows.parallel.clusters import Submit, started  # noqa: E402
from flows.parallel.lease import is_held, lease  # noqa: E402
from flows.parallel.runner import Runner, add_options, chosen_runner  # noqa: E402
from flows.parallel.stages import Job, carried, run_stages  # noqa: E402
from flows.pipeline import local_server  # noqa: E402
from flows.states import failed, in_one_line, result_of  # noqa: E402
from flows.table_configuration import Run, TableConfiguration, params_of, read_table, runs  # noqa: E402
from flows.work_tree import State as WorkTreeState  # noqa: E402
from flows.work_tree import environment as work_tree_environment  # noqa: E402
from flows.work_tree import prepare  # noqa: E402
from symbiosis.core.artifacts import read_json, staged, write_json  # noqa: E402
from symbiosis.core.errors import InputError  # noqa: E402

_KEPT = (
    "data/evaluation/per_user.parquet",
    "reports/recommender.json",
    "reports/curves/pretrain.csv",
    "reports/curves/finetune.csv",
    "params.yaml",
)


@flow(name="table", persist_result=False)
@in_one_line
def table(name: str = "full", dirty: bool = False, runner: Runner | None = None) -> str | State:
    """Do the remaining runs of a table, those of different data sets side by side.

    Parameters
    ----------
    name
        Of a file in configs/tables/.
    dirty
        Run tracked files as they are now, committed or not.
    runner
        Who runs the stages that are ready: threads of this process if not given.

    Returns
    -------
    str or State
        The folder of all results. A failed state, whose message says why, where a run failed; all others were done.
    """
    folder, complaints = fill(name, top(), dirty=dirty, runner=runner or Runner())
    return failed("; ".join(complaints)) if complaints else str(folder)


def fill(name: str, root: Path, *, dirty: bool, runner: Runner) -> tuple[Path, list[str]]:
    """Do the remaining runs of a table in the flow that calls this.

    Returns
    -------
    tuple
        The folder of all results, and of every run that failed what failed.

    Raises
    ------
    InputError
        Configuration or data are missing or malformed, or tracked files differ from the last commit.
    """
    runner.check()
    configured = read_table(name, root)
    results = root / ".runs/results" / name
    todo = list(runs(configured))
    # Prepared once, so that edits and commits made meanwhile do not affect later runs.
    trees = {
        data_set: Tree(*prepare(f"table_{data_set}", read(data_set, root).data, root, dirty=dirty))
        for data_set in configured.data_sets
    }
    environment = carried() | {"PYTHONPATH": ""}
    with started(runner) as submit, ThreadPoolExecutor(len(trees)) as chains, lease(root) as held:
        chain = Chain(configured, root, results, todo, submit, held.path, environment)
        done = [chains.submit(copy_context().run, chain.follow, name, tree) for name, tree in trees.items()]
        complaints = [complaint for one in done for complaint in one.result()]
    _prune(results, todo)
    return results, complaints


class Tree:
    """A work tree, for the runs of one data set one after another."""

    def __init__(self, path: Path, state: WorkTreeState) -> None:
        self.path, self.state = path, state
        self.params = (path / "params.yaml").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Chain:
    """The runs of each data set, one after another in its work tree.

    Attributes
    ----------
    table
        What is run.
    root
        The top of the repository.
    results
        Folder of all results.
    todo
        All runs of the table.
    submit
        Of the runner that was started.
    held
        File of the lease under which stages run.
    environment
        Variables for the stages.
    """

    table: TableConfiguration
    root: Path
    results: Path
    todo: list[Run]
    submit: Submit
    held: str
    environment: Mapping[str, str | None]
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock)

    def follow(self, data_set: str, tree: Tree) -> list[str]:
        """Do the runs of a data set and return complaints about those that failed."""
        logger, complaints = get_run_logger(), []
        with one_writer(tree.path, logger.info):
            for number, run in enumerate(self.todo):
                if run.data_set == data_set and is_held(self.held):
                    logger.info("[%d/%d] %s", number + 1, len(self.todo), run.name)
                    if complaint := self._do(run, tree, number):
                        complaints.append(f"{run.name}: {complaint}")
        return complaints

    def _do(self, run: Run, tree: Tree, number: int) -> str | None:
        params = tree.path / "params.yaml"
        params.write_text(tree.params, encoding="utf-8")
        override(params, params_of(run, self.table, self.root, yaml.safe_load(tree.params)))
        identity = hashlib.sha256((tree.state.digest + params.read_text(encoding="utf-8")).encode()).hexdigest()
        target = self.results / run.name
        if _identity(target) == identity:
            get_run_logger().info("%s: done before", run.name)
            return None
        with self._one_at_a_time:  # DVC's own code is not made for threads
            graph = select(stage_graph(tree.path), self.table.targets_of(run))
        job = Job(str(tree.path), self.held, self.environment, prefix=f"{run.name} ")
        done = run_stages(graph, job, self.submit, first=number * len(graph))
        if complaint := done.complaint():
            return complaint
        ran = {stage: seconds for stage, seconds in done.seconds.items() if done.outcomes[stage] == "ran"}
        with self._one_at_a_time:
            seconds = _seconds(tree.path, ran, self.root / ".runs/results/seconds.json")
        kept = {"identity": identity, "commit": tree.state.description, "seconds": seconds}
        try:
            with staged(target) as (folder,):
                folder.mkdir()
                (_keep if self.table.model else _measure)(tree.path, folder)
                write_json(folder / "run.json", kept)
        except InputError as error:
            return str(error)
        return None


def _identity(folder: Path) -> str | None:
    file = folder / "run.json"
    return read_json(file)["identity"] if file.is_file() else None


def _seconds(tree: Path, ran: dict[str, float], file: Path) -> dict[str, float]:
    """Return the seconds of every stage; for a restored stage those of the run that made it, if recorded."""
    recorded: dict[str, float] = read_json(file) if file.is_file() else {}
    lock = yaml.safe_load((tree / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    found = {}
    for stage, entry in lock.items():
        made_of = json.dumps([stage, entry["cmd"], entry.get("deps"), entry.get("params")], sort_keys=True)
        key = hashlib.sha256(made_of.encode()).hexdigest()
        if stage in ran:
            recorded[key] = ran[stage]
        if key in recorded:
            found[stage] = recorded[key]
    with staged(file) as (temporary,):
        write_json(temporary, recorded)
    return found


def _keep(tree: Path, folder: Path) -> None:
    for kept in _KEPT:
        if (tree / kept).is_file():
            shutil.copy(tree / kept, folder)


def _measure(tree: Path, folder: Path) -> None:
    """Measure the baselines of a work tree, whose reports may be the last commit's."""
    shutil.copy(tree / "params.yaml", folder)
    command = [sys.executable, "-m", "symbiosis.recommender.evaluation.baselines_alone", str(folder)]
    done = subprocess.run(command, cwd=tree, env=work_tree_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(f"its baselines were not measured: {done.stderr.strip()}")


def _prune(results: Path, todo: list[Run]) -> None:
    """Remove results of runs that are no longer in the table."""
    wanted = {run.name for run in todo}
    for file in results.glob("*/*/*/run.json"):
        if file.parent.relative_to(results).as_posix() not in wanted:
            shutil.rmtree(file.parent)


def main() -> None:
    """Run the table from the command line and make its page."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", default="full", help="of a file in configs/tables/")
    parser.add_argument("--dirty", action="store_true", help="run tracked files as they are, committed or not")
    parser.add_argument("--report-only", action="store_true", help="only make the page, from the runs that are done")
    parser.add_argument("--keep-earlier", action="store_true", help="keep the page's rows that this table does not run")
    add_options(parser)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        root = top()
        if not chosen.report_only:
            _run(chosen, root)
        made, named = "symbiosis.recommender.evaluation.table", read_table(chosen.name, root).page
        page = [sys.executable, "-m", made, str(root / ".runs/results" / chosen.name), f"reports/{named}"]
        page += ["--keep-earlier"] if chosen.keep_earlier else []
        sys.exit(subprocess.run(page, cwd=root, check=False).returncode)


def _run(chosen: argparse.Namespace, root: Path) -> None:
    """Run the flow on the local server if one runs, else on a temporary one."""
    runner = chosen_runner(chosen)
    read_table(chosen.name, root)
    address = None if os.environ.get("PREFECT_API_URL") else local_server()
    with temporary_settings({PREFECT_API_URL: address}) if address else nullcontext():
        result_of(lambda: table(chosen.name, chosen.dirty, runner, return_state=True), "no run was done", address)


if __name__ == "__main__":
    main()
