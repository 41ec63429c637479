"""Repeat a named run of configs/ in a separate work tree.  Run it:  make repro CONFIG=scientific18

The work tree `.runs/NAME` holds the last commit and shares the DVC cache. The main workspace is not touched, and a
killed training resumes when the command is repeated. Tables, pages and params are written to `reports/real/NAME`.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from flows.overrides import override
from flows.repro import CHILD
from flows.work_tree import environment, prepare
from flows.workspace import command, top
from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams
from symbiosis.registry.publication import publish_state
from symbiosis.reporting.results import markdown, text
from symbiosis.tracking.store import explain


class Configuration(StageParams):
    """A file of configs/.

    Attributes
    ----------
    data
        Links to make in the work tree: path in the repository, target below the folder that SYMBIOSIS_DATA_DIR names.
    targets
        Stages to run, with everything upstream of them.
    params
        Changes to ``params.yaml``.

    A file may name another as its `base`: its `data` and `targets` replace the base's, its `params` are merged into
    the base's.
    """

    data: dict[str, str]
    targets: list[str]
    params: dict[str, dict[str, Any]]


def read(name: str, root: Path) -> Configuration:
    """Read a named configuration.

    Raises
    ------
    InputError
        There is no such configuration, or it is malformed.
    """
    try:
        return Configuration.model_validate(_document(name, root))
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"configs/{name}.yaml: {error}") from None


def _document(name: str, root: Path, above: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a file and merge it into its base; `above` are the files that name this one as their base."""
    file = root / "configs" / f"{name}.yaml"
    led = f"configs/{above[-1]}.yaml: `base`: " if above else ""
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in file.parent.glob("*.yaml")))
        raise InputError(f"{led}there is no configs/{name}.yaml; the configurations are {names}")
    if name in above:
        raise InputError(f"{led}`{name}` has it as its base: a configuration cannot be its own base")
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise InputError(f"configs/{name}.yaml must hold `data`, `targets` and `params`")
    base = document.pop("base", None)
    if base is None:
        return document
    below = _document(str(base), root, (*above, name))
    return below | document | {"params": merged(below.get("params") or {}, document.get("params") or {})}


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested params; those of `above` win."""
    both = {
        key: merged(below[key], above[key])
        for key in below.keys() & above.keys()
        if isinstance(below[key], dict) and isinstance(above[key], dict)
    }
    return {**below, **above, **both}


def overlay(params: Mapping[str, Any], document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested params to dotted keys; a mapping stays whole where ``params.yaml`` has no block of keys."""
    overrides: dict[str, Any] = {}
    for key, value in params.items():
        block = document.get(key)
        if isinstance(value, dict) and isinstance(block, dict) and block:
            overrides |= overlay(value, block, f"{prefix}{key}.")
        else:
            overrides[f"{prefix}{key}"] = value
    return overrides


def repeat(
    name: str,
    root: Path,
    *,
    dirty: bool = False,
    changes: Mapping[str, Any] | None = None,
    targets: Sequence[str] = (),
    results: str = "reports/real",
) -> Path:
    """Run a named configuration and return the folder of its results.

    Parameters
    ----------
    name
        A file in configs/, without its extension.
    root
        The top of the repository.
    dirty
        Run tracked files as they are now, even if they differ from the last commit; the results say so.
    changes
        Of params, beside the configuration's own.
    targets
        Stages to run instead of the configuration's.
    results
        Folder for the folder of the results.

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
    override(tree / "params.yaml", overlay(configuration.params, document) | overlay(changes or {}, document))
    wanted = list(targets or configuration.targets)

    child = [sys.executable, str(CHILD)]
    subprocess.run([*child, "dvc", "repro", *wanted], cwd=tree, env=environment(), check=True)
    try:
        if done := publish_state(tree):
            print("\n".join(done.lines()))
    except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
        print(f"warning: nothing recorded in MLflow: {explain(error)}", file=sys.stderr)
    return _collect(tree, wanted, root / results / name, state.description)


def _collect(tree: Path, targets: list[str], folder: Path, commit: str) -> Path:
    """Copy the reports of the targets, and only theirs, with the params and a table."""
    lock = yaml.safe_load((tree / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    outs = [tree / out["path"] for target in targets for out in lock[target]["outs"]]
    with staged(folder) as (temporary,):
        temporary.mkdir()
        for file in [tree / "params.yaml", *(out for out in outs if out.suffix in (".json", ".html"))]:
            shutil.copy(file, temporary)
        table = f"# {folder.name}\n\n{markdown(temporary)}\nCommit {commit}; params: [params.yaml](params.yaml).\n"
        (temporary / "README.md").write_text(table, encoding="utf-8")
    return folder


def main() -> None:
    """Run a configuration from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.configuration", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="a file in configs/, without its extension")
    parser.add_argument("--dirty", action="store_true", help="run tracked files as they are, committed or not")
    chosen = parser.parse_args()
    with command():
        try:
            folder = repeat(chosen.name, top(), dirty=chosen.dirty)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
        print(text(folder))


if __name__ == "__main__":
    main()
