"""Sub-commands of `symbiosis` as processes of their own: what they load ends with them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from flows.repro import CHILD
from symbiosis.core.errors import InputError, one_line
from symbiosis.core.telemetry import TELEMETRY_OFF


def run_json(root: Path, *arguments: str, seconds: float | None = None) -> dict[str, Any]:
    """Run ``symbiosis ... --json`` and return what it says.

    Parameters
    ----------
    root
        Where it runs: the top of the repository.
    arguments
        The sub-command and its options.
    seconds
        For which it may run; None: any time.

    Raises
    ------
    InputError
        It failed, in its own words, or took too long.
    """
    command = [sys.executable, str(CHILD), "symbiosis", *arguments, "--json"]
    name = f"`symbiosis {' '.join(arguments)}`"
    environment = TELEMETRY_OFF | os.environ
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"{name} took longer than {seconds:g} s and was ended") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise InputError(f"{name}: {one_line(last.removeprefix('error: '))}")
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise InputError(f"{name} printed no JSON") from None
    return document
