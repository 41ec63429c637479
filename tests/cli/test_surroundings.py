"""Where commands run and what they are given: encodings, closed outputs, odd names, folders that cannot be written."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import write_router

from symbiosis.cli import output
from symbiosis.cli import router as command
from symbiosis.cli.app import main
from symbiosis.core.errors import InputError, printable, quoted, require_name
from symbiosis.core.text_files import decoded
from symbiosis.routing.serving.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]


def child(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "symbiosis", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False, **options)


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


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_output_that_cannot_be_encoded_is_escaped(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    output.say("é 漢", {"name": "é 漢 😀"}, as_json=False)
    output.say("", {"name": "é 漢 😀"}, as_json=True)
    text, document = written.getvalue().decode(encoding).splitlines()
    assert json.loads(document) == {"name": "é 漢 😀"}
    assert text == {"ascii": "\\xe9 \\u6f22", "latin-1": "é \\u6f22", "utf-8": "é 漢"}[encoding]


def test_an_error_in_an_ascii_terminal_is_one_line() -> None:
    done = child("params", "check", "漢", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"\\u6f22" in done.stderr


def test_an_argument_that_is_not_utf8_is_refused() -> None:
    done = child(*map(os.fsdecode, (b"route", b"caf\xe9")))
    assert done.returncode == 1
    assert b"is not UTF-8: convert it" in done.stderr


def test_a_full_disk_behind_the_output_is_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "symbiosis", "params", "check"]
        done = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (1, b"error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xef\xbb\xbfabc", "abc"),
        ("abc é".encode("utf-16"), "abc é"),
        (b"caf\xe9", "line 1 is not UTF-8"),
        (b"a\nb\0", "line 2 holds a NUL character"),
    ],
)
def test_standard_input_is_read_as_a_file_is(content: bytes, told: str) -> None:
    if told.startswith("line"):
        with pytest.raises(InputError, match=f"standard input: {told}"):
            decoded(content, "standard input")
    else:
        assert decoded(content, "standard input") == told


def test_lines_end_at_line_ends_alone(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = "a\x0bb\x0cc\u2028d\r\nzwei\n\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    status, told = say("route", "--lines")
    assert (status, told.count("\n")) == (0, 2)


def test_special_tokens_in_a_prompt_are_text(say: Any) -> None:
    assert say("route", "<|endoftext|> <|im_start|>system [SEP] <user_3> ignore")[0] == 0


@pytest.mark.parametrize("name", ["", "  ", " a", "a\nb", "a\u2028b", "\x1b[31m", "x" * 201, "\ud800"])
def test_names_that_nothing_can_show_are_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of an LLM") as caught:
        require_name(name, "an LLM")
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["模型", "a/b:c", "../../x", "<script>", 'it\'s "q"', "[bold]", "gpt-4o mini", "😀"])
def test_names_of_any_alphabet_are_shown_as_they_are(say: Any, name: str) -> None:
    assert say("llms", "add", name, "--price-prompt", "1", "--price-response", "2")[0] == 0
    assert say("llms", "list")[1].splitlines()[-1].startswith(f"{name} ")
    assert json.loads(say("llms", "list", "--json")[1])["llms"][-1]["llm"] == name
    assert say("llms", "remove", name)[0] == 0


def test_what_is_shown_does_nothing_to_a_terminal() -> None:
    assert printable("a\x1b[31m\u202eb\ud800 漢é") == "a\\x1b[31m\\u202eb\\ud800 漢é"
    assert len(quoted("x" * 100_000)) < 150


def test_a_long_id_is_not_echoed_whole(say: Any) -> None:
    status, told = say("feedback", "9" * 50_000, "--quality", "1")
    assert status == 1
    assert len(told) < 400


def test_a_floor_in_percent_is_told(say: Any) -> None:
    assert say("route", "abc", "--floor", "80") == (
        1,
        "error: --floor 80 must be a share from 0 to 1: did you mean 0.8?\n",
    )


def test_a_state_that_is_a_file_is_one_line(say: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for arguments in (["route", "abc"], ["feedback", "a", "--quality", "1"], ["adopt"]):
        status, told = say(*arguments, "--state", "file")
        assert (status, told.count("\n")) == (1, 1)
        assert "file cannot be written to (File exists): name another folder" in told
    assert (tmp_path / "file").read_text() == "x"


def test_a_state_that_cannot_be_written_can_be_read(say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    say("llms", "add", "newcomer", "--price-prompt", "1", "--price-response", "2")
    really = Path.open

    def opened(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if self.name == ".lock":
            raise PermissionError(13, "Permission denied", str(self))
        return really(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    assert say("llms", "list")[1].splitlines()[-1].startswith("newcomer ")
    assert say("versions")[0] == 0
    assert say("route", "abc") == (
        1,
        "error: .router cannot be written to (Permission denied): name another folder for the state, as by --state\n",
    )
