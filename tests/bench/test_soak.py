"""The soak of decisions at a small size: it learns all, forgets what is old, and says what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from routing_world import write_router

from bench.soak import decisions
from bench.soak.clients import _code
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.workspace import Workspace


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models").mkdir()
    write_router(tmp_path / "models/router")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_small_soak_learns_all_and_forgets_what_is_old(folder: Path) -> None:
    sizes = "--decisions 400 --at-once 16 --learn 50 --prune 100 --told 0.5"
    times = "--per-day 10 --days 5 --explained-days 3"  # so that 400 decisions are forty days
    decisions.main([*sizes.split(), *times.split(), "--json", "report.json"])
    report: dict[str, Any] = json.loads(Path("report.json").read_text())
    assert 0 < report["told"] == report["learned"] < report["decisions"]
    assert max(check["error_of_the_inverse"] for check in report["checks"]) < decisions.DRIFT
    assert [check["decisions"] for check in report["checks"]][-1] == report["decisions"]
    assert set(report["ms_of_each"]) == {"decide", "record", "feedback", "learn", "delete"}


def test_what_is_wrong_is_said(folder: Path) -> None:
    check = {"error_of_the_inverse": 1e-3, "memory_mib": 100.0}
    checks = [check, check, check, check | {"memory_mib": 111.0}]
    report = {"checks": checks, "told": 3, "learned": 2}
    with Store.in_file(folder / "store.db") as store:
        words = decisions.faults(report, store)
    assert [word.split()[0] for word in words] == ["the", "memory", "3", "the"]
    assert "memory grew from 100.0 to 111.0 MiB" in words


@pytest.mark.parametrize(
    ("content", "stream", "code"),
    [
        (b'{"error": {"code": "circuit_open"}}', False, "circuit_open"),
        (b'data: {"choices": []}\n\ndata: {"error": {"code": "upstream_broken"}}\n\n', True, "upstream_broken"),
        (b'data: {"choices": []}\n\ndata: [DONE]\n\n', True, ""),
        (b"\x00\xff<html>", False, "unreadable"),
    ],
)
def test_the_code_of_an_error_is_read(content: bytes, stream: bool, code: str) -> None:
    assert _code(content, stream) == code


def test_what_nobody_gave_feedback_on_is_gone_from_a_soaked_store(folder: Path) -> None:
    sizes, times = "--decisions 200 --at-once 20 --learn 50 --prune 50 --told 0", "--per-day 10 --days 5"
    parsed = decisions.parser().parse_args([*sizes.split(), *times.split()])
    soak = decisions.Soak(folder / "run", parsed)
    soak.run()
    with Workspace(folder / "run/state", encode=lambda _: None).store as store:  # type: ignore[arg-type,return-value]
        kept = len(store.latest(parsed.decisions))
    soak.workspace.store.close()
    # Five days of ten, and what came since the last deletion.
    assert kept == 5 * 10
