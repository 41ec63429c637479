"""The workspace of a flow: its top folder, a lock for one writer at a time, its ports, and how its commands end."""

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from symbiosis.core.errors import InputError, one_line, printable
from symbiosis.core.processes import print_anything, spare_loopback, take_interruptions
from symbiosis.core.telemetry import switch_telemetry_off

INTERRUPTED = 130
HIGHEST_PORT = 65_535
MLFLOW_UI = "SYMBIOSIS_MLFLOW_UI"
"""Environment variable: address of MLflow's pages where the store itself has none; `make serve` sets it."""
_HELD: ContextVar[Path | None] = ContextVar("held", default=None)
"""The workspace whose lock this flow holds."""


@contextmanager
def command() -> Iterator[None]:
    """Do what every command begins with; bad input, a full disk and an interruption end it in one line at most."""
    took = take_interruptions()
    print_anything()
    spare_loopback()
    switch_telemetry_off()
    try:
        yield
    except (InputError, OSError) as error:
        sys.exit(f"error: {one_line(error)}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        if took:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


def prefect_port() -> int:
    """Return the port that Prefect's server has or would have.

    Raises
    ------
    InputError
        The environment names none.
    """
    return checked_port(os.environ.get("PREFECT_SERVER_API_PORT") or "4200", "PREFECT_SERVER_API_PORT")


def checked_port(given: str, name: str) -> int:
    """Return the number of a port.

    Raises
    ------
    InputError
        It is no port.
    """
    given = given.strip()
    if not (given.isascii() and given.isdecimal() and len(given) < 9 and 0 < int(given) <= HIGHEST_PORT):
        raise InputError(f"{name}={printable(given[:40])} is no port: give a number from 1 to {HIGHEST_PORT}")
    return int(given)


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
    """Hold the workspace's lock, waiting for other flow runs first; the lock is released when the process ends.

    A flow that holds it may call others: they share it.
    """
    if _HELD.get() == root:
        yield
        return
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
        held = _HELD.set(root)
        try:
            yield
        finally:
            _HELD.reset(held)
