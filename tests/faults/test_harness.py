"""The harness of faults sees what is half-written, silent or left behind, and passes what is not."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.faults import harness as faults
from bench.faults.injection import Fault, Operations
from bench.faults.runs import Disk, in_child
from bench.faults.subjects import Subject
from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError

SIZE = 100_000


@pytest.fixture
def harness(tmp_path: Path) -> faults.Harness:
    """A harness with an empty world, on no disk of its own."""
    made = faults.Harness(Disk(tmp_path / "disk", own=False), points=50)
    made.folder.mkdir()
    made.world.mkdir()
    return made


def outcomes(harness: faults.Harness, work: Callable[[], None], *kinds: faults.Kind) -> dict[str, str]:
    subject = Subject("writer", work, ("table", "page"), begins_with=older)
    return {one.fault: one.outcome for one in harness.verdicts(subject, kinds)}


def older() -> None:
    Path("table").mkdir()
    Path("table/rows").write_text("old")
    Path("page").write_text("old")


def one_line(work: Callable[[], None]) -> None:
    try:
        work()
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


def whole() -> None:
    with staged("table", "page") as (table, page):
        table.mkdir()
        (table / "rows").write_bytes(bytes(SIZE))
        page.write_bytes(bytes(SIZE))


def in_place() -> None:
    Path("table/rows").write_bytes(bytes(SIZE))
    Path("page").write_bytes(bytes(SIZE))


def never_tidied() -> None:
    Path(f"draft{os.getpid()}").write_bytes(bytes(SIZE))
    whole()
    Path(f"draft{os.getpid()}").unlink()


def test_a_writer_that_is_whole_passes(harness: faults.Harness) -> None:
    found = outcomes(harness, lambda: one_line(whole), *faults.KINDS)
    assert set(found.values()) == {faults.SAME, faults.LINE}
    killed = [name for name in found if name.startswith("killed")]
    assert {name.partition("(")[2] for name in killed} >= {"os.rename table)", "os.rename page)"}
    assert found["limited 4,096"] == faults.LINE
    assert found["slow"] == found["clock"] == found["cut 4,096"] == faults.SAME
    assert not [name for name in found if name.startswith(("full", "read-only"))]


def test_a_writer_in_place_is_caught(harness: faults.Harness) -> None:
    found = outcomes(harness, lambda: one_line(in_place), "cut", "limited", "killed")
    assert found["cut 4,096"] == found["limited 4,096"] == faults.FAILED
    # Two files, each old or new: nothing is half-written between two writes.
    assert {name: one for name, one in found.items() if name.startswith("killed")} == {
        "killed 1 (open table/rows)": faults.SAME,
        "killed 2 (open page)": faults.SAME,
    }


def test_what_stays_for_ever_is_caught(harness: faults.Harness) -> None:
    found = outcomes(harness, lambda: one_line(never_tidied), "killed")
    begun, *_, ended = found.values()  # killed before the draft is there, and before it is taken away
    assert (begun, ended) == (faults.SAME, faults.FAILED)


def test_more_than_a_line_is_caught(harness: faults.Harness) -> None:
    found = outcomes(harness, whole, "limited")
    assert found["limited 4,096"] == faults.FAILED  # a traceback


def test_operations_have_names(tmp_path: Path) -> None:
    def work() -> None:
        Operations(tmp_path, lambda number, name, path: print(number, name, path)).watch()
        Path("a").mkdir()
        Path("a/b").write_text("x")
        Path("a/b").read_text()
        Path("a/b").replace("c")
        os.rmdir("a")  # noqa: PTH106
        with Path("c").open() as file:
            os.fsync(file.fileno())
        Path("/dev/null").write_text("elsewhere")

    told = in_child(work, tmp_path)
    assert (told.status, told.errors) == (0, "")
    names = ["os.mkdir a", "open a/b", "os.rename c", "os.rmdir a", "os.fsync c"]
    assert told.output.splitlines() == [f"{number} {name}" for number, name in enumerate(names, 1)]


def test_a_clock_that_jumps_is_that_of_everything_but_the_monotonic_one(tmp_path: Path) -> None:
    def work() -> None:
        import time
        from datetime import UTC, datetime

        real, steady = time.time(), time.monotonic()
        off = []
        for name in "abc":
            Path(name).touch()
            off.append(round((datetime.now(UTC).timestamp() - real) / 3600))
        print(json.dumps([off, time.monotonic() - steady < 60]))

    told = in_child(work, tmp_path, Fault("clock"))
    assert json.loads(told.output) == [[-1, 365 * 24, 0], True]


def test_points_are_spread_and_renames_among_them() -> None:
    names = ["open x"] * 90 + ["os.rename x"] * 10
    chosen = faults._spread(names, 20)
    assert len(chosen) == len(set(chosen)) <= 20
    assert set(range(91, 101)) <= set(chosen)
    assert min(chosen) == 1
    assert faults._spread(names[:3], 20) == [1, 2, 3]


def test_the_table_counts() -> None:
    verdicts = [
        faults.Verdict("clean", "killed 3 (os.rename a)", faults.SAME, ""),
        faults.Verdict("clean", "full 0", faults.LINE, ""),
        faults.Verdict("clean", "full 4", faults.FAILED, ""),
    ]
    assert faults.table(verdicts).splitlines()[2] == "| clean | 1 | 0 + 1 **1 failed** |"
