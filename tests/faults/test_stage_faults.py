"""Stages under every fault, by the command that a person runs; all of them take some minutes."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from bench.faults.harness import FAILED, KINDS


def verdicts(file: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the command, which must find nothing wrong, and return what it tried."""
    command = [sys.executable, "-m", "bench.faults", *arguments, "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[dict[str, Any]] = json.loads(file.read_text())
    assert f"0 {FAILED}" in done.stdout
    assert FAILED not in {one["outcome"] for one in found}
    return found


def test_a_stage_under_faults(tmp_path: Path) -> None:
    few = ("--points", "4", "--faults", "killed", "limited", "read-only", "clock")
    found = verdicts(tmp_path / "tried.json", "download-routing", *few)
    kinds = Counter(one["fault"].split()[0] for one in found)
    # Where no disk can be mounted, none is made read-only.
    assert {"killed", "limited", "clock"} <= set(kinds) <= {"killed", "limited", "clock", "read-only"}
    assert 2 <= kinds["killed"] <= 4
    assert "os.rename data/raw/routing" in " ".join(one["fault"] for one in found)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_everything_that_writes_under_every_fault(tmp_path: Path) -> None:
    found = verdicts(tmp_path / "tried.json", "--points", "20")
    assert {"finetune", "evaluate", "router-train", "promote", "feedback"} <= {one["subject"] for one in found}
    assert {one["fault"].split()[0] for one in found} >= set(KINDS) - {"full", "read-only"}
