"""Work trees below `.runs/`: the last commit with the shared DVC cache, apart from the main workspace."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from symbiosis.core.errors import InputError

DATA = "SYMBIOSIS_DATA_DIR"
_PIPELINE = ("dvc.yaml", "params.yaml", "stages", "symbiosis")
_MADE_BY_RUNS = (":!dvc.lock", ":!reports", ":!README.md")


@dataclass(frozen=True)
class State:
    """Contents of a work tree.

    Attributes
    ----------
    description
        The commit, and `with changes` if tracked files differed from it.
    digest
        Digest of the pipeline's files, equal for equal contents.
    """

    description: str
    digest: str


def prepare(name: str, data: Mapping[str, str], root: Path, *, dirty: bool) -> tuple[Path, State]:
    """Check out the last commit in a work tree and link its data.

    Parameters
    ----------
    name
        Name of the folder below `.runs/`.
    data
        Links to make: path in the repository, target below the folder that SYMBIOSIS_DATA_DIR names.
    root
        The top of the repository.
    dirty
        Take tracked files as they are now, even if they differ from the last commit.

    Raises
    ------
    InputError
        Data are missing, or tracked files differ from the last commit.
    """
    sources = {link: source(path) for link, path in data.items()}
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_MADE_BY_RUNS)
    if changed and not dirty:
        files = ", ".join(line.split()[-1] for line in changed.splitlines()[:5])
        raise InputError(
            f"tracked files differ from the last commit ({files}): commit them, so that the results can be traced, or "
            "use DIRTY=1 to run them as they are"
        )
    head = _git(root, "rev-parse", "HEAD")
    commit = (_git(root, "stash", "create") if changed else "") or head
    tree = _at(root, name, commit)
    for path, folder in sources.items():
        link = tree / path
        if link.is_symlink():
            link.unlink()
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder)
    description = f"{head}{' with changes' if commit != head else ''}"
    return tree, State(description, hashlib.sha256(_git(root, "ls-tree", commit, *_PIPELINE).encode()).hexdigest())


def environment() -> dict[str, str]:
    """Return the environment for commands in a work tree: this interpreter's programs, the work tree's modules."""
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": "",
    }


def source(path: str) -> Path:
    """Find data below the folder that SYMBIOSIS_DATA_DIR names."""
    folder = os.environ.get(DATA)
    if not folder:
        raise InputError(f"{DATA} is not set: it must name the folder with the data ({path} below it)")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise InputError(f"{path} must be a path below {DATA}")
    found = Path(folder).resolve() / path
    if not found.exists():
        raise InputError(f"{found} is missing: {DATA} must name the folder with the data")
    return found


def _at(root: Path, name: str, commit: str) -> Path:
    """Check out a commit; outputs and checkpoints stay, and DVC decides whether they are still valid."""
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


def _git(folder: Path, *arguments: str) -> str:
    return _printed(folder, "git", *arguments)


def _dvc(folder: Path, *arguments: str) -> str:
    return _printed(folder, sys.executable, "-m", "dvc", *arguments)


def _printed(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()
