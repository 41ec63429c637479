"""The command as a whole: help, how it ends, and the small sub-commands."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from symbiosis.cli import recommender
from symbiosis.cli.app import main
from symbiosis.cli.output import table
from symbiosis.core.artifacts import write_json
from symbiosis.params import BLOCKS
from symbiosis.recommender.inference.asking import Recommendations

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("recommend", "explain", "route", "feedback", "versions", "rollback", "adopt", "results", "llms", "params")


def child(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, **options)


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from symbiosis.cli.app import main; status = main(['--help']); "
        "heavy = {'torch', 'polars', 'pydantic', 'numpy', 'rich', 'scipy'} & set(sys.modules); "
        "sys.exit(f'{status} {sorted(heavy)}')"
    )
    done = child("-c", code)
    assert done.stderr == "0 []\n"
    assert all(f"\n  {command} " in done.stdout for command in COMMANDS)
    assert "USD per million" in done.stdout


def test_help_is_quick() -> None:
    """In CPU time, which hardly depends on what else the machine does."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child("-m", "symbiosis", "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["llms", "add"], ["params", "check"]])
def test_every_command_has_a_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: symbiosis {' '.join(command)} ")
    assert command[0] in ("llms", "params") or "--json" in told


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("Usage: symbiosis ")


def test_a_command_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recomend"]) == 2
    assert capsys.readouterr().err.startswith("error: No such command 'recomend'")


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, ""),
        (FileNotFoundError(2, "No such file", "items.txt"), 1, "error: [Errno 2] No such file: 'items.txt'\n"),
        (ZeroDivisionError("of\nnothing"), 1, "error: ZeroDivisionError: of nothing (a fault of this program: "),
    ],
)
def test_no_traceback(
    error: BaseException,
    status: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.delenv("SYMBIOSIS_TRACEBACK", raising=False)
    monkeypatch.setattr("symbiosis.params.validate", fail)
    monkeypatch.chdir(ROOT)
    assert main(["params", "check"]) == status
    shown = capsys.readouterr().err
    assert shown.startswith(told)
    assert shown.count("\n") == (1 if told else 0)


def test_an_interrupted_command_says_nothing() -> None:
    code = (
        "import sys, signal; import symbiosis.cli.app as cli; import symbiosis.params; "
        "symbiosis.params.validate = lambda document: signal.raise_signal(signal.SIGINT); "
        "sys.exit(cli.main(['params', 'check']))"
    )
    done = child("-c", code)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_reader_that_goes_early_is_no_error() -> None:
    command = [sys.executable, "-m", "symbiosis", "params", "check", "--json"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 1


def test_params_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["params", "check"]) == 0
    assert capsys.readouterr().out == f"params.yaml is right: {len(BLOCKS)} blocks\n"
    assert main(["params", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"file": "params.yaml", "blocks": list(BLOCKS)}
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("unheard: {of: 1}\n")
    assert main(["params", "check"]) == 1
    assert capsys.readouterr().err.startswith("error: params.yaml: unknown block `unheard`")


def test_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["results"]) == 1
    assert capsys.readouterr().err == "error: no results in reports yet: run `make repro`\n"
    metric = {"mean": 0.5, "low": 0.25, "high": 0.75}
    method = dict.fromkeys(("recall@20", "recall@40", "ndcg@100"), metric)
    data = {"users": 7, "items": 5, "training interactions": 1000}
    Path("reports").mkdir()
    write_json(Path("reports/recommender.json"), {"recommender": method, "baselines": {}, "data": data})
    assert main(["results"]) == 0
    assert "0.5000 [0.2500, 0.7500]" in capsys.readouterr().out
    assert main(["results", "--json"]) == 0
    (reported,) = json.loads(capsys.readouterr().out)["tables"]
    assert reported["page"] == "reports/recommender.html"
    (row,) = reported["rows"]
    assert row[1:] == ["0.5000 [0.2500, 0.7500]"] * 3


def test_a_table_keeps_long_titles_and_brackets() -> None:
    title = "[bold]Lamp " + "x" * 300
    lines = table([{"rank": 1, "score": 0.5, "title": "a"}, {"rank": 12, "score": -0.25, "title": title}]).splitlines()
    assert lines[0].split() == ["rank", "score", "title"]
    assert lines[1] == "   1   0.500  a"
    assert lines[2] == f"  12  -0.250  {title}"


def test_a_user_who_took_everything(capsys: pytest.CaptureFixture[str]) -> None:
    recommender.show(Recommendations((), "model"), {}, as_json=False)
    assert capsys.readouterr().out == "no item is left\n"
    recommender.show(Recommendations((), "model"), {}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"items": [], "method": "model", "note": None, "model": ""}
