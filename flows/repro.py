"""Run one stage with ``dvc repro --single-item``, in a separate process group that ends with its caller."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from symbiosis.core.telemetry import TELEMETRY_OFF

CHILD = Path(__file__).with_name("child.py")
Outcome = Literal["ran", "restored", "unchanged"]

_OUTCOMES: dict[str, Outcome] = {
    "Running stage '{stage}':": "ran",
    "Stage '{stage}' is cached - skipping run, checking out outputs": "restored",
    "Stage '{stage}' didn't change, skipping": "unchanged",
}
_BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
_HINTS = (
    "To track the changes with git",
    "\tgit add",
    "To enable auto staging",
    "\tdvc config",
    "Use `dvc push`",
    "Data and pipelines are up to date",
)
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRESS_SECONDS = 20.0
_WATCH_SECONDS, _PATIENCE_SECONDS = 0.5, 10.0
_LAST_LINES = 20


@dataclass(frozen=True)
class StageResult:
    """How a stage was brought up to date.

    Attributes
    ----------
    outcome
        ``ran``; ``restored``: outputs of the same inputs came from DVC's cache; ``unchanged``: was up to date.
    seconds
        Wall time.
    """

    outcome: Outcome
    seconds: float


class StageError(RuntimeError):
    """A stage failed.

    Attributes
    ----------
    seconds
        Wall time.
    retryable
        Whether another attempt can help: DVC was locked by another process, or a download broke off. Bad input, failed
        expectations and errors in the code are not retried.
    """

    def __init__(self, stage: str, status: int, lines: list[str], seconds: float) -> None:
        self._made_of, self.seconds = (stage, status, lines, seconds), seconds
        text = "\n".join(lines)
        super().__init__(f"stage `{stage}` failed with status {status}:\n{text}")
        refused = any(line.startswith("error: ") for line in lines)
        self.retryable = any(sign in text for sign in _BUSY) or (stage.startswith("download") and not refused)

    def __reduce__(self) -> tuple[type["StageError"], tuple[str, int, list[str], float]]:
        """Let it come from another process."""
        return type(self), self._made_of


class StageStoppedError(RuntimeError):
    """A stage was ended because its flow does not go on."""


def reproduce(
    stage: str,
    root: Path,
    log: Callable[[str], None],
    *,
    force: bool = False,
    environment: Mapping[str, str | None] | None = None,
    going: Callable[[], bool] = lambda: True,
) -> StageResult:
    """Bring one stage up to date; upstream stages are not run.

    Others may run beside it: DVC is told to wait for its lock, which it holds while it hashes and moves outputs.

    Parameters
    ----------
    stage
        As DVC addresses it: ``clean``, ``baseline@ease``.
    root
        The top of the repository.
    log
        Called with every line that DVC and the stage print, and from time to time with a progress bar.
    force
        Run even if nothing changed.
    environment
        Variables that differ from this process's; None: not set.
    going
        Whether the flow goes on; asked every half second, and the stage is ended where it does not.

    Raises
    ------
    StageError
        The stage failed; the message ends with its last lines.
    StageStoppedError
        The flow does not go on.
    """
    if not going():
        raise StageStoppedError(f"stage `{stage}` was not begun: its flow has ended")
    repro = ["dvc", "--wait-for-lock", "repro", "--single-item", stage, *(["--force"] if force else [])]
    variables = TELEMETRY_OFF | os.environ
    variables |= {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }
    for name, value in (environment or {}).items():
        variables.pop(name, None)
        variables |= {} if value is None else {name: value}
    signs = {sign.format(stage=stage): outcome for sign, outcome in _OUTCOMES.items()}
    outcome: Outcome | None = None
    last: deque[str] = deque(maxlen=_LAST_LINES)
    begun = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, str(CHILD), *repro],
        cwd=root,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        with _ended_unless(going, process) as stopped:
            for line in output_lines(process.stdout):
                outcome = outcome or signs.get(line)
                if not line.startswith(_HINTS):
                    last.append(line)
                    log(line)
            status = process.wait()
    finally:
        end_group(process)
    seconds = round(time.monotonic() - begun, 1)
    if stopped.is_set():
        raise StageStoppedError(f"stage `{stage}` was ended with its flow")
    if status != 0:
        raise StageError(stage, status, list(last), seconds)
    return StageResult(outcome or "unchanged", seconds)


@contextmanager
def _ended_unless(going: Callable[[], bool], process: "subprocess.Popen[bytes]") -> Iterator[threading.Event]:
    """Watch, beside what is done in the context, that the flow goes on; the event tells that it did not."""
    stopped, done = threading.Event(), threading.Event()

    def watch() -> None:
        while going():
            if done.wait(_WATCH_SECONDS):
                return
        stopped.set()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            if done.wait(_PATIENCE_SECONDS):
                return

    watcher = threading.Thread(target=watch, name=f"watch {process.pid}", daemon=True)
    watcher.start()
    try:
        yield stopped
    finally:
        done.set()
        watcher.join()


def output_lines(stream: IO[bytes]) -> Iterator[str]:
    """Yield lines as they are printed, and of a progress bar (which has no line ends) one state every few seconds."""
    pending, shown = b"", time.monotonic()
    while block := stream.read1(1 << 16):  # type: ignore[attr-defined]
        *whole, pending = re.split(rb"(?<=\n)|(?<=\r)(?!\n)", pending + block)
        for piece in whole:
            line = _TERMINAL_CODES.sub("", piece.decode("utf-8", "replace")).strip("\r\n").rstrip()
            if line and (piece.endswith(b"\n") or time.monotonic() - shown > _PROGRESS_SECONDS):
                if not piece.endswith(b"\n"):
                    shown = time.monotonic()
                yield line
    if line := _TERMINAL_CODES.sub("", pending.decode("utf-8", "replace")).strip():
        yield line


def end_group(process: "subprocess.Popen[bytes]", patience: float = _PATIENCE_SECONDS) -> None:
    """End a process group: first by SIGTERM, then by SIGKILL; a second interruption kills at once."""
    try:
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 2.0)):
            os.killpg(process.pid, number)
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                process.poll()
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    except ProcessLookupError:
        process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        if process.stdout:
            process.stdout.close()
