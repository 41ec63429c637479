"""The layers of the code, checked by import-linter (its contracts are in pyproject.toml)."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).parent / "lint-imports"
    return subprocess.run(
        [tool, "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_contracts_are_kept() -> None:
    outcome = lint(ROOT)
    assert outcome.returncode == 0, outcome.stdout
    assert ", 0 broken" in outcome.stdout


def test_a_broken_contract_is_found(tmp_path: Path) -> None:
    for package in ("symbiosis", "stages", "flows"):
        (tmp_path / package).mkdir()
        for file in (ROOT / package).rglob("*.py"):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "symbiosis/graph/sneaky.py").write_text("import prefect\n")
    outcome = lint(tmp_path)
    assert outcome.returncode == 1
    assert "symbiosis.graph.sneaky -> prefect" in outcome.stdout
