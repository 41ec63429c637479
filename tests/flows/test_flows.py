"""Flows: the graph, overrides, one stage through DVC, and the ownership of its processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import yaml
from conftest import PARAMS, ROOT, command
from hypothesis import given
from hypothesis import strategies as st

from flows.dag import select, stage_graph
from flows.overrides import override, parse
from flows.repro import StageError, StageResult, reproduce
from flows.workspace import one_writer, top
from symbiosis.core.errors import InputError


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process still runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


# ------------------------------------------------------------------ graph


def test_graph(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matrix stages are resolved; every stage comes after what it needs; the names are the same in every folder."""
    graph = stage_graph(stub)
    assert graph == {
        "download": (),
        "baseline@a": ("download",),
        "baseline@b": ("download",),
        "train": ("download",),
        "evaluate": ("baseline@a", "baseline@b", "train"),
        "router": (),
    }
    assert list(graph) == ["download", "baseline@a", "baseline@b", "train", "evaluate", "router"]
    (stub / "data").mkdir()
    monkeypatch.chdir(stub / "data")
    assert stage_graph(stub) == graph
    assert list(select(graph, [])) == list(graph)
    assert list(select(graph, ["router"])) == ["router"]
    assert list(select(graph, ["train"])) == ["download", "train"]
    assert list(select(graph, ["baseline", "router"])) == ["download", "baseline@a", "baseline@b", "router"]


def test_graph_refusals(stub: Path, tmp_path: Path) -> None:
    """Unknown stages, broken pipelines and other folders are told in one message."""
    with pytest.raises(InputError, match="unknown stage `trian`; the stages are download, baseline@a"):
        select(stage_graph(stub), ["trian"])
    (stub / "dvc.yaml").write_text("stages: {a: {cmd: x, outs: [o]}, b: {cmd: x, outs: [o]}}")
    with pytest.raises(InputError, match="DVC cannot read the pipeline"):
        stage_graph(stub)
    (stub / "dvc.yaml").write_text("stages: {}")
    with pytest.raises(InputError, match="no stages"):
        stage_graph(stub)
    assert top(stub / "models") == stub
    with pytest.raises(InputError, match=r"no dvc\.yaml in"):
        top(tmp_path)


# ------------------------------------------------------------------ overrides


def test_override_keeps_comments(tmp_path: Path) -> None:
    """Only the value changes: every other line of params.yaml stays as it is."""
    file = tmp_path / "params.yaml"
    before = (ROOT / "params.yaml").read_text()
    file.write_text(before)
    old = yaml.safe_load(before)["finetune"]["learning_rate"]
    assert override(file, {"finetune.learning_rate": 1e-5}) == {"finetune.learning_rate": (old, 1e-5)}
    changed = [(a, b) for a, b in zip(before.splitlines(), file.read_text().splitlines(), strict=True) if a != b]
    assert len(changed) == 1
    assert changed[0][1].startswith("  learning_rate: 1.0e-05")
    assert yaml.safe_load(file.read_text())["finetune"]["learning_rate"] == 1e-5
    assert override(file, {"finetune.learning_rate": old}) == {"finetune.learning_rate": (1e-5, old)}
    assert override(file, {"finetune.learning_rate": old}) == {}
    assert yaml.safe_load(file.read_text()) == yaml.safe_load(before)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("finetune.lr", 1, "unknown key `finetune.lr`; `finetune` holds seed"),
        ("nope.x", 1, "unknown key `nope.x`; the file holds download"),
        ("clean.core.x", 1, "unknown key `clean.core.x`; `clean.core` has no keys below it"),
        ("clean.core", "many", "`clean.core`: Input should be a valid integer"),
        ("clean.core", 0, "`clean.core`: Input should be greater than or equal to"),
        ("", 1, "unknown key ``"),
    ],
)
def test_override_refusals(key: str, value: object, message: str, tmp_path: Path) -> None:
    """A bad override changes nothing, a good one beside it included."""
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    with pytest.raises(InputError) as refused:
        override(file, {"clean.seed": 1, key: value})
    assert message in str(refused.value)
    assert file.read_text() == (ROOT / "params.yaml").read_text()
    assert list(tmp_path.iterdir()) == [file]


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_any_number_survives(tmp_path_factory: pytest.TempPathFactory, value: float) -> None:
    """A number is read back as that number, by YAML 1.1 readers too."""
    file = tmp_path_factory.getbasetemp() / "number.yaml"
    file.write_text("a: {b: 0.5}  # kept\n")
    override(file, {"a.b": value}, check=lambda _: None)
    assert yaml.safe_load(file.read_text()) == {"a": {"b": value}}


def test_parse() -> None:
    """Arguments of the command line are typed as YAML, 1e-4 as a number."""
    assert parse(["a=1", "b.c=1e-4", "d=x y", "e=[1, b]", "f=null", "g=true", "h="]) == {
        "a": 1,
        "b.c": 1e-4,
        "d": "x y",
        "e": [1, "b"],
        "f": None,
        "g": True,
        "h": None,
    }
    with pytest.raises(InputError, match="`a` is not KEY=VALUE"):
        parse(["a"])


# ------------------------------------------------------------------ one stage


def test_outcomes(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged, ran, restored and forced are told apart; the log comes line by line."""
    log: list[str] = []

    def outcome(stage: str, **options: bool) -> str:
        log.clear()
        done = reproduce(stage, stub_run, log.append, **options)
        assert isinstance(done, StageResult)
        assert done.seconds > 0
        return done.outcome

    assert outcome("train") == "unchanged"
    assert log == ["Stage 'train' didn't change, skipping"]
    override(stub_run / "params.yaml", {"finetune.learning_rate": 0.2})
    monkeypatch.setenv("BEHAVE_train", "bar")
    assert outcome("train") == "ran"
    assert log == ["Running stage 'train':", "> exec python work.py train", "train begins", "49/50",
                   "Updating lock file 'dvc.lock'"]  # fmt: skip
    override(stub_run / "params.yaml", {"finetune.learning_rate": PARAMS["finetune.learning_rate"]})
    assert outcome("train") == "restored"
    assert (stub_run / "models/train/model.txt").read_text() == "0.1"
    (stub_run / "reports/curves/train.csv").unlink()
    assert outcome("train") == "restored"
    assert outcome("train") == "unchanged"
    assert outcome("train", force=True) == "ran"
    assert outcome("baseline@a") == "unchanged"


@pytest.mark.parametrize(
    ("stage", "behaviour", "retryable", "last"),
    [
        ("download", "crash", True, "OSError: connection reset"),
        ("download", "bad input", False, "error: data/raw: no rows; fetch it again"),
        ("train", "crash", False, "OSError: connection reset"),
        ("nonsense", "", False, "ERROR: Stage 'nonsense' not found"),
    ],
)
def test_failures(
    stage: str, behaviour: str, retryable: bool, last: str, stub_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error carries the last lines; only a download that broke off is worth another try."""
    monkeypatch.setenv(f"BEHAVE_{stage}", behaviour)
    with pytest.raises(StageError) as failed:
        reproduce(stage, stub_run, lambda _: None, force=True)
    assert last in str(failed.value)
    assert failed.value.retryable is retryable


def test_busy_workspace_is_retryable(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that another process works on is worth another try."""
    monkeypatch.setenv("BEHAVE_train", "sleep")
    with subprocess.Popen(["dvc", "repro", "-q", "-f", "-s", "train"], start_new_session=True) as other:
        try:
            until((stub_run / "child.pid").is_file)
            with pytest.raises(StageError) as failed:
                reproduce("train", stub_run, lambda _: None, force=True)
        finally:
            os.killpg(other.pid, signal.SIGTERM)
    assert "blocked by" in str(failed.value)
    assert failed.value.retryable


# ------------------------------------------------------------------ processes


def test_interruption_ends_the_whole_group(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in the caller, here while it logs, ends DVC and the stage before it goes on its way."""
    monkeypatch.setenv("BEHAVE_train", "sleep")

    def interrupt(line: str) -> None:
        if line == "train begins":
            until((stub_run / "child.pid").is_file)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce("train", stub_run, interrupt, force=True)
    assert not alive(int((stub_run / "child.pid").read_text()))


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_stage_ends_with_dvc(shell: str, number: int, stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage ends even if only `dvc repro` is killed, whichever shell DVC uses."""
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")
    monkeypatch.setenv("BEHAVE_train", "sleep")
    monkeypatch.setenv("SHELL", shell)
    with subprocess.Popen(["dvc", "repro", "-q", "-f", "-s", "train"], start_new_session=True) as dvc:
        until((stub_run / "child.pid").is_file)
        child = int((stub_run / "child.pid").read_text())
        dvc.send_signal(number)
    until(lambda: not alive(child))


def test_everything_ends_with_a_killed_caller(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that is killed outright, with no chance to clean up, takes DVC and the stage along."""
    monkeypatch.setenv("BEHAVE_train", "sleep")
    code = "from pathlib import Path; from flows.repro import reproduce; reproduce('train', Path(), print, force=True)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as caller:
        until((stub_run / "child.pid").is_file)
        child = psutil.Process(int((stub_run / "child.pid").read_text()))
        dvc = child.parent()
        assert dvc is not None
        caller.kill()
    until(lambda: not alive(child.pid) and not alive(dvc.pid))


def test_one_writer(stub: Path) -> None:
    """A second writer waits for the first and is told whom it waits for."""
    told: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with one_writer(stub, told.append):
            entered.set()

    with one_writer(stub, told.append):
        thread = threading.Thread(target=second)
        thread.start()
        until(lambda: told)
        assert not entered.is_set()
    thread.join()
    assert entered.is_set()
    assert told == [f"waiting for another flow run in this workspace (process {os.getpid()})"]


def test_command_line(stub: Path) -> None:
    """Bad arguments are answered before a Prefect server is even started."""
    module = [sys.executable, "-m", "flows.pipeline"]
    assert "one task per DVC stage" in command(stub, *module, "--help")
    for arguments, message in (
        (["trian"], "error: unknown stage `trian`"),
        (["-S", "finetune.lr=1"], "error: params.yaml: unknown key `finetune.lr`"),
    ):
        done = subprocess.run([*module, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(message)
        assert done.stderr.count("\n") == 1


# ------------------------------------------------------------------ interruptions

DEAF = """
import signal, subprocess, time
from flows import states
from flows.workspace import command

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it
states.PATIENCE_S = 0.2

def run():
    child = subprocess.Popen(["sleep", "120"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while True:
        try:
            print(child.pid, flush=True)
            time.sleep(120)
        except KeyboardInterrupt:
            pass

with command():
    states.result_of(run, "", None)
"""


def test_an_interrupted_flow_that_does_not_end_is_ended() -> None:
    """Such as one that waits for a server that is gone; nothing that it started is left."""
    process = subprocess.Popen([sys.executable, "-c", DEAF], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        started = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == b"interrupted\n"
    assert process.returncode == 130
    until(lambda: not alive(started))
