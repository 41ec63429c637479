"""The recommender's full table: one run of the pipeline per data set, seed and variant.  Run it:  make table

All runs of a data set share one work tree, `.runs/table_DATASET`, and the repository's DVC cache, so stages that a
variant does not affect are restored. Results are stored in `.runs/results/TABLE/DATASET/VARIANT/SEED`; the command
resumes where it was stopped.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from flows.configuration import overlay, read
from flows.overrides import override
from flows.repro import CHILD, end_group, output_lines
from flows.work_tree import State, environment, prepare
from flows.workspace import command, top
from symbiosis.core.artifacts import read_json, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams

FULL = "full"
"""The variant that all others are compared with; the only one that is run with the baselines."""

TARGET = "evaluate"
_KEPT = (
    "data/evaluation/per_user.parquet",
    "reports/recommender.json",
    "reports/curves/pretrain.csv",
    "reports/curves/finetune.csv",
    "params.yaml",
)
_RUNNING = re.compile(r"Running stage '(.+)':")
_NEXT = re.compile(r"Running stage '|Stage '|Updating lock file|Data and pipelines")


class DataSet(StageParams):
    """A data set of the table, named after its file in configs/, and what is run on it.

    Attributes
    ----------
    seeds
        Seeds of the variant `full`.
    variant_seeds
        Seeds of the other variants, a subset of `seeds`; all of them if not given.
    without
        Variants and baselines to skip, because they do not apply or take too long.
    params
        Changes to the configuration.
    """

    seeds: list[int] = Field(min_length=1)
    variant_seeds: list[int] | None = Field(None, min_length=1)
    without: list[str] = Field(default_factory=list)
    params: dict[str, dict[str, Any]] = Field(default_factory=dict)

    def seeds_of(self, variant: str) -> list[int]:
        """Return the seeds of a variant, none if it is skipped."""
        if variant in self.without:
            return []
        return self.seeds if variant == FULL or self.variant_seeds is None else self.variant_seeds


class TableConfiguration(StageParams):
    """A file of configs/tables/.

    Attributes
    ----------
    data_sets
        Keyed by the name of their configuration.
    seeded
        Params set to the seed, as dotted keys.
    baselines
        As in `evaluate.baselines`, for the variant `full`.
    variants
        Changes to the data set's params; must include `full`.
    """

    data_sets: dict[str, DataSet] = Field(min_length=1)
    seeded: list[str]
    baselines: dict[str, list[str]]
    variants: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline."""

    data_set: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Folder of its results, relative to the table's."""
        return f"{self.data_set}/{self.variant}/{self.seed}"


def read_table(name: str, root: Path) -> TableConfiguration:
    """Read a named table.

    Raises
    ------
    InputError
        There is none of that name, or it is malformed.
    """
    file = root / "configs/tables" / f"{name}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise InputError(f"there is no configs/tables/{name}.yaml; the tables are {names}")
    try:
        table = TableConfiguration.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise InputError(f"{file.relative_to(root)}: {error}") from None
    if FULL not in table.variants:
        raise InputError(f"{file.relative_to(root)}: `variants` must hold `{FULL}`")
    for data_set, asked in table.data_sets.items():
        valid = {*table.variants, *(name for listed in table.baselines.values() for name in listed)}
        if unknown := [*(set(asked.without) - valid), *(set(asked.variant_seeds or []) - set(asked.seeds))]:
            raise InputError(
                f"{file.relative_to(root)}: `data_sets.{data_set}` names {unknown[0]}: `without` must name variants or "
                "baselines, `variant_seeds` some of `seeds`"
            )
    return table


def runs(table: TableConfiguration) -> Iterator[Run]:
    """Yield all runs, `full` first, so that an unfinished table has the most important rows."""
    variants = [FULL, *(name for name in table.variants if name != FULL)]
    for variant in variants:
        for name, data_set in table.data_sets.items():
            yield from (Run(name, variant, seed) for seed in data_set.seeds_of(variant))


def params_of(run: Run, table: TableConfiguration, root: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Return what a run changes in ``params.yaml``, by dotted key."""
    baselines = (
        table.baselines if run.variant == FULL else {"simple": ["chance"], "hybrid": [], "neural": [], "sequential": []}
    )
    changes = overlay(read(run.data_set, root).params, document)
    for part in (table.data_sets[run.data_set].params, table.variants[run.variant]):
        changes |= overlay(part, document)
    skipped = table.data_sets[run.data_set].without
    changes |= {
        f"evaluate.baselines.{kind}": [name for name in names if name not in skipped]
        for kind, names in baselines.items()
    }
    return changes | dict.fromkeys(table.seeded, run.seed)


def fill(name: str, root: Path, *, dirty: bool = False) -> Path:
    """Do the remaining runs of a table and return the folder of all results.

    Raises
    ------
    InputError
        Configuration or data are missing or malformed, or tracked files differ from the last commit.
    CalledProcessError
        The pipeline failed.
    """
    table = read_table(name, root)
    results = root / ".runs/results" / name
    todo = list(runs(table))
    # Prepared once, so that edits and commits made meanwhile do not affect later runs.
    trees = {
        data_set: prepare(f"table_{data_set}", read(data_set, root).data, root, dirty=dirty)
        for data_set in table.data_sets
    }
    pristine = {name: (tree / "params.yaml").read_text(encoding="utf-8") for name, (tree, _) in trees.items()}
    for number, run in enumerate(todo, start=1):
        tree, state = trees[run.data_set]
        (tree / "params.yaml").write_text(pristine[run.data_set], encoding="utf-8")
        document = yaml.safe_load(pristine[run.data_set])
        override(tree / "params.yaml", params_of(run, table, root, document))
        identity = hashlib.sha256((state.digest + (tree / "params.yaml").read_text(encoding="utf-8")).encode())
        target = results / run.name
        if _identity(target) == identity.hexdigest():
            print(f"[{number}/{len(todo)}] {run.name}: done before", flush=True)
            continue
        print(f"[{number}/{len(todo)}] {run.name}", flush=True)
        ran = _reproduce(tree)
        _keep(tree, target, identity.hexdigest(), state, _seconds(tree, ran, root / ".runs/results/seconds.json"))
    _prune(results, todo)
    return results


def _identity(folder: Path) -> str | None:
    file = folder / "run.json"
    return read_json(file)["identity"] if file.is_file() else None


def _reproduce(tree: Path) -> dict[str, float]:
    """Run the pipeline, print what it prints, and return the seconds of the stages that ran."""
    command = [sys.executable, str(CHILD), "dvc", "repro", TARGET]
    seconds: dict[str, float] = {}
    stage, begun = None, time.monotonic()
    process = subprocess.Popen(
        command, cwd=tree, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        assert process.stdout is not None
        for line in output_lines(process.stdout):
            print(f"  {line}", flush=True)
            if _NEXT.match(line):
                if stage:
                    seconds[stage] = round(time.monotonic() - begun, 1)
                found = _RUNNING.match(line)
                stage, begun = (found[1] if found else None), time.monotonic()
        status = process.wait()
    finally:
        end_group(process)
    if status:
        raise subprocess.CalledProcessError(status, command)
    return seconds


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


def _keep(tree: Path, target: Path, identity: str, state: State, seconds: dict[str, float]) -> None:
    with staged(target) as (folder,):
        folder.mkdir()
        for kept in _KEPT:
            if (tree / kept).is_file():
                shutil.copy(tree / kept, folder)
        write_json(folder / "run.json", {"identity": identity, "commit": state.description, "seconds": seconds})


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
    chosen = parser.parse_args()
    with command():
        root = top()
        results = root / ".runs/results" / chosen.name
        try:
            if not chosen.report_only:
                results = fill(chosen.name, root, dirty=chosen.dirty)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
        made = "symbiosis.recommender.evaluation.table"
        page = [sys.executable, "-m", made, str(results), "reports/recommender_table"]
        page += ["--keep-earlier"] if chosen.keep_earlier else []
        sys.exit(subprocess.run(page, cwd=root, check=False).returncode)


if __name__ == "__main__":
    main()
