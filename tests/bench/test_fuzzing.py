"""No mutated input makes a reader end in anything but a result or one line; long runs: python -m bench.fuzzing."""

import random
from pathlib import Path

import pytest

from bench.fuzzing import READERS, fuzz, mutated

INPUTS = {"jsonl": 25, "csv": 40, "params": 40}


@pytest.mark.parametrize("reader", READERS)
def test_a_short_run_finds_nothing(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert fuzz(reader, 60, INPUTS.get(reader, 300), seed=1) == []


def test_crashes_are_found_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise KeyError("a fault")

    monkeypatch.setitem(READERS, "broken", ("x", lambda: b"abc", fail))
    (crash,) = fuzz("broken", 60, 10, crashes=tmp_path)
    assert crash.startswith("KeyError at test_fuzzing.py:")
    assert (tmp_path / "broken-0").read_bytes() == b"abc"


def test_mutations_depend_on_the_seed_alone() -> None:
    first, second = ([mutated(b"some input", random.Random(3)) for _ in range(5)] for _ in range(2))
    assert first == second
