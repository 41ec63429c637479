"""The watch: each thing is told once; what could not be told is told later."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from flows.loop import children, events, watch
from flows.loop.events import CHAMPION_CHANGED, DATA_ARRIVED, DRIFT_ALARM
from flows.loop.memory import FILE, Memory, digest_of_files, remembered
from symbiosis.core.errors import InputError


class Prefect:
    """Takes events, if it is up."""

    def __init__(self) -> None:
        self.up = True
        self.events: list[tuple[str, str]] = []

    def emit(self, event: str, resource: dict[str, str], payload: dict[str, Any]) -> object:
        if not self.up:
            raise ConnectionError("refused")
        self.events.append((event, resource["prefect.resource.id"]))
        return payload


@pytest.fixture
def prefect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prefect:
    server = Prefect()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "data/local/reviews").mkdir(parents=True)
    monkeypatch.setattr(events, "emit_event", server.emit)
    monkeypatch.setattr(watch, "get_run_logger", lambda: logging.getLogger("test"))
    drift(monkeypatch)
    return server


def drift(monkeypatch: pytest.MonkeyPatch, *alarms: str) -> None:
    """Let these checks ring."""
    found = {"alarms": list(alarms), "measures": [{"name": name} for name in ("tags", "cost")]}
    monkeypatch.setattr(watch, "run_json", lambda *_, seconds: found)


def look() -> list[str]:
    sent: list[str] = watch.watch.fn()
    return sent


def promote(kind: str, digest: str) -> None:
    """Let a version serve."""
    folder = Path(".champions", kind, "versions", digest)
    folder.mkdir(parents=True, exist_ok=True)
    link = Path(".champions", kind, "current")
    link.unlink(missing_ok=True)
    link.symlink_to(Path("versions", digest))


def test_new_data_are_told_once_and_whole(prefect: Prefect) -> None:
    """What is there at first is not new; a file that still grows waits for the next look."""
    assert look() == []
    file = Path("data/local/reviews/one.parquet")
    file.write_bytes(b"half")
    assert look() == []
    file.write_bytes(b"the whole")
    assert look() == []
    assert look() == [DATA_ARRIVED]
    assert look() == []
    file.unlink()
    assert (look(), look()) == ([], [DATA_ARRIVED])


def test_own_exports_are_no_arrival(prefect: Prefect) -> None:
    """Feedback that the nightly run has frozen must not start another one."""
    look()
    Path("data/local/feedback").mkdir()
    Path("data/local/feedback/decisions-1-2.parquet").write_bytes(b"x")
    assert (look(), look()) == ([], [])


def test_an_alarm_rings_once_a_window(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another check that begins to ring is another alarm."""
    clock = [1000.0]
    monkeypatch.setattr(watch.time, "time", lambda: clock[0])
    drift(monkeypatch, "tags")
    assert (look(), look()) == ([DRIFT_ALARM], [])
    drift(monkeypatch, "tags", "cost")
    assert (look(), look()) == ([DRIFT_ALARM], [])
    clock[0] += 24 * 3600
    assert look() == [DRIFT_ALARM]


def test_another_champion_is_told_whoever_promoted_it(prefect: Prefect) -> None:
    """Promotion and rollback from the command line, too; each model by its own resource."""
    assert look() == []
    promote("router", "one")
    assert look() == [CHAMPION_CHANGED]
    promote("router", "two")
    promote("recommender", "one")
    assert look() == [CHAMPION_CHANGED, CHAMPION_CHANGED]
    assert look() == []
    promote("router", "one")
    look()
    router, recommender = "symbiosis.champion.router", "symbiosis.champion.recommender"
    assert [resource for _, resource in prefect.events] == [router, router, recommender, router]


def test_what_could_not_be_told_is_told_later(
    prefect: Prefect, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is down is a warning for each event, and none is forgotten."""
    look()
    Path("data/local/reviews/one.parquet").write_bytes(b"x")
    look()
    drift(monkeypatch, "cost")
    promote("router", "one")
    prefect.up = False
    assert look() == []
    assert [message.split(" was not sent ")[0] for message in caplog.messages] == [
        f"the event {event}" for event in (DATA_ARRIVED, DRIFT_ALARM, CHAMPION_CHANGED)
    ]
    prefect.up = True
    assert look() == [DATA_ARRIVED, DRIFT_ALARM, CHAMPION_CHANGED]
    assert look() == []


def test_drift_that_is_not_known_hinders_nothing(prefect: Prefect, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, seconds: float) -> dict[str, Any]:
        raise InputError("gateway.yaml: no such LLM")

    monkeypatch.setattr(watch, "run_json", fail)
    promote("router", "one")
    assert look() == [CHAMPION_CHANGED]


def test_a_damaged_memory_is_begun_anew(prefect: Prefect) -> None:
    look()
    FILE.write_text("{")
    with remembered(Path()) as memory:
        assert memory == Memory()
    assert look() == []


def test_linked_folders_are_looked_into(tmp_path: Path) -> None:
    """Size and time tell; links to nothing are passed over."""
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere/rows.csv"
    file.write_text("a")
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "rows").symlink_to(tmp_path / "elsewhere")
    (folder / "gone").symlink_to(tmp_path / "nowhere")
    without = folder / "feedback"
    first = digest_of_files(folder, without)
    assert digest_of_files(folder, without) == first
    told = file.stat()
    os.utime(file, ns=(told.st_atime_ns, told.st_mtime_ns + 1))
    assert digest_of_files(folder, without) != first


def test_children_answer_in_json_or_in_one_line(tmp_path: Path) -> None:
    """As the command line does: here nothing was routed, and the window is none."""
    assert children.run_json(tmp_path, "drift")["alarm"] is False
    with pytest.raises(InputError, match=r"^`symbiosis drift --hours 0`: --hours 0 must lie above 0$"):
        children.run_json(tmp_path, "drift", "--hours", "0")
    with pytest.raises(InputError, match="took longer than 0.01 s"):
        children.run_json(tmp_path, "drift", seconds=0.01)
