"""Inputs that once crashed a reader, and a short run of each target; long runs: python -m bench.fuzzing."""

import contextlib
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from bench.fuzzing import guided, openapi
from bench.fuzzing.__main__ import NAMES, chosen
from bench.fuzzing.command_target import command_line
from bench.fuzzing.inputs import mutated
from bench.fuzzing.targets import GROUPS, TARGETS, opened
from bench.fuzzing.trying import CORPUS, Found, Target, TookTooLong, crash_of, known_inputs, try_at_random

ROOT = Path(__file__).resolve().parents[2]
INPUTS = {"requests": 200, "reviews": 100, "metadata": 100, "benchmark-csv": 100, "tags": 100}
INPUTS |= {"prompts": 20, "bundles": 10}
SLOW = ("door", "command-line")
"""They train small models first."""
MOST_CORPUS = 300_000
"""Bytes."""


@pytest.fixture(autouse=True)
def at_the_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in TARGETS])
def test_a_short_run_finds_nothing(name: str) -> None:
    with opened(name) as target:
        known = len(known_inputs(name, target))
        found = try_at_random(name, target, 60, INPUTS.get(name, 20), seed=1)
    assert found.crashes == {}
    assert found.tried == known + INPUTS.get(name, 20)


def test_arguments_of_every_kind_end_in_one_line(tmp_path: Path) -> None:
    target = command_line(tmp_path, trained=False)
    found = try_at_random("command-line", target, 60, 60, seed=1)
    assert found.crashes == {}
    assert found.tried > 60


def test_the_corpus_is_small_and_of_known_targets() -> None:
    folders = [folder for folder in (ROOT / CORPUS).iterdir() if folder.is_dir()]
    assert {folder.name for folder in folders} <= {*TARGETS}
    assert 0 < sum(file.stat().st_size for folder in folders for file in folder.iterdir()) < MOST_CORPUS


def test_every_target_is_in_one_group() -> None:
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(TARGETS)
    assert chosen("all") == NAMES
    assert chosen("gateway") == GROUPS["gateway"]
    assert chosen("csv") == ("csv",)


def test_crashes_are_found_and_kept(tmp_path: Path) -> None:
    def fail(content: bytes) -> None:
        if content != b"legal":
            raise KeyError("a fault")

    found = try_at_random("broken", Target(fail, [b"legal"]), 60, 10, crashes=tmp_path)
    ((key, crash),) = found.crashes.items()
    assert key.startswith("KeyError at test_fuzzing.py:")
    (file,) = tmp_path.iterdir()
    assert file.name in crash
    assert file.read_bytes() != b"legal"


def test_what_takes_too_long_is_a_crash_that_no_reader_can_catch() -> None:
    def endless(_: bytes) -> None:
        while True:
            with contextlib.suppress(Exception):
                sum(range(1000))

    crash = crash_of(Target(endless, [b""]), b"", limit_s=0.05)
    assert crash is not None
    assert crash.startswith("more than 0.05 s at test_fuzzing.py:")
    assert not issubclass(TookTooLong, Exception)


def test_an_error_of_several_lines_is_a_crash() -> None:
    def refuse(_: bytes) -> None:
        raise ValueError("one\ntwo")

    crash = crash_of(Target(refuse, [b""], refuses=(ValueError,)), b"")
    assert crash is not None
    assert crash.startswith("several lines at test_fuzzing.py:")
    assert crash_of(Target(refuse, [b""], refuses=(ValueError,), several_lines=True), b"") is None


@pytest.mark.parametrize("form", ["bytes", "json", "named"])
def test_mutations_depend_on_the_seed_alone(form: str) -> None:
    first, second = (
        [mutated(b'file.json\n{"a": [1, {"b": "c"}]}', random.Random(n), form) for n in range(30)]  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 20


def test_values_inside_json_are_changed_and_names_of_files_stay() -> None:
    rng = random.Random(5)
    changed = [mutated(b'file.json\n{"a": [1, {"b": "c"}]}', rng, "named") for _ in range(200)]
    assert all(one.startswith(b"file.json\n") for one in changed)
    whole = 0
    for one in changed:
        try:
            json.loads(one.partition(b"\n")[2])
            whole += 1
        except (ValueError, RecursionError):
            pass
    assert whole > 40


def test_a_process_that_dies_is_a_crash(tmp_path: Path) -> None:
    (tmp_path / "crashes").mkdir()
    (tmp_path / "timeout-1").write_bytes(b"slow")
    found = Found("x")
    log = b"#8\tNEW\n==1== ERROR: libFuzzer: timeout after 60 seconds\n"
    guided._take_in(found, tmp_path / "told.json", log, 70, tmp_path)
    (crash,) = found.crashes.values()
    assert "timeout after 60 seconds" in crash
    assert (tmp_path / "crashes/timeout-1").read_bytes() == b"slow"
    assert found.tried == 8


@pytest.mark.skipif(not guided.is_available(), reason="atheris is not installed")
def test_a_guided_run_keeps_what_reaches_new_code(tmp_path: Path) -> None:
    for place in ("bench", "symbiosis", "params.yaml", "tests"):
        (tmp_path / place).symlink_to(ROOT / place)
    found = guided.try_guided("tags", 2, root=tmp_path)
    assert found.crashes == {}
    assert found.tried > 5
    assert found.kept == len(list((tmp_path / ".fuzzing/tags/kept").iterdir())) >= 1


@pytest.mark.slow
def test_a_round_of_the_openapi_document() -> None:
    found = openapi.try_openapi(1)
    assert found.crashes == {}
    assert found.tried > 1_000


def test_the_command_names_its_targets() -> None:
    command = [sys.executable, "-m", "bench.fuzzing", "--list"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert {name for names in json.loads(told).values() for name in names} == set(NAMES)
