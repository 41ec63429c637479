"""The workspace of a flow: its top folder, and a lock for one writer at a time."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from symbiosis.core.errors import InputError


def top(folder: Path | None = None) -> Path:
    """Return the nearest folder, from here upwards, with a pipeline.

    Raises
    ------
    InputError
        There is none.
    """
    start = (folder or Path.cwd()).resolve()
    for candidate in (start, *start.parents):
        if (candidate / "dvc.yaml").is_file() and (candidate / ".dvc").is_dir():
            return candidate
    raise InputError(f"no dvc.yaml in {start} or above: run flows inside the repository")


@contextmanager
def one_writer(root: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Hold the workspace's lock, waiting for other flow runs first; the lock is released when the process ends."""
    file = root / ".dvc" / "tmp" / "flow.lock"
    file.parent.mkdir(exist_ok=True)
    with file.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            log(f"waiting for another flow run in this workspace (process {lock.read().strip() or 'unknown'})")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
