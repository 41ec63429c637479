"""Checkpoints that a killed training resumes from.

They lie outside the pipeline's outputs, under ``.checkpoints/<stage>/<fingerprint>``; the fingerprint covers params,
code and data, so that a changed training never picks up a stale state.
"""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from symbiosis.core.artifacts import staged, write_json

_TENSORS, _PROGRESS = "state.safetensors", "progress.json"


class Checkpoints:
    """The newest complete state of one training run.

    Parameters
    ----------
    folder
        A folder of its own for this run.
    seconds
        How often a state is due; 0 writes one after every step.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        self._last = time.monotonic()

    @classmethod
    def of_stage(cls, stage: str, fingerprint: str, seconds: float) -> "Checkpoints":
        """Checkpoints of one run of a stage."""
        return cls(Path(".checkpoints") / stage / fingerprint, seconds)

    def due(self) -> bool:
        """Tell whether so many seconds have passed since the last state."""
        return time.monotonic() - self._last >= self.seconds

    def save(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Write a state whole, then drop the older ones; a kill at any point leaves one complete state."""
        name = f"step_{progress['step']:09d}"
        with staged(self.folder / name) as (state,):
            state.mkdir()
            save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, state / _TENSORS)
            write_json(state / _PROGRESS, progress)
        for older in self._states()[:-1]:
            shutil.rmtree(older)
        self._last = time.monotonic()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the newest state, or None if there is none."""
        for state in reversed(self._states()):
            # A process that is killed while it removes a state leaves a part of it.
            with suppress(FileNotFoundError):
                progress = json.loads((state / _PROGRESS).read_text(encoding="utf-8"))
                return load_file(state / _TENSORS), progress
        return None

    def clear(self) -> None:
        """Remove the states of this run; call it after the outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("step_*"))
