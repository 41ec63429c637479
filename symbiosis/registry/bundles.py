"""What belongs to a model that serves by itself: a folder with its own ``data/`` and ``models/``, and its digest."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from symbiosis.core.artifacts import sha256_of
from symbiosis.core.errors import InputError
from symbiosis.core.layout import ENCODER, RECOMMENDER, ROUTER
from symbiosis.core.serving import Kind

VERSION = "version.json"
"""Beside the bundle in a local copy: which registered version it is. No part of the bundle."""
DIGITS = 16

# Folders of the workspace, and where in the bundle they lie.
_CONTENTS: dict[Kind, dict[Path, Path]] = {
    "router": {ROUTER: ROUTER, ENCODER: ENCODER},
    "recommender": {RECOMMENDER: Path()},
}


@dataclass(frozen=True)
class Bundle:
    """A model's files.

    Attributes
    ----------
    kind
        Which model.
    files
        Where each lies now, by its path in the bundle.
    digest
        Of the paths and contents, `DIGITS` hexadecimal digits.
    """

    kind: Kind
    files: Mapping[str, Path]
    digest: str

    def copy_to(self, folder: Path) -> None:
        """Write the files below a folder."""
        for name, file in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def of_workspace(kind: Kind, root: Path) -> Bundle:
    """Return the bundle of what the pipeline has made.

    Raises
    ------
    InputError
        A folder of it is missing, or is not what ``dvc.lock`` records.
    """
    files: dict[str, Path] = {}
    for folder, place in _CONTENTS[kind].items():
        found = _files(root / folder)
        if not found:
            raise InputError(f"{folder} is missing: run `dvc repro`, or `dvc checkout` if it was made before")
        _make_sure_of(root, folder, found)
        files |= {(place / name).as_posix(): file for name, file in found.items()}
    return Bundle(kind, files, _digest(files))


def of_folder(kind: Kind, folder: Path) -> Bundle:
    """Return the bundle that a folder holds, such as a local copy."""
    files = {name: file for name, file in _files(folder).items() if name != VERSION}
    return Bundle(kind, files, _digest(files))


def _files(folder: Path) -> dict[str, Path]:
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def _digest(files: Mapping[str, Path]) -> str:
    whole = hashlib.sha256()
    for name, file in sorted(files.items()):
        whole.update(f"{name}\0{sha256_of(file)}\n".encode())
    return whole.hexdigest()[:DIGITS]


def _make_sure_of(root: Path, folder: Path, files: Mapping[str, Path]) -> None:
    """Make sure that a folder is what ``dvc.lock`` records; an output that it does not know passes.

    Raises
    ------
    InputError
        It was changed since, or is half of an earlier run.
    """
    lock = root / "dvc.lock"
    if not lock.is_file():
        return
    stages = (yaml.safe_load(lock.read_text(encoding="utf-8")) or {}).get("stages", {}).values()
    recorded = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", [])}.get(folder.as_posix())
    if recorded is None or recorded == _dvc_digest(files):
        return
    raise InputError(f"{folder} is not what dvc.lock records: run `dvc repro`, or `dvc checkout {folder}`")


def _dvc_digest(files: Mapping[str, Path]) -> str:
    """Return what DVC calls a folder: the MD5 of its listing."""
    listing = [{"md5": _md5(file), "relpath": name} for name, file in sorted(files.items(), key=_by_parts)]
    return hashlib.md5(json.dumps(listing, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _by_parts(entry: tuple[str, Path]) -> tuple[str, ...]:
    return tuple(entry[0].split("/"))


def _md5(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
