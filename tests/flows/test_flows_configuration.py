"""Named configurations: repeated in a work tree, traced to a commit, without touching the workspace."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, command

from flows.configuration import overlay, read, repeat
from flows.overrides import override
from symbiosis.core.errors import InputError

CONFIGURATION = """\
data: {data/local/rows: sets/rows}
targets: [evaluate]
params:
  finetune: {learning_rate: 0.2}
"""


@pytest.fixture
def configured(stub_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Path:
    """The small pipeline with one configuration and its data."""
    (stub_run / "configs").mkdir()
    (stub_run / "configs/faster.yaml").write_text(CONFIGURATION)
    with (stub_run / ".gitignore").open("a") as ignored:
        ignored.write("/.runs\n")
    command(stub_run, "git", "add", "-A")
    command(stub_run, "git", "commit", "-q", "-m", "configuration")
    (tmp_path / "sets/rows").mkdir(parents=True)
    monkeypatch.setenv("SYMBIOSIS_DATA_DIR", str(tmp_path))
    return stub_run


def test_repeat(configured: Path, tmp_path: Path) -> None:
    """It runs its branch with its params on its data, leaves the workspace as it was, and collects the results."""
    before = {path: path.read_bytes() for path in configured.rglob("reports/*.json")}
    folder = repeat("faster", configured)
    assert folder == configured / "reports/real/faster"
    assert {path.name for path in folder.iterdir()} == {"README.md", "params.yaml", "recommender.json", "page.html"}
    assert yaml.safe_load((folder / "params.yaml").read_text())["finetune"]["learning_rate"] == 0.2
    table = (folder / "README.md").read_text()
    assert "| GPT-2 + graph | 0.2000 [0.0000, 1.0000]" in table
    commit = command(configured, "git", "rev-parse", "HEAD").strip()
    assert f"Commit {commit}; params: [params.yaml](params.yaml)." in table
    assert str(tmp_path) not in table

    assert (configured / ".runs/faster/data/local/rows").resolve() == tmp_path / "sets/rows"
    assert {path: path.read_bytes() for path in before} == before
    assert command(configured, "git", "status", "--porcelain", "-uno") == ""
    assert command(configured, "dvc", "status") == "Data and pipelines are up to date.\n"
    assert not (configured / ".runs/faster/.dvc/cache").exists()

    printed = command(configured, sys.executable, "-m", "flows.configuration", "faster")
    assert "Running stage" not in printed
    assert "no new runs" in printed


def test_changes_are_traced(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed files are refused, or run as they are and told; results and reports are no changes."""
    monkeypatch.setenv("SYMBIOSIS_TRACKING", "off")  # which takes longer than the stages
    (configured / "work.py").write_text((configured / "work.py").read_text() + "# changed\n")
    with pytest.raises(InputError, match=r"tracked files differ from the last commit \(work.py\): commit them"):
        repeat("faster", configured)
    assert not (configured / ".runs").exists()
    folder = repeat("faster", configured, dirty=True)
    assert (configured / ".runs/faster/work.py").read_text().endswith("# changed\n")
    assert " with changes; params" in (folder / "README.md").read_text()
    assert (configured / "work.py").read_text().endswith("# changed\n")
    command(configured, "git", "checkout", "-q", "work.py")
    (configured / "dvc.lock").write_text((configured / "dvc.lock").read_text() + "# as after another run\n")
    repeat("faster", configured)
    assert not (configured / ".runs/faster/work.py").read_text().endswith("# changed\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder, patch: patch.delenv("SYMBIOSIS_DATA_DIR"), "SYMBIOSIS_DATA_DIR is not set"),
        (lambda folder, patch: patch.setenv("SYMBIOSIS_DATA_DIR", "/nowhere"), "/nowhere/sets/rows is missing"),
        (
            lambda folder, patch: (folder / "configs/faster.yaml").write_text(CONFIGURATION.replace("sets", "../sets")),
            "../sets/rows must be a path below SYMBIOSIS_DATA_DIR",
        ),
        (
            lambda folder, patch: (folder / "configs/faster.yaml").write_text("targets: [evaluate]"),
            "configs/faster.yaml: ",
        ),
        (
            lambda folder, patch: (folder / "configs/faster.yaml").rename(folder / "configs/other.yaml"),
            "there is no configs/faster.yaml; the configurations are other",
        ),
    ],
)
def test_refusals(
    change: Callable[[Path, pytest.MonkeyPatch], object],
    message: str,
    configured: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is missing is told before a work tree is made."""
    change(configured, monkeypatch)
    with pytest.raises(InputError) as refused:
        repeat("faster", configured)
    assert message in str(refused.value)
    assert not (configured / ".runs").exists()


def test_a_refusal_is_one_line(configured: Path) -> None:
    """The command ends with it."""
    done = subprocess.run(
        [sys.executable, "-m", "flows.configuration", "slower"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: configs/slower.yaml: ")
    assert done.stderr.endswith("there is no configs/slower.yaml; the configurations are faster\n")
    assert done.stderr.count("\n") == 1


def test_overlay() -> None:
    """Blocks are merged, free mappings and lists replaced."""
    document = {"a": {"b": 1, "c": {"d": 2}, "free": {}}, "e": [1]}
    assert overlay({"a": {"c": {"d": 3}, "free": {"x": 1}}, "e": [2]}, document) == {
        "a.c.d": 3,
        "a.free": {"x": 1},
        "e": [2],
    }


def test_a_configuration_may_build_on_another(configured: Path) -> None:
    (configured / "configs/deeper.yaml").write_text(
        "base: faster\nparams:\n  finetune: {steps: [1]}\n  other: {a: 2}\n"
    )
    (configured / "configs/deepest.yaml").write_text(
        "base: deeper\ntargets: [report]\nparams: {finetune: {learning_rate: 0.4, steps: [2]}}\n"
    )
    found = read("deepest", configured)
    assert found.data == {"data/local/rows": "sets/rows"}
    assert found.targets == ["report"]
    assert found.params == {"finetune": {"learning_rate": 0.4, "steps": [2]}, "other": {"a": 2}}
    assert read("deeper", configured).params["finetune"] == {"learning_rate": 0.2, "steps": [1]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: gone", r"configs/deeper.yaml: `base`: there is no configs/gone.yaml; the configurations are"),
        ("base: deeper", r"configs/deeper.yaml: `base`: `deeper` has it as its base"),
        ("base: faster\nbases: faster", r"configs/deeper.yaml: .*\nbases\n"),
        ("- base", r"configs/deeper.yaml must hold `data`, `targets` and `params`"),
    ],
)
def test_a_base_that_does_not_hold_is_refused(text: str, message: str, configured: Path) -> None:
    (configured / "configs/deeper.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        read("deeper", configured)


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_committed_configurations(name: str, tmp_path: Path) -> None:
    """Every committed configuration fits params.yaml."""
    configuration = read(name, ROOT)
    file = tmp_path / "params.yaml"
    file.write_text((ROOT / "params.yaml").read_text())
    override(file, overlay(configuration.params, yaml.safe_load(file.read_text())))
    assert set(configuration.targets) <= {"evaluate", "online-replay", "report-routers"}
    sources = [block.get("folder", block.get("path")) for block in configuration.params.values()]
    assert set(configuration.data) <= set(sources)
