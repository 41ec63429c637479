"""A flow's leave for its stages to run: a locked file, which the system frees however the flow ends.

A stage on another machine, under a worker that outlives the flow, looks at it too: the workspace is shared.
"""

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
                left.unlink(missing_ok=True)
        self._file, unlocked = tempfile.mkstemp(dir=folder)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        self.path = f"{unlocked}{SUFFIX}"
        Path(unlocked).rename(self.path)

    def end(self) -> None:
        """End it, once: every stage that runs under it is ended, and none begins."""
        if self._file >= 0:
            Path(self.path).unlink(missing_ok=True)
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


@contextmanager
def lease(root: Path) -> Iterator[Lease]:
    """Make a lease and end it."""
    made = Lease(root)
    try:
        yield made
    finally:
        made.end()
