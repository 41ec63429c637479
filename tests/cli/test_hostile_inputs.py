"""Inputs that nobody means, through the command line: each is read as it is meant, or refused in one line."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recommender_world import write_recommender
from routing_world import write_router

from symbiosis.cli import router as command
from symbiosis.cli.app import main
from symbiosis.routing.serving.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
ONE_LINE = 400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("made")
    return write_router(folder / "router"), write_recommender(folder / "recommender")


@pytest.fixture
def say(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    router, recommender = made

    def workspace(state: Path) -> Workspace:
        return Workspace(state, router=router, encode=lambda text: np.eye(16)[len(text) % 3])

    monkeypatch.setattr(command, "_workspace", workspace)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        given = (
            [*arguments, "--data-folder", str(recommender)] if arguments[0] in ("recommend", "explain") else arguments
        )
        status = main(given)
        told = capsys.readouterr()
        return status, told.out + told.err

    return run


def decision(say: Any) -> str:
    identity: str = json.loads(say("route", "hello", "--json")[1])["id"]
    return identity


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--quality", "nan"], "quality nan must lie in 0..1"),
        (["--quality", "80"], "quality 80 must lie in 0..1: did you mean 0.8?"),
        (["--quality", "1", "--tokens", "nan"], "response_tokens nan must be a number from 0 to 10,000,000"),
        (["--quality", "1", "--tokens", "1e300"], "response_tokens 1e+300 must be a number from 0 to 10,000,000"),
        (["--satisfied", "x" * 50_000], "say yes or no"),
    ],
)
def test_feedback_that_is_none_is_refused_and_spoils_nothing(say: Any, arguments: list[str], told: str) -> None:
    """A length of 1e300 was once learned, and no later version could be saved."""
    identity = decision(say)
    status, said = say("feedback", identity, *arguments)
    assert status > 0
    assert said.count("\n") == 1
    assert told in said
    assert say("feedback", identity, "--quality", "1", "--tokens", "10000000") == (0, "learned\n")
    assert say("llms", "add", "new", "--price-prompt", "1", "--price-response", "2")[0] == 0


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--trade-off", "nan"),
        ("--trade-off", "1e999"),
        ("--floor", "inf"),
        ("--budget", "1e-320"),
        ("--budget", "nan"),
        ("--deadline", "1e-320"),
        ("--deadline", "nan"),
        ("--deadline", ""),
    ],
)
def test_numbers_that_nothing_can_be_reckoned_with(say: Any, option: str, value: str) -> None:
    status, told = say("route", "hello", option, value)
    assert status > 0
    assert told.count("\n") == 1
    assert option in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--price-prompt", "nan", "--price-response", "1"], "price_prompt nan"),
        (["--price-prompt", "1e300", "--price-response", "1"], "is it in another unit?"),
        (["--price-prompt", "1", "--price-response", "1", "--startup-s", "400000"], "is it in milliseconds?"),
        (["--price-prompt", "1", "--price-response", "1", "--tokens-per-s", "1e-300"], "give a rate from"),
    ],
)
def test_llms_that_cannot_be(say: Any, given: list[str], told: str) -> None:
    status, said = say("llms", "add", "new", *given)
    assert (status, said.count("\n")) == (1, 1)
    assert told in said


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--price-prompt", "0.0000001", "--price-response", "1"], "--price-prompt 1e-07 is in USD per million tokens"),
        (["--price-prompt", "1", "--price-response", "90000"], "--price-response 90000 is in USD per million tokens"),
        (["--price-prompt", "1", "--price-response", "1", "--startup-s", "400"], "is it in milliseconds?"),
        (["--price-prompt", "1", "--price-response", "2"], None),
        (["--price-prompt", "0", "--price-response", "0"], None),
    ],
)
def test_another_unit_is_asked_about(say: Any, given: list[str], told: str | None) -> None:
    status, said = say("llms", "add", "new", *given)
    assert status == 0
    assert ("note: " in said) == (told is not None)
    assert told is None or told in said


NEW = json.dumps({"item_id": "N1", "title": "blue garden rake"})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (NEW.encode(), "N1"),
        (b"\xef\xbb\xbf" + NEW.encode() + b"\r\n\r\n", "N1"),
        (NEW.encode("utf-16"), "N1"),
        (gzip.compress(NEW.encode(), mtime=0), "N1"),
        (NEW.replace("rake", "\\ud800rake").encode(), "N1"),
        (NEW.replace("}", ', "price": NaN}').encode(), "N1"),
        (NEW.replace('"N1"', "71").encode(), "71"),
        (NEW.replace("rake", "<|endoftext|> <user_3> <M6").encode(), "N1"),
        (b"", None),
        (NEW.replace("blue", "bl\xfce").encode("latin-1"), "line 1 is not valid JSON (not UTF-8)"),
        (NEW.replace("blue", "bl\0e").encode(), "line 1 is not valid JSON (a NUL character)"),
        (NEW.replace("}", ', "price": 1e999}').encode(), "`price` is inf"),
        (NEW.replace('"N1"', "true").encode(), "`item_id` is True"),
        (b'{"item_id": ' + b"[" * 100_000, "line 1 is nested too deeply"),
        (NEW[:-9].encode(), "line 1 is not valid JSON"),
    ],
    ids=range(15),
)
def test_new_items_are_read_as_any_text_file(say: Any, tmp_path: Path, content: bytes, told: str | None) -> None:
    (tmp_path / "new.jsonl").write_bytes(content)
    status, said = say("recommend", "--text", "blue garden rake", "--new-items", "new.jsonl", "--count", "9", "--json")
    if told is not None and " " in told:
        assert (status, said.count("\n")) == (1, 1)
        assert told in said
    else:
        assert status == 0, said
        assert (told in {item["item_id"] for item in json.loads(said)["items"]}) == (told is not None)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("stock.txt", b"\xef\xbb\xbfB1\r\n\r\n B2 \r\n", {"B1", "B2"}),
        ("stock.txt", "B1\nB2".encode("utf-16"), {"B1", "B2"}),
        ("stock.csv", "item_id\nB1\n \nB2\n".encode("utf-16"), {"B1", "B2"}),
        ("stock.csv", gzip.compress(b"item_id\nB1\nB2\n", mtime=0), {"B1", "B2"}),
        ("stock.csv", b"item_id\ncaf\xe9\n", "line 2 is not UTF-8"),
        ("stock.csv", b"item_id\nB1\0\n", "line 2 holds a NUL character"),
        ("stock.parquet", b"PAR1", "stock.parquet cannot be read"),
        ("stock.csv", None, "stock.csv is no file: name a file"),
    ],
)
def test_lists_of_ids_are_read_as_any_text_file(
    say: Any, tmp_path: Path, name: str, content: bytes | None, told: set[str] | str
) -> None:
    (tmp_path / name).mkdir() if content is None else (tmp_path / name).write_bytes(content)
    status, said = say("recommend", "--user", "Ben", "--allowed", name, "--repeat-purchases", "--json")
    if isinstance(told, str):
        assert (status, said.count("\n")) == (1, 1)
        assert told in said
    else:
        assert {item["item_id"] for item in json.loads(said)["items"]} == told


def test_a_long_list_of_ids_is_no_name_of_a_file(say: Any) -> None:
    status, said = say(
        "recommend", "--user", "Ben", "--allowed", ",".join(["B1"] * 5_000), "--repeat-purchases", "--json"
    )
    assert status == 0
    assert {item["item_id"] for item in json.loads(said)["items"]} == {"B1"}


@pytest.mark.parametrize("weight", ["nan", "1e300", "-1"])
def test_weights_stay_within_what_scores_can_hold(say: Any, weight: str) -> None:
    status, said = say("recommend", "--text", "garden", "--text-weight", weight)
    assert (status, said.count("\n")) == (1, 1)
    assert "must be a number from 0 to 1,000,000" in said


def test_nothing_is_written_over_a_folder(say: Any, tmp_path: Path) -> None:
    """An export once took the place of a folder, with all that was in it."""
    (tmp_path / "kept" / "deep").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    decision(say)
    for name in ("kept", "pipe"):
        assert say("decisions", "export", "--output", name) == (1, f"error: {name} is no file: name one\n")
    (tmp_path / "kept.parquet").symlink_to("kept")
    assert say("recommend", "--all", "--output", "kept.parquet")[0] == 1
    assert (tmp_path / "kept" / "deep").is_dir()


def test_a_store_that_is_not_there_is_not_made_by_looking(say: Any, tmp_path: Path) -> None:
    assert "gone.db is not there" in say("decisions", "show", "a", "--store", "sqlite:///gone.db")[1]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ["feedback", "9" * 50_000, "--quality", "1"],
        ["decisions", "show", "9" * 50_000, "--state", "."],
        ["recommend", "--user", "Ben", "--brand", "x" * 50_000],
        ["gateway", "keys", "new", "x" * 50_000],
        ["explain", "--user", "x" * 50_000, "--item", "B1"],
    ],
    ids=lambda given: " ".join(given[:2]),
)
def test_what_is_given_is_not_echoed_whole(say: Any, arguments: list[str]) -> None:
    said = say(*arguments)[1]
    assert "50,000 characters" in said
    assert len(said) < ONE_LINE


@pytest.mark.parametrize("name", ["null", "1", "yes", "1e5"])
def test_a_key_may_be_called_what_yaml_takes_for_no_text(say: Any, tmp_path: Path, name: str) -> None:
    entry = say("gateway", "keys", "new", name)[1].splitlines()[-1]
    (tmp_path / "gateway.yaml").write_text(f"keys: {{entries: [{entry.removeprefix('- ')}]}}")
    assert say("gateway", "--check")[0] == 0


@pytest.mark.parametrize("port", ["-1", "70000", "9" * 30])
def test_a_port_that_is_none(say: Any, port: str) -> None:
    for arguments in (
        ["upstreams", "simulate"],
        ["upstreams", "simulate", "--config"],
        ["upstreams", "local", "--config"],
    ):
        status, said = say(*arguments, "--port", port)
        assert (status, said.count("\n")) == (1, 1)
        assert "is no port: give a number from" in said


CONFIG = """
default: a
upstreams:
- name: u
  base_url: http://127.0.0.1:9/v1
  llms: [{name: a, price_prompt: %s, price_response: 1}]
%s
"""


@pytest.mark.parametrize(
    ("price", "more", "told"),
    [
        (1, "share: 80", "`share`: 80 is no share from 0 to 1: did you mean 0.8?"),
        (1, "policies: {p: {floor: 95}}", "`policies.p.floor`: 95 is no share from 0 to 1: did you mean 0.95?"),
        (1, "limits: {connect_s: 5000}", "`limits.connect_s`: 5000 seconds are 83 minutes; is it in milliseconds?"),
        (1, "policies: {p: {deadline_s: 2000}}", "`policies.p.deadline_s`: 2000 seconds"),
        (1e9, "", "less than or equal to 100000"),
    ],
)
def test_a_config_that_contradicts_itself(say: Any, tmp_path: Path, price: float, more: str, told: str) -> None:
    (tmp_path / "gateway.yaml").write_text(CONFIG % (price, more))
    assert told in say("gateway", "--check")[1]


@pytest.mark.parametrize("price", [0.0, 1e-6, 0.001])
def test_prices_that_the_router_knows_otherwise(made: tuple[Path, Path], price: float) -> None:
    from symbiosis.gateway.config.reading import unlike_trained
    from symbiosis.gateway.config.schema import GatewayConfig
    from symbiosis.routing.model.router import Router

    known = Router.load(made[0]).llms
    llm = {"name": known.names[0], "price_prompt": float(known.price_prompt[0]) * 1e6, "price_response": price}
    upstream = {"name": "u", "base_url": "http://127.0.0.1:9/v1", "llms": [llm]}
    config = GatewayConfig.model_validate({"default": llm["name"], "upstreams": [upstream]})
    assert [notice.split(": ")[2].split()[0] for notice in unlike_trained(config, known)] == ["price_response"]


@pytest.mark.parametrize(
    ("module", "given"),
    [
        ("typer", ["symbiosis", "params", "check"]),
        ("prefect", ["flows.nightly", "--help"]),
        ("polars", ["stages.clean"]),
    ],
)
def test_ctrl_c_leaves_no_traceback(module: str, given: list[str], tmp_path: Path) -> None:
    """Also while modules are imported, which the program's own handling comes too late for."""
    slow = tmp_path / "sitecustomize.py"
    slow.write_text(  # the interruption comes when the module is imported
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            sys.meta_path.remove(self)\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", *given], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) in [(-signal.SIGINT, ""), (130, "")]


def test_an_argument_in_a_locale_without_utf8() -> None:
    locale = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "symbiosis", "routing", "inspect", "café"],
        cwd=ROOT,
        env=os.environ | locale,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (1, 2)
    assert done.stderr.count(b"\n") == 1
    assert b"is not UTF-8" not in done.stderr
