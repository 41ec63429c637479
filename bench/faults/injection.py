"""Faults for one process: killed at a point, no room, no memory, a slow disk, a clock that jumps; used by bench.faults.

The program that is tried knows nothing of this. Its file operations are seen through Python's own audit events, so that
a point has a name such as ``os.rename data/graph``; what libraries write by themselves meets limits of the kernel.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["none", "killed", "cut", "limited", "full", "read-only", "memory", "slow", "clock"]
SLOW_S = 0.01
"""Seconds that each file operation takes on a slow disk."""
JUMPS_S = (0.0, -3_600.0, 365 * 86_400.0)
"""By how much the clock is wrong, in turn, from one file operation to the next: an hour back, a year ahead."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.fsync"}


@dataclass(frozen=True)
class Fault:
    """What goes wrong in a process.

    Attributes
    ----------
    kind
        ``killed``: by SIGKILL right before the file operation `amount`, counted from 1. ``cut``: killed while a file
        grows beyond `amount` bytes. ``limited``: no file may grow beyond `amount` bytes. ``full``: `amount` KiB are
        left on the disk. ``memory``: the process may take `amount` MiB more than at its start. ``read-only``, ``slow``,
        ``clock``: no amount. ``none``: nothing goes wrong.
    amount
        As `kind` says.
    """

    kind: Kind
    amount: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind in ("none", "read-only", "slow", "clock") else f"{self.kind} {self.amount:,}"


class Operations:
    """The file operations of this process below a folder, each told before it happens.

    Parameters
    ----------
    folder
        Operations elsewhere are none of its business.
    tell
        Called with the number of the operation, from 1, its name and its path below the folder.
    """

    def __init__(self, folder: Path, tell: Callable[[int, str, str], None]) -> None:
        self._folder, self._tell = f"{folder.resolve()}/", tell
        self._count = 0
        self._telling = False
        self._fsync = os.fsync

    def watch(self) -> None:
        """Begin; there is no end but that of the process."""
        os.fsync = self._audited_fsync  # type: ignore[assignment]  # it has no event of its own
        sys.addaudithook(self._hear)

    def _audited_fsync(self, handle: Any) -> None:
        sys.audit("os.fsync", handle)
        self._fsync(handle)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or self._telling:
            return
        if event == "open" and not (arguments[2] or 0) & _WRITING:
            return
        path = _place(event, arguments)
        if not path.startswith(self._folder):
            return
        self._count += 1
        self._telling = True
        try:
            self._tell(self._count, event, path.removeprefix(self._folder))
        finally:
            self._telling = False


def _place(event: str, arguments: tuple[Any, ...]) -> str:
    """Return the absolute path that an operation changes; of a rename, where it leads."""
    path = arguments[1] if event in ("os.rename", "os.symlink", "os.link") else arguments[0]
    folder = {"os.rename": 3, "os.remove": 1, "os.mkdir": 2, "os.rmdir": 1}.get(event)
    if isinstance(path, int) or hasattr(path, "fileno"):
        number = path if isinstance(path, int) else path.fileno()
        return str(Path(f"/proc/self/fd/{number}").readlink()) if number > 2 else ""
    if path is None:
        return ""
    name = os.fsdecode(path)
    if folder is not None and len(arguments) > folder and arguments[folder] not in (None, -1):
        name = str(Path(f"/proc/self/fd/{arguments[folder]}").readlink() / name)
    return os.path.abspath(name)  # noqa: PTH100


def arm(fault: Fault, folder: Path) -> None:
    """Let a fault come over this process; ``full`` and ``read-only`` are up to the disk.

    Parameters
    ----------
    fault
        Which.
    folder
        Where the process works.
    """
    if fault.kind == "killed":
        Operations(folder, lambda number, *_: _die() if number == fault.amount else None).watch()
    elif fault.kind == "slow":
        Operations(folder, lambda *_: time.sleep(SLOW_S)).watch()
    elif fault.kind == "clock":
        Operations(folder, wrong_clock()).watch()
    elif fault.kind in ("cut", "limited"):
        # Python ignores the signal, and sees an error instead; a process that does not is killed in its write.
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if fault.kind == "cut" else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.amount, fault.amount))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    elif fault.kind == "memory":
        limit = _memory() + fault.amount * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _memory() -> int:
    """Return the bytes of this process's address space."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def wrong_clock() -> Callable[[int, str, str], None]:
    """Return what sets the clock of this process at each operation, see `JUMPS_S`; its monotonic clock is right."""
    import time_machine

    begin, steady = time.time(), time.monotonic
    started = steady()
    clock = time_machine.travel(begin, tick=True).start()

    def jump(number: int, *_: str) -> None:
        clock.move_to(begin + steady() - started + JUMPS_S[number % len(JUMPS_S)])

    return jump
