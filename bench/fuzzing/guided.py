"""Fuzzing guided by coverage: `atheris` in a process of its own, which may be killed by what it tries.

Only our own packages are instrumented, so that it stays fast. libFuzzer ends a process at a crash of native code, a
hang or too much memory: that input is a crash, too, and the next process goes on with the time that is left.
"""

import importlib.util
import json
import logging
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.fuzzing.inputs import MAXIMUM
from bench.fuzzing.trying import CORPUS, LIMIT_S, Found, crash_of, known_inputs, limit_memory

FOLDER = Path(".fuzzing")
TOLD_EVERY_S = 0.5
HANGS_S, MEMORY_MB = 60, 6_000
"""Of native code, which nothing but libFuzzer interrupts; memory of the whole process."""
OWN_SHARE = 0.6
"""Of mutations that are ours; the others are libFuzzer's."""
KEPT, LARGEST_KEPT = "kept-", 1_500
"""How kept inputs are called in the corpus, and bytes of one."""
_DONE = re.compile(rb"^Done (\d+) runs", re.MULTILINE)
_ROUND = re.compile(rb"^#(\d+)\s", re.MULTILINE)


def is_available() -> bool:
    """Tell whether `atheris` is installed."""
    return importlib.util.find_spec("atheris") is not None


def try_guided(name: str, seconds: float, seed: int = 0, root: Path = Path()) -> Found:
    """Fuzz a target; what reached new code stays in ``.fuzzing/TARGET/kept`` and is where the next run begins.

    Parameters
    ----------
    name
        Of the target.
    seconds
        In all, the start of the processes included.
    seed
        Of the first process; later ones count up.
    root
        Of the repository.
    """
    found, began = Found(name), time.monotonic()
    place = root / FOLDER / name
    for part in ("kept", "crashes"):
        (place / part).mkdir(parents=True, exist_ok=True)
    while (left := began + seconds - time.monotonic()) > 1:
        with TemporaryDirectory() as folder:
            told, log = Path(folder) / "told.json", Path(folder) / "log"
            command = [sys.executable, "-m", "bench.fuzzing.guided", name, str(left), str(seed), str(told)]
            with log.open("wb") as writing:
                status = subprocess.run(
                    command,
                    stdout=writing,
                    stderr=writing,
                    cwd=root,
                    env=os.environ | {"PYTHONPATH": "."},
                    timeout=left + 300,
                ).returncode
            _take_in(found, told, log.read_bytes(), status, place)
        if status != 0 and not found.tried:
            break  # the target cannot be made: no later process fares better
        seed += 1
    found.seconds = time.monotonic() - began
    found.kept = len(list((place / "kept").iterdir()))
    return found


def keep(name: str, most: int, root: Path = Path()) -> int:
    """Copy some of what a target's runs have kept, small and of all sizes, to its corpus; return how many are there.

    What stands there under a name of its own, as crashes that were mended do, stays.
    """
    corpus = root / CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    for old in corpus.glob(f"{KEPT}*"):
        old.unlink()
    kept = sorted((root / FOLDER / name / "kept").glob("*"), key=lambda file: (file.stat().st_size, file.name))
    small = [file for file in kept if 0 < file.stat().st_size <= LARGEST_KEPT]
    for file in small[:: max(len(small) // most, 1)][:most]:
        (corpus / f"{KEPT}{file.name[:12]}").write_bytes(file.read_bytes())
    return len(list(corpus.iterdir()))


def _take_in(found: Found, told: Path, log: bytes, status: int, place: Path) -> None:
    """Add what a process has found, and how it ended."""
    known: dict[str, Any] = json.loads(told.read_text()) if told.is_file() else {"tried": 0, "crashes": {}}
    done = _DONE.search(log)
    rounds = _ROUND.findall(log)
    found.tried += max(known["tried"], int(done[1]) if done else 0, int(rounds[-1]) if rounds else 0)
    for key, crash in known["crashes"].items():
        found.crashes.setdefault(key, crash)
    if status == 0:
        return
    files = [file for file in place.iterdir() if file.is_file()]
    for file in files:
        file.rename(place / "crashes" / file.name)
    named = f" [{place / 'crashes' / files[0].name}]" if files else ""
    why = re.search(rb"ERROR: (libFuzzer|AddressSanitizer): (.*)", log)
    line = why[2].decode("utf-8", "replace") if why else log[-300:].decode("utf-8", "replace")
    found.crashes.setdefault(f"process ended with {status} {line[:60]}", f"status {status}: {line}{named}")


def _process(name: str, seconds: float, seed: int, told: Path) -> None:
    """Fuzz in this process until libFuzzer ends it."""
    import atheris

    logging.disable(logging.CRITICAL)
    found, place = Found(name), FOLDER / name
    with atheris.instrument_imports(include=["symbiosis"], enable_loader_override=False):
        from bench.fuzzing.targets import TARGETS, scratch

        folder = TemporaryDirectory(prefix=f"fuzzing-{name}-", dir=scratch())
        target = TARGETS[name](Path(folder.name))
        known = known_inputs(name, target)
        for content in known:  # what is imported at the first use is instrumented, too
            crash_of(target, content)
    seeds = Path(folder.name) / "seeds"
    seeds.mkdir()
    for number, content in enumerate(known):
        (seeds / f"{number}").write_bytes(content[:MAXIMUM])
    last = 0.0

    def write() -> None:
        nonlocal last
        last = time.monotonic()
        draft = told.with_suffix(".draft")
        draft.write_text(json.dumps({"tried": found.tried, "crashes": found.crashes}))
        draft.replace(told)

    def one(content: bytes) -> None:
        found.tried += 1
        crash = crash_of(target, content, LIMIT_S)
        if (crash is not None and found.add(crash, content, place / "crashes")) or (
            time.monotonic() - last > TOLD_EVERY_S
        ):
            write()

    def other(content: bytes, most: int, own_seed: int) -> bytes:
        rng = random.Random(own_seed)
        changed = target.other(content, rng) if rng.random() < OWN_SHARE else atheris.Mutate(content, most)
        return bytes(changed[:most])

    limit_memory()
    options = [
        f"-max_total_time={max(int(seconds - time.process_time()), 1)}",
        f"-timeout={HANGS_S}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-seed={seed + 1}",
        f"-max_len={MAXIMUM}",
        f"-artifact_prefix={place}/",
        "-print_final_stats=0",
        "-verbosity=1",
        str(place / "kept"),
        str(seeds),
    ]
    atheris.Setup([sys.argv[0], *options], one, custom_mutator=other)
    atheris.Fuzz()


if __name__ == "__main__":
    _process(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
