"""`symbiosis decisions`: one decision with its explanation, all of them as JSON lines, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import LLMS, write_router

from symbiosis.cli.app import main
from symbiosis.routing.serving.records import CallEntry
from symbiosis.routing.serving.workspace import Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = main(["decisions", *arguments])
        told = capsys.readouterr()
        return status, told.out + told.err

    return run


@pytest.fixture
def ids(say: Any, trained: Path) -> list[str]:
    """Decisions in the present folder, the first with a call and feedback."""
    workspace = Workspace(router=trained, encode=lambda text: np.eye(16)[len(text) % 3])
    decisions = [workspace.route("a" * n) for n in range(1, 4)]
    first = decisions[0].id
    workspace.store.write([CallEntry(first, 0, "bio-mid", "here", 1.0, 503, error="busy"),
                           CallEntry(first, 1, "dear-all", "there", 2.0, 200, response_tokens=70.0)])  # fmt: skip
    workspace.feedback(first, quality=0.5)
    return [decision.id for decision in decisions]


def test_a_decision_is_shown_with_what_was_expected_called_and_told(say: Any, ids: list[str]) -> None:
    status, told = say("show", ids[0])
    assert status == 0
    lines = told.splitlines()
    assert lines[0] == f"id: {ids[0]}"
    expected = lines[lines.index("expected") + 2 : lines.index("calls") - 1]
    assert [line.split()[0] for line in expected] == list(LLMS.names)
    calls = lines[lines.index("calls") + 2 : lines.index("calls") + 4]
    assert [line.split()[:3] for line in calls] == [["0", "bio-mid", "here"], ["1", "dear-all", "there"]]
    assert lines[-1] == "feedback: quality 0.5, source user, lesson 1"
    document = json.loads(say("show", ids[1], "--json")[1])
    assert (document["id"], document["mode"], document["feedback"]) == (ids[1], "library", None)
    assert document["served"] == document["llm"] == document["details"]["llm"]
    assert len(document["text_sha256"]) == 64
    assert document["text"] is None


def test_the_export_holds_what_other_policies_are_judged_by(say: Any, ids: list[str]) -> None:
    assert say("export", "--output", "out/all.jsonl") == (0, "3 decisions in out/all.jsonl\n")
    told = [json.loads(line) for line in Path("out/all.jsonl").read_text().splitlines()]
    assert [line["id"] for line in told] == ids
    assert all(line["propensity"] > 0 and line["vector"].startswith("f4:") for line in told)
    assert told[0]["feedback"]["quality"] == 0.5
    status, later = say("export", "--output", "later.jsonl", "--since", "2999-01-01T00:00", "--json")
    assert (status, json.loads(later)) == (0, {"decisions": 0, "output": "later.jsonl"})
    assert say("export", "--output", "day.jsonl", "--since", "2020-01-01")[1].startswith("3 decisions")
    store = f"sqlite:///{Path('.router/store.db')}"
    assert say("export", "--output", "again.jsonl", "--store", store)[1].startswith("3 decisions")


def test_bad_input_is_told_in_a_line(say: Any, ids: list[str]) -> None:
    for arguments, message in (
        (["show", "nobody"], "there is no decision 'nobody' in "),
        (["show", "nobody", "--state", "nowhere"], "nowhere is not there"),
        (["show", "nobody", "--store", "nonsense"], "address of the store cannot be read"),
        (["export", "--output", "x.jsonl", "--since", "yesterday"], "--since 'yesterday': give a day or a time"),
    ):
        status, told = say(*arguments)
        assert (status, told.count("\n")) == (1, 1)
        assert message in told
    assert len(ids) == 3
    assert not Path("nowhere").exists()
    assert not Path("x.jsonl").exists()


def test_old_decisions_are_deleted_and_counted(say: Any, ids: list[str], trained: Path) -> None:
    assert say("prune")[1] == "deleted 0 decisions without feedback, 0 explanations and 0 pieces of feedback\n"
    assert json.loads(say("prune", "--days", "2", "--json")[1]) == {"decisions": 0, "explanations": 0, "lessons": 0}
    status, told = say("prune", "--state", "nowhere")
    assert (status, told) == (1, "error: nowhere is not there: nothing has been routed yet\n")
    assert say("prune", "--lessons", "3")[0] == 2
