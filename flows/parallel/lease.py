"""A flow's leave for its stages to run: a locked file, which the system frees however the flow ends.

A stage on another machine, under a worker that outlives the flow, looks at it too: the workspace is shared. What
became of each stage is kept beside it while the flow runs.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

from flows.repro import StageResult

SUFFIX = ".lease"


class Lease:
    """A file that the flow keeps locked while its stages may run.

    Parameters
    ----------
    root
        The top of the workspace; what flows that were killed left there is removed.
    """

    def __init__(self, root: Path) -> None:
        folder = root / ".dvc" / "tmp"
        folder.mkdir(exist_ok=True)
        for left in folder.glob(f"*{SUFFIX}"):
            if not is_held(str(left)):
                _remove(left)
        self._file, unlocked = tempfile.mkstemp(dir=folder)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = f"{unlocked}{SUFFIX}"
        _results(self.path).mkdir()
        Path(unlocked).rename(self.path)

    def end(self) -> None:
        """End it, once: every stage that runs under it is ended, and none begins."""
        if self._file >= 0:
            _remove(Path(self.path))
            os.close(self._file)
            self._file = -1


def is_held(path: str) -> bool:
    """Return whether the flow that made a lease still lets its stages run."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - called several times a second
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:  # locked, or the file system does not answer for a moment
        return True
    return False


def write_result(path: str, name: str, result: StageResult) -> None:
    """Keep what became of a stage under a lease.

    Dask forgets results with the worker that it loses, and would run stages again that are done and read by others.
    """
    folder = _results(path)
    with suppress(FileNotFoundError):  # the flow has ended
        with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, encoding="utf-8") as file:
            json.dump(asdict(result), file)
        Path(file.name).rename(folder / quote(name, safe=""))


def read_result(path: str, name: str) -> StageResult | None:
    """Return what became of a stage under a lease, None before that."""
    try:
        return StageResult(**json.loads((_results(path) / quote(name, safe="")).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _results(path: str) -> Path:
    return Path(f"{path}.results")


def _remove(file: Path) -> None:
    file.unlink(missing_ok=True)
    shutil.rmtree(_results(str(file)), ignore_errors=True)


@contextmanager
def lease(root: Path) -> Iterator[Lease]:
    """Make a lease and end it."""
    made = Lease(root)
    try:
        yield made
    finally:
        made.end()
