"""The command `symbiosis drift`."""

import json
import time
from pathlib import Path

import pytest
from routing_world import draw, write_router

from symbiosis.cli.app import main
from symbiosis.routing.serving.records import DecisionEntry, DecisionRecord
from symbiosis.routing.serving.store import Store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a trained router in which nothing was routed."""
    (tmp_path / "models").mkdir()
    write_router(tmp_path / "models/router")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def route(domain: int | None, age_s: float = 0.0) -> None:
    """Write sixty decisions on queries of one domain, or of all, into the default store."""
    _, vectors, domains = draw(300, 11)
    chosen = vectors if domain is None else vectors[domains == domain]
    Path(".router").mkdir(exist_ok=True)
    with Store.in_file(".router/store.db") as store:
        for number, vector in enumerate(chosen[:60]):
            record = DecisionRecord(f"{domain}-{number}", "dear-all", time.time() - age_s, 1.0, 10.0, 0.1, 0.5, vector)
            store.write([DecisionEntry(record, served="dear-all", mode="apply")])


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["drift", "--json", *arguments]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def test_before_anything_was_routed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No alarm, and nothing is made."""
    assert told(capsys)["alarm"] is False
    assert not (folder / ".router").exists()
    assert main(["drift"]) == 0
    assert capsys.readouterr().out.startswith("no alarm: nothing could be compared")


def test_alarm_and_window(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Queries as in training do not ring; others do, while they are in the window; the exit status is 0."""
    route(None)
    assert told(capsys)["alarm"] is False
    assert told(capsys)["seen"] == 60
    route(0, age_s=7200)
    assert told(capsys, "--hours", "1")["alarm"] is False
    found = told(capsys)
    assert (found["seen"], found["alarm"], found["alarms"]) == (120, True, ["tags", "vectors"])
    assert main(["drift"]) == 0
    assert "algebra: " in capsys.readouterr().out


def test_bad_window(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["drift", "--hours", "0"]) == 1
    assert "--hours 0 must lie above 0" in capsys.readouterr().err
