"""Run a module in a forked child while a fault comes over it, and compare what it leaves behind; used by bench.faults.

The modules that a stage imports are loaded once, before the fork: a try then costs what its work costs.
"""

import hashlib
import os
import re
import runpy
import selectors
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.faults.injection import Fault, Operations, arm

PATIENCE_S = 120
_BAR = re.compile(r"([\w ,-]+:)? *\d+%\|[^|]*\|[^\]]*\]$")
ROOM = "800m"
"""Of the disk that may be full."""


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes
    ----------
    status
        Its exit status, negative: the signal that ended it.
    output, errors
        What it printed.
    """

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        """What it said on standard error, warnings and bars of progress left out."""
        shown = [line.rsplit("\r", 1)[-1].strip() for line in self.errors.splitlines()]
        return [line for line in shown if line and not line.startswith("warning: ") and not _BAR.match(line)]


def in_child(work: Callable[[], None], folder: Path, fault: Fault = Fault("none")) -> Ended:  # noqa: B008
    """Run a function in a forked child that works in a folder, and wait for it."""
    pipes = [os.pipe(), os.pipe()]
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _be_child(work, folder, fault, pipes)
    for _, writing in pipes:
        os.close(writing)
    output, errors = _read_all([reading for reading, _ in pipes])
    _, waited = os.waitpid(child, 0)
    return Ended(os.waitstatus_to_exitcode(waited), output, errors)


def _read_all(handles: Sequence[int]) -> tuple[str, ...]:
    """Read pipes to their ends, whichever has something, without a thread: threads and forks do not mix."""
    parts: dict[int, list[bytes]] = {handle: [] for handle in handles}
    with selectors.DefaultSelector() as selector:
        for handle in handles:
            selector.register(handle, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(PATIENCE_S):
                block = os.read(key.fd, 1 << 16)
                parts[key.fd].append(block)
                if not block:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return tuple(b"".join(parts[handle]).decode("utf-8", "replace") for handle in handles)


def _be_child(work: Callable[[], None], folder: Path, fault: Fault, pipes: list[tuple[int, int]]) -> None:
    status = 70
    try:
        for target, (reading, writing) in zip((1, 2), pipes, strict=True):
            os.dup2(writing, target)
            os.close(reading)
            os.close(writing)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        signal.alarm(PATIENCE_S)
        arm(fault, folder)
        work()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def module(name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Callable[[], None]:
    """Return what runs a module as ``python -m`` does."""

    def run() -> None:
        os.environ.update(environment or {})
        sys.argv = [name, *arguments]
        sys.modules.pop(name, None)  # it is run anew, what it imports is not
        runpy.run_module(name, run_name="__main__", alter_sys=True)

    return run


def operations(work: Callable[[], None], folder: Path) -> tuple[Ended, list[str]]:
    """Run without a fault; return the names of its file operations below the folder, in order."""
    log = folder.with_name(f"{folder.name}.operations")
    log.touch()

    def watched() -> None:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        Operations(folder, lambda _, name, path: os.write(handle, f"{name} {path}\n".encode()) and None).watch()
        work()

    ended = in_child(watched, folder)
    found = log.read_text(encoding="utf-8").splitlines()
    log.unlink()
    return ended, found


def contents(folder: Path, but: Sequence[str] = ()) -> dict[str, str]:
    """Return what a folder holds, but for some names: digests of files, where links lead, by path; folders count."""
    found = {}
    for path in sorted(below for top in folder.iterdir() if top.name not in but for below in (top, *top.rglob("*"))):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found


def part(all_of: Mapping[str, str], target: str) -> dict[str, str]:
    """Return what belongs to one target, a file or a folder."""
    return {name: value for name, value in all_of.items() if name == target or name.startswith(f"{target}/")}


class Disk:
    """A small disk of its own that can be filled and made read-only, where this process may mount one.

    Parameters
    ----------
    folder
        Where it is mounted.
    own
        False: it is a part of the disk that is there, and can be neither filled nor made read-only.
    """

    def __init__(self, folder: Path, own: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        mounting = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(folder)]
        self.folder = folder
        self.is_own = own and subprocess.run(mounting, capture_output=True, check=False).returncode == 0
        self._filler = folder / "filler"

    def prepare(self, fault: Fault) -> None:
        """Let the disk be as a fault wants it."""
        if fault.kind == "full":
            state = os.statvfs(self.folder)
            size = state.f_bavail * state.f_frsize - fault.amount * 1024
            with self._filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        elif fault.kind == "read-only":
            self._remount("ro")

    def restore(self) -> None:
        """Make it writable, with all its room."""
        if self.is_own:
            self._remount("rw")
            self._filler.unlink(missing_ok=True)

    def _remount(self, mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.folder)], check=True, capture_output=True)

    def close(self) -> None:
        """Unmount it."""
        if self.is_own:
            subprocess.run(["umount", "-l", str(self.folder)], check=True, capture_output=True)


def reset(folder: Path, template: Path, kept: Sequence[str]) -> Path:
    """Make a folder as a template is, but for some names in it that stay as they are."""
    for path in folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(template, folder, symlinks=True, dirs_exist_ok=True)
    return folder
