"""Repeat a named run of configs/ in a work tree of its own.  Run it:  make repro CONFIG=scientific18

The work tree `.runs/NAME` holds the last commit and shares the DVC cache, so the main workspace is left alone and a
killed training goes on when the command is repeated. Tables, pages and params come to `reports/real/NAME`.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from flows.overrides import override
from flows.repro import CHILD
from flows.workspace import top
from symbiosis.artifacts import staged
from symbiosis.errors import InputError
from symbiosis.results import markdown, text
from symbiosis.stage import StageParams
from symbiosis.telemetry import switch_telemetry_off
from symbiosis.tracking.publish import publish
from symbiosis.tracking.store import explain

DATA = "SYMBIOSIS_DATA_DIR"
_MADE_BY_RUNS = (":!dvc.lock", ":!reports", ":!README.md")


class Configuration(StageParams):
    """A file of configs/.

    Attributes
    ----------
    data
        Where the work tree's links lead to: place in the repository, path below the folder that SYMBIOSIS_DATA_DIR
        names.
    targets
        Stages to run, with everything upstream of them.
    params
        What differs from ``params.yaml``.
    """

    data: dict[str, str]
    targets: list[str]
    params: dict[str, dict[str, Any]]


def read(name: str, root: Path) -> Configuration:
    """Read a named configuration.

    Raises
    ------
    InputError
        There is none of that name, or it is malformed.
    """
    file = root / "configs" / f"{name}.yaml"
    names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
    if not file.is_file():
        raise InputError(f"there is no configs/{name}.yaml; the configurations are {names}")
    try:
        return Configuration.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"configs/{name}.yaml: {error}") from None


def overlay(params: Mapping[str, Any], document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested params as overrides by dotted key; a mapping replaces what is no block of several keys."""
    overrides: dict[str, Any] = {}
    for key, value in params.items():
        block = document.get(key)
        if isinstance(value, dict) and isinstance(block, dict) and block:
            overrides |= overlay(value, block, f"{prefix}{key}.")
        else:
            overrides[f"{prefix}{key}"] = value
    return overrides


def repeat(name: str, root: Path, *, dirty: bool = False) -> Path:
    """Run a named configuration and return the folder of its results.

    Parameters
    ----------
    name
        Of a file in configs/.
    root
        The top of the repository.
    dirty
        Run tracked files as they are now, if they differ from the last commit; the results say so.

    Raises
    ------
    InputError
        Data or configuration are missing, or tracked files differ from the last commit.
    CalledProcessError
        The pipeline failed.
    """
    configuration = read(name, root)
    sources = {place: _source(path) for place, path in configuration.data.items()}
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_MADE_BY_RUNS)
    if changed and not dirty:
        files = ", ".join(line.split()[-1] for line in changed.splitlines()[:5])
        raise InputError(
            f"tracked files differ from the last commit ({files}): commit them, so that the results can be traced, or "
            "say DIRTY=1 to run them as they are"
        )
    head = _git(root, "rev-parse", "HEAD")
    state = (_git(root, "stash", "create") if changed else "") or head
    tree = _work_tree(root, name, state)
    for place, source in sources.items():
        link = tree / place
        if link.is_symlink():
            link.unlink()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)
    document = yaml.safe_load((tree / "params.yaml").read_text(encoding="utf-8"))
    override(tree / "params.yaml", overlay(configuration.params, document))

    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": "",
    }
    child = [sys.executable, str(CHILD)]
    subprocess.run([*child, "dvc", "repro", *configuration.targets], cwd=tree, env=environment, check=True)
    try:
        if done := publish(tree):
            print(f"MLflow run {done.run_id} in {done.uri}, {done.new_runs or 'no'} new runs")
    except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
        print(f"warning: nothing recorded in MLflow: {explain(error)}", file=sys.stderr)
    commit = f"{head}{' with changes' if state != head else ''}"
    return _collect(tree, configuration.targets, root / "reports" / "real" / name, commit)


def _source(path: str) -> Path:
    folder = os.environ.get(DATA)
    if not folder:
        raise InputError(f"{DATA} is not set: it must name the folder with the data ({path} below it)")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise InputError(f"{path} must be a path below {DATA}")
    source = Path(folder).resolve() / path
    if not source.exists():
        raise InputError(f"{source} is missing: {DATA} must name the folder with the data")
    return source


def _work_tree(root: Path, name: str, commit: str) -> Path:
    """Bring the work tree to a commit; outputs and checkpoints in it stay, DVC tells whether they still hold."""
    tree = root / ".runs" / name
    if (tree / ".git").exists():
        _git(tree, "checkout", "--quiet", "--force", "--detach", commit)
    else:
        shutil.rmtree(tree, ignore_errors=True)
        _git(root, "worktree", "prune")
        _git(root, "worktree", "add", "--quiet", "--detach", str(tree), commit)
    cache = _dvc(root, "cache", "dir")
    _dvc(tree, "cache", "dir", "--local", str((root / cache).resolve()))
    return tree


def _collect(tree: Path, targets: list[str], folder: Path, commit: str) -> Path:
    """Copy what the targets reported, numbers and pages, and the params; the commit may hold other reports, too."""
    lock = yaml.safe_load((tree / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [tree / out["path"] for target in targets for out in lock[target]["outs"]]
    with staged(folder) as (place,):
        place.mkdir()
        for file in [tree / "params.yaml", *(out for out in outs if out.suffix in (".json", ".html"))]:
            shutil.copy(file, place)
        table = f"# {folder.name}\n\n{markdown(place)}\nCommit {commit}; params: [params.yaml](params.yaml).\n"
        (place / "README.md").write_text(table, encoding="utf-8")
    return folder


def _git(folder: Path, *arguments: str) -> str:
    return _printed(folder, "git", *arguments)


def _dvc(folder: Path, *arguments: str) -> str:
    return _printed(folder, sys.executable, "-m", "dvc", *arguments)


def _printed(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def main() -> None:
    """Read the name and run."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.configuration", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="of a file in configs/")
    parser.add_argument("--dirty", action="store_true", help="run tracked files as they are, committed or not")
    chosen = parser.parse_args()
    switch_telemetry_off()
    try:
        folder = repeat(chosen.name, top(), dirty=chosen.dirty)
    except InputError as error:
        sys.exit(f"error: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    print(text(folder))


if __name__ == "__main__":
    main()
