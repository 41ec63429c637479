"""`symbiosis gate`: what it prints, how it ends, and that a dry run leaves everything as it was."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from symbiosis.cli.app import main
from symbiosis.registry import gate
from symbiosis.registry.checks.check import Check
from symbiosis.registry.gate import Applied, Waiting
from symbiosis.registry.verdict import Judged, Standing, Verdict


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)


def meets(monkeypatch: pytest.MonkeyPatch, standing: Standing, warning: str | None = None) -> list[object]:
    """Let the command meet a verdict; return what it keeps and applies."""
    done: list[object] = []
    check = Check("utility", standing != "refused", 0.125, -0.5, 0.25, -0.01, "measured")
    verdict = Verdict("router", standing, (check,), "router version 2 (b) is so", Judged(2, "b"), None, "now")

    def judge(kind: Any, root: Path, params: Any, *, keep: bool) -> Verdict:
        done.append(("judged", kind, keep))
        return verdict

    def apply(given: Verdict, root: Path) -> Applied:
        done.append("applied")
        return Applied("promoted" if given.passed else given.standing, warning)  # type: ignore[arg-type]

    monkeypatch.setattr(gate, "judge", judge)
    monkeypatch.setattr(gate, "apply", apply)
    return done


def test_promoted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A table of the checks and one sentence; what could not be recorded is a note."""
    done = meets(monkeypatch, "passed", "the verdict is not in MLflow")
    assert main(["gate", "router"]) == 0
    printed = capsys.readouterr()
    header, row, blank, words = printed.out.splitlines()
    assert header.split() == ["check", "passed", "measured", "low", "high", "limit", "decides"]
    assert row.split() == ["utility", "yes", "0.125", "-0.5", "0.25", "-0.01", "yes"]
    assert (blank, words) == ("", "promoted: router version 2 (b) is so")
    assert printed.err == "note: the verdict is not in MLflow\n"
    assert done == [("judged", "router", True), "applied"]


def test_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with status 1, also where nothing is applied."""
    done = meets(monkeypatch, "refused")
    assert main(["gate", "router", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["standing"], told["outcome"], told["passed"]) == ("refused", "refused", False)
    assert told["checks"][0]["words"] == "measured"
    assert main(["gate", "router", "--dry-run", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["outcome"] == "refused"
    assert done == [("judged", "router", True), "applied", ("judged", "router", False)]


def test_waiting_and_wrong_usage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def waits(*_: object, **__: object) -> None:
        raise Waiting("the router's candidate waits to be judged: MLflow at x cannot be used")

    monkeypatch.setattr(gate, "judge", waits)
    assert main(["gate", "router"]) == 1
    assert capsys.readouterr().err == ("error: the router's candidate waits to be judged: MLflow at x cannot be used\n")
    assert main(["gate", "both"]) == 2
    assert "'both' is not one of" in capsys.readouterr().err
