"""The router's command line: every command, what it keeps, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import LLMS, write_router

from symbiosis.routing import __main__ as command
from symbiosis.routing.serving import workspace
from symbiosis.routing.serving.journal import FeedbackRecord, lines


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


@pytest.fixture
def say(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setattr(command, "ROUTER", trained)
    monkeypatch.setattr(workspace.QueryEncoder, "load", lambda *_: lambda text: np.eye(16)[len(text) % 3])
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = command.main(arguments)
        told = capsys.readouterr()
        return status, told.out + told.err

    return run


def test_a_query_is_routed_explained_and_learned_from(say: Any) -> None:
    status, told = say("route", "abc")
    assert status == 0
    first, *rows = told.splitlines()
    assert first.startswith("TradeOff: ")
    assert {row.split()[1 if row.startswith(">") else 0] for row in rows[1:5]} == set(LLMS.names)
    assert all(word in rows[0] for word in ("quality", "interval", "USD", "wait s", "score"))
    decision = rows[-1].split()[1]
    assert say("feedback", decision, "--quality", "1", "--tokens", "50") == (0, "learned\n")
    assert say("feedback", decision, "--quality", "1", "--tokens", "50")[1].startswith("known already")
    status, told = say("feedback", decision, "--satisfied", "no")
    assert (status, told.count("\n")) == (1, 1)
    assert "has other feedback already" in told
    _, told_of = (line.record for line in lines(".router/decisions.jsonl"))
    assert told_of == FeedbackRecord(decision, 1.0, 50.0, None)


def test_objectives_and_json(say: Any) -> None:
    llms = {}
    for flags in (["--trade-off", "0"], ["--trade-off", "1e6"], ["--floor", "0.99"], ["--budget", "1e-4"]):
        decision = json.loads(say("route", "abc", "--json", "--deadline", "20", *flags)[1])
        llms[flags[0] + flags[1]] = decision["llm"]
        assert [row["llm"] for row in decision["arms"]] == list(LLMS.names)
    assert llms["--trade-off0"] == "poor-cheap"
    assert llms["--trade-off1e6"] != "poor-cheap"


def test_llms_and_versions_come_and_go(say: Any) -> None:
    assert say("versions") == (0, "none yet\n")
    assert say("add", "new", "--price-prompt", "0.1", "--price-response", "0.2")[1].startswith("5 LLMs: ")
    assert say("remove", "dear-all")[1] == "4 LLMs: alge-mid, bio-mid, poor-cheap, new\n"
    assert [line.split()[0] for line in say("versions")[1].splitlines()] == ["1", "2"]
    assert say("versions")[1].endswith(", 2 lessons  (current)\n")
    assert say("rollback", "1")[1] == "version 3 is what version 1 was\n"
    assert say("remove", "new")[1] == "4 LLMs: alge-mid, bio-mid, dear-all, poor-cheap\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["route", " "], "the prompt is empty"),
        (["route", "abc", "--trade-off", "nan"], "--trade-off nan must be"),
        (["route", "abc", "--floor", "-1"], "--floor -1.0 must be"),
        (["route", "abc", "--budget", "0"], "--budget 0 buys nothing"),
        (["route", "abc", "--deadline", "0"], "--deadline 0.0 must be"),
        (["feedback", "nobody", "--quality", "1"], "'nobody' is unknown"),
        (["feedback", "nobody", "--quality", "nan"], "quality nan must lie in 0..1"),
        (["add", "new", "--price-prompt", "1"], "'new' has price_response None"),
        (["add", "bio-mid", "--price-prompt", "1", "--price-response", "1"], "there is an LLM 'bio-mid' already"),
        (["remove", "gpt"], "there is no LLM 'gpt'"),
        (["rollback", "7"], "holds no saved state"),
    ],
)
def test_bad_input_ends_in_one_line_and_changes_nothing(say: Any, arguments: list[str], message: str) -> None:
    status, told = say(*arguments)
    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith("error: ")
    assert message in told
    assert say("versions") == (0, "none yet\n")


def test_a_state_cut_in_half_names_the_version_before(say: Any) -> None:
    say("remove", "dear-all")
    say("remove", "poor-cheap")
    file = Path(".router/v00000002/service.json")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    status, told = say("route", "abc")
    assert (status, told.count("\n")) == (1, 1)
    assert "service.json is missing or damaged" in told
    assert "load version 1" in told
    assert say("rollback", "1") == (0, "version 3 is what version 1 was\n")
    assert say("route", "abc")[0] == 0


def test_no_router_yet(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROUTER", Path("models/router"))
    status, told = say("route", "abc")
    assert (status, told) == (1, "error: there is no trained router in models/router: run `make repro`\n")
