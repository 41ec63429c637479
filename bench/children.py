"""Run measurements in separate processes, so that each peak memory is that of one method; shared by the benches."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def measure_in_child(module: str, way: str, data: Path, *options: str) -> dict[str, Any]:
    """Run ``python -m MODULE --measure WAY --data DATA ...``, return the JSON of its last line; exit on failure."""
    command = [sys.executable, "-m", module, "--measure", way, "--data", str(data), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {way} on {data.name} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def write_report(path: Path, lines: list[str]) -> None:
    """Write a Markdown report, and create its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
