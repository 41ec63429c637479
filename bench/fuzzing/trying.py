"""Try inputs on a target: a result, an error that is one line, or a crash that is kept."""

import contextlib
import io
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import FrameType

from bench.fuzzing.inputs import Form, mutated

CORPUS = Path("tests/fuzzing/corpus")
MADE_SHARE = 0.5
LIMIT_S, MORE_MEMORY = 10.0, 4 << 30
"""Seconds of CPU for one input, and bytes that may be taken beyond what a target holds before the first one."""


class TookTooLong(BaseException):
    """An input took more than its time."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes
    ----------
    read
        Reads an input.
    seeds
        Legal inputs.
    form
        Of an input.
    refuses
        Errors that are no crash, if they have one line.
    several_lines
        Whether a message of theirs may have several: whoever shows it makes one of them.
    made
        Makes an input from nothing but chance, where a mutated one would rarely be read far.
    close
        Ends what it has opened.
    """

    read: Callable[[bytes], object]
    seeds: Sequence[bytes]
    form: Form = "bytes"
    refuses: tuple[type[BaseException], ...] = ()
    several_lines: bool = False
    made: Callable[[random.Random], bytes] | None = None
    close: Callable[[], None] = lambda: None

    def other(self, content: bytes, rng: random.Random) -> bytes:
        """Return a mutation of an input, or a new one."""
        if self.made is not None and rng.random() < MADE_SHARE:
            return self.made(rng)
        return mutated(content, rng, self.form)


@dataclass
class Found:
    """What a run has found.

    Attributes
    ----------
    target
        Its name.
    tried
        Inputs.
    kept
        Inputs that reached new code; of a run without coverage, the legal ones and those that were kept before.
    seconds
        The run took.
    crashes
        What went wrong, by where it did: a line, and the file with the first such input.
    """

    target: str
    tried: int = 0
    kept: int = 0
    seconds: float = 0.0
    crashes: dict[str, str] = field(default_factory=dict)

    def add(self, crash: str, content: bytes, folder: Path | None) -> bool:
        """Take down a crash, and keep its input in a folder if it is the first of its kind; tell whether it is."""
        key = crash.partition(": ")[0]
        if key in self.crashes:
            return False
        place = ""
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            file = folder / sha256(content).hexdigest()[:16]
            file.write_bytes(content)
            place = f" [{file}]"
        self.crashes[key] = crash + place
        return True


def crash_of(target: Target, content: bytes, limit_s: float = LIMIT_S) -> str | None:
    """Read an input, and tell what went wrong: the error, where it arose, and its message; None if nothing did."""
    from symbiosis.core.errors import InputError

    refusals: tuple[type[BaseException], ...] = (InputError, *target.refuses)
    try:
        with _limited(limit_s), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            target.read(content)
    except refusals as error:
        message = str(error)
        if "\n" in message and not target.several_lines:
            return f"several lines at {_place(error)}: {message!r}"
    except TookTooLong as error:
        return f"more than {limit_s:g} s at {_place(error)}: too long"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__} at {_place(error)}: {str(error)[:300]!r}"
    return None


def _place(error: BaseException) -> str:
    """Return the innermost place in our own packages, and the innermost one."""
    frames = list(traceback.extract_tb(error.__traceback__))
    frames = [frame for frame in frames if frame.filename != __file__] or frames
    own = [frame for frame in frames if "/symbiosis/" in frame.filename] or frames
    names = dict.fromkeys(f"{Path(frame.filename).name}:{frame.lineno}" for frame in (own[-1], frames[-1]))
    return " by ".join(names)


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `TookTooLong` in the block once it has taken so many seconds of CPU."""

    def end(_: int, __: FrameType | None) -> None:
        raise TookTooLong

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def use_test_worlds() -> None:
    """Let the small trained worlds of the test suite be imported."""
    place = str(Path(__file__).resolve().parents[2] / "tests")
    if place not in sys.path:
        sys.path.insert(0, place)


def limit_memory() -> None:
    """Let this process take `MORE_MEMORY` bytes more than it holds, and no more."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE_MEMORY, resource.RLIM_INFINITY))


def known_inputs(name: str, target: Target, root: Path = Path()) -> list[bytes]:
    """Return a target's legal inputs, and what its corpus keeps."""
    kept = sorted((root / CORPUS / name).glob("*"))
    return [*target.seeds, *(file.read_bytes() for file in kept)]


def try_at_random(
    name: str,
    target: Target,
    seconds: float,
    inputs: int | None = None,
    seed: int = 0,
    crashes: Path | None = None,
    root: Path = Path(),
) -> Found:
    """Try all known inputs, then mutations of them, without looking at what code they reach.

    Parameters
    ----------
    name, target
        What is fuzzed.
    seconds, inputs
        Whichever comes first ends it; `inputs` counts mutations alone.
    seed
        Of the mutations.
    crashes
        Folder for the inputs that crashed.
    root
        Of the repository, whose corpus is read.
    """
    known, rng = known_inputs(name, target, root), random.Random(seed)
    found, began = Found(name, kept=len(known)), time.monotonic()
    while time.monotonic() < began + seconds and (inputs is None or found.tried < inputs + len(known)):
        content = known[found.tried] if found.tried < len(known) else target.other(rng.choice(known), rng)
        found.tried += 1
        if (crash := crash_of(target, content)) is not None:
            found.add(crash, content, crashes)
    found.seconds = time.monotonic() - began
    return found
