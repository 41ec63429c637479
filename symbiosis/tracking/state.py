"""What ``dvc.lock`` says of a pipeline: params, data, results and curves of every stage, checked against digests."""

import csv
import fnmatch
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from symbiosis.core.errors import InputError


@dataclass(frozen=True)
class StageState:
    """One stage of a pipeline state.

    Attributes
    ----------
    name, sha256
        The stage and the digest of its entry in ``dvc.lock``.
    params
        The values it ran with, by dotted key.
    data, outs
        MD5 of its input data and of its outputs, by path.
    metrics
        The contents of its metrics files, by dotted key, the file's name first.
    curves
        (step, numbers by column) rows of its CSV plots that have a step.
    files
        Contents of its metrics, plots and pages, by path.
    fingerprint
        The mark of its live run, if it is a training.
    """

    name: str
    sha256: str
    params: dict[str, object]
    data: dict[str, str]
    outs: dict[str, str]
    metrics: dict[str, object]
    curves: list[tuple[int, dict[str, float]]]
    files: dict[str, bytes]
    fingerprint: str | None


@dataclass(frozen=True)
class State:
    """A pipeline state.

    Attributes
    ----------
    sha256
        Of ``dvc.lock``.
    stages
        In the order of ``dvc.lock``.
    unreadable
        Stages whose results are neither in the workspace nor in the cache.
    tags
        Git commit, whether tracked files differ from it, and the DVC experiment.
    """

    sha256: str
    stages: list[StageState]
    unreadable: list[str]
    tags: dict[str, str]


class _Files:
    """Files of the workspace or of a git revision, found again in the DVC cache if they are not there."""

    def __init__(self, root: Path, revision: str | None) -> None:
        self.root, self.revision = root, revision

    @cached_property
    def _cache(self) -> Path:
        """Where the DVC cache keeps files by digest; worktrees may share one."""
        command = [sys.executable, "-m", "dvc", "cache", "dir"]
        answer = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        return self.root / (answer.stdout.strip() or ".dvc/cache") / "files" / "md5"

    def text(self, path: str) -> bytes | None:
        """Return a file as it is, or None."""
        if self.revision is None:
            file = self.root / path
            return file.read_bytes() if file.is_file() else None
        shown = subprocess.run(
            ["git", "show", f"{self.revision}:./{path}"], cwd=self.root, capture_output=True, check=False
        )
        return shown.stdout if shown.returncode == 0 else None

    def artefact(self, path: str, md5: str) -> bytes | None:
        """Return the file that has this digest, or None."""
        content = self.text(path)
        if content is not None and hashlib.md5(content, usedforsecurity=False).hexdigest() == md5:
            return content
        cached = self._cache / md5[:2] / md5[2:]
        return cached.read_bytes() if cached.is_file() else None

    def member(self, folder: str, md5: str, name: str) -> bytes | None:
        """Return one file of a folder that has this digest, or None."""
        listing = self._cache / md5[:2] / md5[2:]
        if not md5.endswith(".dir") or not listing.is_file():
            return None
        entries = {entry["relpath"]: entry["md5"] for entry in json.loads(listing.read_bytes())}
        return self.artefact(f"{folder}/{name}", entries[name]) if name in entries else None


def read_state(root: Path, revision: str | None = None) -> State:
    """Read the state of the workspace, or of a git revision such as a DVC experiment.

    Raises
    ------
    InputError
        There is no ``dvc.lock`` or no ``dvc.yaml``.
    """
    files = _Files(root, revision)
    lock, pipeline = files.text("dvc.lock"), files.text("dvc.yaml")
    if lock is None or pipeline is None:
        place = f" at {revision}" if revision else ""
        raise InputError(f"{'dvc.lock' if pipeline else 'dvc.yaml'} is missing{place}: run `dvc repro` first")
    definition = yaml.safe_load(pipeline)
    stages, unreadable = [], []
    for name, entry in (yaml.safe_load(lock) or {}).get("stages", {}).items():
        stage = _stage(name, entry, definition, files)
        if stage is None:
            unreadable.append(name)
        else:
            stages.append(stage)
    return State(hashlib.sha256(lock).hexdigest(), stages, unreadable, _tags(root, revision))


def flatten(value: object, prefix: str = "") -> dict[str, object]:
    """Flatten nested mappings to dotted keys; lists stay whole.

    Examples
    --------
    >>> flatten({"ease": {"recall@20": 0.5, "l2": [1, 2]}, "users": 3})
    {'ease.recall@20': 0.5, 'ease.l2': [1, 2], 'users': 3}
    """
    if not isinstance(value, dict):
        return {prefix: value}
    return {
        name: leaf
        for key, inner in value.items()
        for name, leaf in flatten(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _stage(name: str, entry: dict[str, Any], definition: dict[str, Any], files: _Files) -> StageState | None:
    declared = definition.get("stages", {}).get(name.partition("@")[0], {})
    declared |= declared.get("do", {})
    metrics, plots = _patterns(declared.get("metrics")), _patterns(declared.get("plots"))
    axes = {path: options for plot in definition.get("plots", []) for path, options in plot.items()}
    outs = {out["path"]: out.get("md5", "") for out in entry.get("outs", [])}
    contents: dict[str, bytes] = {}
    numbers: dict[str, object] = {}
    curves: list[tuple[int, dict[str, float]]] = []
    fingerprint = None
    for path, md5 in outs.items():
        is_metric = any(fnmatch.fnmatchcase(path, pattern) for pattern in metrics)
        is_plot = any(fnmatch.fnmatchcase(path, pattern) for pattern in plots)
        if is_metric or is_plot or path.endswith(".html"):
            content = files.artefact(path, md5)
            if content is None:
                return None
            contents[path] = content
            if is_metric:
                numbers |= flatten(json.loads(content), Path(path).stem)
            if path.endswith(".csv"):
                curves += _curve(content, (axes.get(path) or {}).get("x"))
        elif (training := files.member(path, md5, "training.json")) is not None:
            fingerprint = json.loads(training).get("fingerprint")
    return StageState(
        name=name,
        sha256=hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest(),
        params={key: value for block in entry.get("params", {}).values() for key, value in flatten(block).items()},
        data={dep["path"]: dep["md5"] for dep in entry.get("deps", []) if not dep["path"].endswith(".py")},
        outs=outs,
        metrics=numbers,
        curves=curves,
        files=contents,
        fingerprint=fingerprint,
    )


def _patterns(declared: Any) -> list[str]:
    """Return declared paths, templates such as ``${item.name}`` turned into wildcards."""
    paths = [next(iter(path)) if isinstance(path, dict) else path for path in declared or []]
    return [re.sub(r"\$\{[^}]*\}", "*", path) for path in paths]


def _curve(content: bytes, x: str | None) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the rows of a curve: the step is the column ``step``, or else the plot's x, if that is whole.

    Columns of words tell several curves apart: ``regret`` of the method ``random`` is ``regret.random``.
    """
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8"))))
    steps = "step" if rows and "step" in rows[0] else x
    if not rows or steps not in rows[0] or not all(re.fullmatch(r"\d+(\.0*)?", row[steps] or "") for row in rows):
        return
    words = [name for name in rows[0] if any(row[name] and _number(row[name]) is None for row in rows)]
    for row in rows:
        label = "".join(f".{row[name]}" for name in words)
        values = {f"{name}{label}": _number(value) for name, value in row.items() if name not in (steps, *words)}
        yield int(float(row[steps])), {name: value for name, value in values.items() if value is not None}


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def experiments(root: Path) -> list[str]:
    """Return the git references of all DVC experiments."""
    listed = _git(root, "for-each-ref", "--format=%(refname)", "refs/exps/") or ""
    return [name for name in listed.splitlines() if re.fullmatch(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/.+", name)]


def _tags(root: Path, revision: str | None) -> dict[str, str]:
    experiment = re.fullmatch(r"refs/exps/(..)/([^/]+)/(.+)", revision or "")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    tags = {
        "git.commit": _git(root, "rev-parse", "--verify", "--quiet", f"{revision or 'HEAD'}^{{commit}}"),
        "git.dirty": None if changed is None else str(bool(changed) and revision is None).lower(),
        "dvc.exp_name": experiment[3] if experiment else os.environ.get("DVC_EXP_NAME"),
        "dvc.exp_baseline": experiment[1] + experiment[2] if experiment else os.environ.get("DVC_EXP_BASELINE_REV"),
    }
    return {name: value for name, value in tags.items() if value}


def _git(root: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if it fails or this is no git repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
