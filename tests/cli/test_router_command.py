"""The router's command line: every command, what it keeps, and bad input."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import LLMS, write_router

from symbiosis.cli import router as command
from symbiosis.cli.app import main
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.workspace import Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


@pytest.fixture
def say(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def workspace(state: Path) -> Workspace:
        return Workspace(state, router=trained, encode=lambda text: np.eye(16)[len(text) % 3])

    monkeypatch.setattr(command, "_workspace", workspace)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        status = main(arguments)
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
    with Store.in_file(".router/store.db") as store:
        (kept,) = store.latest(2)
    assert kept.entry.record.decision == decision
    assert kept.feedback is not None
    assert kept.feedback.told == Feedback(1.0, 50.0)


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
    assert say("llms", "add", "new", "--price-prompt", "0.1", "--price-response", "0.2")[1].startswith("5 LLMs: ")
    assert say("llms", "remove", "dear-all")[1] == "4 LLMs: alge-mid, bio-mid, poor-cheap, new\n"
    header, first, second = (line.split() for line in say("versions")[1].splitlines())
    assert header == ["version", "lessons", "router", "current"]
    assert (first[:2], second[:2]) == (["1", "1"], ["2", "2"])
    assert (first[3:], second[3:]) == ([], ["*"])
    assert say("rollback", "1")[1] == "version 3 is what version 1 was\n"
    assert say("llms", "remove", "new")[1] == "4 LLMs: alge-mid, bio-mid, dear-all, poor-cheap\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["route", " "], "the prompt is empty"),
        (["route", "abc", "--trade-off", "nan"], "--trade-off nan must be"),
        (["route", "abc", "--floor", "-1"], "--floor -1.0 must be"),
        (["route", "abc", "--budget", "0"], "--budget 0 buys nothing"),
        (["route", "abc", "--deadline", "0"], "--deadline 0 must be"),
        (["feedback", "nobody", "--quality", "1"], "'nobody' is unknown"),
        (["feedback", "nobody", "--quality", "nan"], "quality nan must lie in 0..1"),
        (["llms", "add", "new", "--price-prompt", "1"], "'new' has price_response None"),
        (
            ["llms", "add", "bio-mid", "--price-prompt", "1", "--price-response", "1"],
            "there is an LLM 'bio-mid' already",
        ),
        (["llms", "remove", "gpt"], "there is no LLM 'gpt'"),
        (["rollback", "7"], "holds no saved state"),
    ],
)
def test_bad_input_ends_in_one_line_and_changes_nothing(say: Any, arguments: list[str], message: str) -> None:
    status, told = say(*arguments)
    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith("error: ")
    assert message in told
    assert say("versions") == (0, "none yet\n")


def test_a_state_cut_in_half_gives_way_to_the_version_before(say: Any) -> None:
    say("llms", "remove", "dear-all")
    say("llms", "remove", "poor-cheap")
    file = Path(".router/v00000002/service.json")
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    status, told = say("route", "abc")
    assert status == 0
    assert "note: version 2 in .router is damaged: version 1 goes on as version 3" in told
    assert "note: " not in say("route", "abc")[1]
    assert say("rollback", "1") == (0, "version 4 is what version 1 was\n")


def test_no_router_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["route", "abc"]) == 1
    assert capsys.readouterr().err == "error: there is no trained router in models/router: run `make repro`\n"


def test_one_object_has_what_a_program_needs(say: Any) -> None:
    decision = json.loads(say("route", "abc", "--json", "--trade-off", "2")[1])
    assert decision.keys() >= {"id", "llm", "objective", "trade_off", "arms"}
    assert (decision["objective"], decision["trade_off"]) == ("TradeOff", 2)
    for arm in decision["arms"]:
        assert arm.keys() >= {"llm", "quality", "quality_low", "quality_high", "cost_usd", "wait_s", "score"}
        assert arm["quality_low"] <= arm["quality"] <= arm["quality_high"]
    assert decision["llm"] == max(decision["arms"], key=lambda arm: arm["score"])["llm"]


def test_prompts_from_standard_input(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(text: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return say("route", *arguments)

    texts = ["a", "bb", "ccc", "dd"]
    alone = [json.loads(say("route", text, "--json")[1]) for text in texts]
    assert json.loads(piped("bb", "-", "--json")[1])["llm"] == alone[1]["llm"]
    for arguments in (["--lines"], ["--lines", "-"]):
        status, told = piped("\n".join(texts) + "\n", *arguments)
        together = [json.loads(line) for line in told.splitlines()]
        assert status == 0
        assert [row["llm"] for row in together] == [row["llm"] for row in alone]
        for row, other in zip(together, alone, strict=True):
            assert row["arms"] == other["arms"]
        assert len({row["id"] for row in together}) == len(texts)
    assert say("feedback", together[2]["id"], "--quality", "1")[0] == 0
    assert piped("a\n \nb", "--lines") == (1, "error: standard input, line 2: the prompt is empty\n")
    assert piped("", "--lines") == (1, "error: standard input is empty: give one prompt a line\n")
    assert piped("", "-") == (1, "error: the prompt is empty: give a text, or - to read it from standard input\n")


def test_every_command_speaks_json(say: Any) -> None:
    added = say("llms", "add", "new", "--price-prompt", "0.1", "--price-response", "0.2", "--json")[1]
    assert json.loads(added) == {"llms": [*LLMS.names, "new"]}
    listed = json.loads(say("llms", "list", "--json")[1])["llms"]
    prices = {"price_prompt": 0.1, "price_response": 0.2, "startup_s": 0.5, "tokens_per_s": 60}
    assert listed[-1] == {"llm": "new"} | prices
    assert say("llms", "list")[1].splitlines()[-1].split()[0] == "new"
    decision = json.loads(say("route", "abc", "--json")[1])["id"]
    told = json.loads(say("feedback", decision, "--satisfied", "yes", "--json")[1])
    assert told == {"decision": decision, "learned": True}
    found = json.loads(say("versions", "--json")[1])["versions"]
    assert [(row["version"], row["lessons"], row["current"]) for row in found] == [(1, 1, False), (2, 2, True)]
    assert json.loads(say("rollback", "1", "--json")[1]) == {"version": 3, "was": 1}
    assert json.loads(say("llms", "remove", "new", "--json")[1]) == {"llms": list(LLMS.names)}
    assert json.loads(say("adopt", "--json")[1]) == {"version": 5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["route"], "give the prompt as TEXT"),
        (["route", "abc", "--lines"], "--lines reads the prompts from standard input"),
        (["route", "abc", "--floor", "0.5", "--budget", "1"], "give one of --floor, --budget"),
        (["route", "abc", "--trade-off", "much"], "Invalid value for '--trade-off'"),
        (["feedback", "1"], "give either --quality or --satisfied"),
        (["feedback", "1", "--quality", "1", "--satisfied", "yes"], "give either --quality or --satisfied"),
        (["feedback", "1", "--satisfied", "maybe"], "say yes or no"),
        (["rollback"], "Missing argument 'N'"),
    ],
)
def test_wrong_usage_ends_in_one_line_too(say: Any, arguments: list[str], message: str) -> None:
    status, told = say(*arguments)
    assert (status, told.count("\n")) == (2, 1)
    assert told.startswith("error: ")
    assert message in told
