"""Repeat a named run of configs/ in a work tree of its own.  Run it:  make repro CONFIG=scientific18

The work tree `.runs/NAME` holds the last commit and shares the DVC cache, so the main workspace is left alone and a
killed training goes on when the command is repeated. Tables, pages and params come to `reports/real/NAME`.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flows.overrides import override
from flows.repro import CHILD
from flows.work_tree import environment, prepare
from flows.workspace import top
from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams
from symbiosis.core.telemetry import switch_telemetry_off
from symbiosis.reporting.results import markdown, text
from symbiosis.tracking.publish import publish
from symbiosis.tracking.store import explain


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

    A file that names another as its `base` holds what differs from that one: `data` and `targets` replace the base's,
    `params` are merged into them.
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
    try:
        return Configuration.model_validate(_document(name, root))
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"configs/{name}.yaml: {error}") from None


def _document(name: str, root: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a file upon its base; `above` are those that led to it."""
    file = root / "configs" / f"{name}.yaml"
    led = f"configs/{above[-1]}.yaml: `base`: " if above else ""
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise InputError(f"{led}there is no configs/{name}.yaml; the configurations are {names}")
    if name in above:
        raise InputError(f"{led}`{name}` is built upon it: a configuration cannot be its own base")
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise InputError(f"configs/{name}.yaml must hold `data`, `targets` and `params`")
    base = document.pop("base", None)
    if base is None:
        return document
    below = _document(str(base), root, (*above, name))
    return below | document | {"params": _merged(below.get("params") or {}, document.get("params") or {})}


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested params with those of another laid over them."""
    both = {
        key: _merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return {**below, **above, **both}


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
    tree, state = prepare(name, configuration.data, root, dirty=dirty)
    document = yaml.safe_load((tree / "params.yaml").read_text(encoding="utf-8"))
    override(tree / "params.yaml", overlay(configuration.params, document))

    child = [sys.executable, str(CHILD)]
    subprocess.run([*child, "dvc", "repro", *configuration.targets], cwd=tree, env=environment(), check=True)
    try:
        if done := publish(tree):
            print(f"MLflow run {done.run_id} in {done.uri}, {done.new_runs or 'no'} new runs")
    except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
        print(f"warning: nothing recorded in MLflow: {explain(error)}", file=sys.stderr)
    return _collect(tree, configuration.targets, root / "reports" / "real" / name, state.told)


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
