"""How processes begin, what killed ones leave behind, and how stages end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from symbiosis.core import stage
from symbiosis.core.artifacts import remove_left, staged
from symbiosis.core.errors import InputError
from symbiosis.core.params import StageParams
from symbiosis.core.processes import spare_loopback

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("variable", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_loopback_is_never_asked_of_a_proxy(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.request import proxy_bypass

    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "example.org")
    spare_loopback()
    assert os.environ["no_proxy"] == "example.org"
    monkeypatch.setenv(variable, "http://192.0.2.1:3128")
    spare_loopback()
    spare_loopback()
    assert os.environ["NO_PROXY"] == "example.org,127.0.0.1,localhost,::1"
    assert proxy_bypass("127.0.0.1:5000")
    assert not proxy_bypass("example.com")


def test_what_a_killed_process_has_left_goes_with_the_next_write(tmp_path: Path) -> None:
    code = (
        "import os, signal; from symbiosis.core.artifacts import remove_left, staged\n"
        "with staged('out/table') as (folder,):\n"
        "    folder.mkdir(); (folder / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "out").iterdir()
    with staged(tmp_path / "out/table") as (path,):
        assert not left.exists()
        with staged(tmp_path / "out/table") as (other,):  # a living process keeps its folder
            assert path.parent.exists()
            other.write_text("other")
        path.write_text("whole")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["table"]
    assert (tmp_path / "out/table").read_text() == "whole"


def test_what_stays_of_targets_that_nobody_writes_again(tmp_path: Path) -> None:
    (tmp_path / ".one.abc_1234").mkdir()
    (tmp_path / ".two.abc_1234/two").mkdir(parents=True)
    (tmp_path / ".config").mkdir()
    with staged(tmp_path / "three") as (path,):
        path.touch()
        remove_left(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".config", "three"]
    remove_left(tmp_path / "nowhere")


def test_a_target_below_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    def write() -> None:
        with staged(tmp_path / "file" / "table"):
            pass

    with pytest.raises(InputError, match="cannot be written .*a file stands where a folder must be"):
        write()


class Empty(StageParams):
    pass


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, ""),
        (PermissionError(13, "Permission denied", "data"), 1, "error: [Errno 13] Permission denied: 'data'\n"),
        (MemoryError("Unable to allocate 9 GiB"), 1, "error: not enough memory (Unable to allocate 9 GiB): "),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "error: not enough memory ("),
        (ImportError("x.so: failed to map segment from shared object"), 1, "error: not enough memory (x.so: failed"),
        (InputError("a\nb\x1b[1m"), 1, "error: a b\\x1b[1m\n"),
    ],
)
def test_a_stage_ends_in_one_line(
    error: BaseException, status: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: StageParams) -> None:
        raise error

    monkeypatch.setattr(stage, "die_with_parent", lambda: None)
    monkeypatch.setattr(stage, "read_document", lambda: {})
    monkeypatch.setattr(stage, "validate_block", lambda *_: Empty())
    monkeypatch.setattr("symbiosis.params.validate", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        stage.run("empty", Empty, fail)
    assert ended.value.code == status
    shown = capsys.readouterr().err
    assert shown.startswith(told)
    assert shown.count("\n") == (1 if told else 0)


def test_lack_of_memory_at_an_import_is_one_line(tmp_path: Path) -> None:
    """Nothing can catch it there, and scipy calls itself broken then."""
    package = tmp_path / "broken"
    package.mkdir()
    (package / "__init__.py").write_text(
        "try:\n"
        "    raise ImportError('_x.so: failed to map segment from shared object')\n"
        "except ImportError as error:\n"
        "    raise ImportError('the install seems to be broken') from error\n"
    )
    code = "import sys, stages; sys.path.insert(0, sys.argv[1]); import broken"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: not enough memory (the install seems to be broken): ")
    assert done.stderr.count("\n") == 1
    (package / "__init__.py").write_text("raise ImportError('no module of that name')")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "Traceback" in done.stderr
