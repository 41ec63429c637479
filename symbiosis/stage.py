"""What every stage does before and after its work: params, errors, seeds, and dying with its parent."""

import argparse
import ast
import ctypes
import hashlib
import importlib
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.artifacts import sha256_of
from symbiosis.errors import InputError
from symbiosis.telemetry import switch_telemetry_off

PARAMS_FILE = Path("params.yaml")
PACKAGES = ("symbiosis", "stages")


class StageParams(BaseModel):
    """Base of every block of ``params.yaml``: frozen, unknown keys and values of another type refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Params = TypeVar("Params", bound=StageParams)


def read_document(path: Path = PARAMS_FILE) -> dict[str, object]:
    """Read ``params.yaml`` as a mapping of blocks.

    Raises
    ------
    InputError
        The file is missing, is not YAML or is not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run stages from the top of the repository") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(document, dict):
        raise InputError(f"{path} must hold one block per stage, not a {type(document).__name__}")
    return document


def validate_block(document: dict[str, object], block: str, model: type[Params]) -> Params:
    """Validate one block (``"finetune"``, or ``"baselines.ease"`` for a nested one) against its model.

    Raises
    ------
    InputError
        The block is missing or a key is unknown, missing or out of range; every fault is named.
    """
    value: object = document
    for key in block.split("."):
        if not isinstance(value, dict) or key not in value:
            raise InputError(f"{PARAMS_FILE}: the block `{block}` is missing")
        value = value[key]
    try:
        return model.model_validate(value)
    except ValidationError as error:
        faults = "; ".join(
            f"`{'.'.join([block, *map(str, fault['loc'])])}`: "
            + ("unknown key" if fault["type"] == "extra_forbidden" else fault["msg"])
            for fault in error.errors()
        )
        raise InputError(f"{PARAMS_FILE}: {faults}") from None


def run(block: str, model: type[Params], work: Callable[[Params], None]) -> None:
    """Run a stage: validate all params, do the work, and turn bad input into one clear line.

    The whole of ``params.yaml`` is validated, so that a typo in a late block stops the pipeline before any long
    work; the stage itself sees only its own block.

    Parameters
    ----------
    block
        The stage's block in ``params.yaml``.
    model
        The pydantic model of that block.
    work
        The stage proper.
    """
    argparse.ArgumentParser(
        prog=f"python -m {work.__module__}" if work.__module__ != "__main__" else None,
        description=f"{(sys.modules[work.__module__].__doc__ or '').strip()}\n\nParams: the block `{block}` of "
        f"{PARAMS_FILE}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_known_args()
    die_with_parent()
    switch_telemetry_off()
    try:
        document = read_document()
        params = validate_block(document, block, model)
        # Loaded by name: the other blocks' models can only refuse, never change what this stage writes, so they are
        # no dependency of it.
        importlib.import_module("symbiosis.params").validate(document)
        work(params)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def die_with_parent() -> None:
    """Ask Linux to end this process with its parent: a killed `dvc repro` must leave no trainer behind."""
    if sys.platform != "linux":
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG in <linux/prctl.h>
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGTERM, 0, 0, 0)


def imported_files(module_file: Path | str, root: Path | str = ".") -> list[Path]:
    """Every project file that a module imports, directly or through others, itself included.

    Read from the syntax tree, so nothing is executed. Packages' ``__init__.py`` hold a docstring only and are left
    out.

    Parameters
    ----------
    module_file
        A Python file below `root`.
    root
        The top of the repository.

    Returns
    -------
    list of Path
        Paths relative to `root`, sorted.
    """
    root = Path(root).resolve()
    waiting, found = [Path(module_file).resolve()], set[Path]()
    while waiting:
        file = waiting.pop()
        if file in found:
            continue
        found.add(file)
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name.split(".")[0] in PACKAGES:
                    candidate = root.joinpath(*name.split(".")).with_suffix(".py")
                    if candidate.is_file():
                        waiting.append(candidate)
    return sorted(path.relative_to(root) for path in found)


def fingerprint(module_file: Path | str, params: StageParams, inputs: Iterable[Path | str]) -> str:
    """Identify one run of a stage by its params, its code and its data; names the folder of its checkpoints.

    Two runs with the same fingerprint would write the same bytes, so one may continue the other; any change of
    params, code or data gives another fingerprint, so that a stale checkpoint is never picked up.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256(params.model_dump_json().encode())
    for path in [*imported_files(module_file), *map(Path, inputs)]:
        digest.update(f"{path.as_posix()} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]
