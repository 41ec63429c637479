"""What a choice has judged so far, kept on disk so that one that was interrupted goes on."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from symbiosis.core.artifacts import read_array, staged
from symbiosis.core.errors import InputError


class Kept:
    """Predictions for held-out queries by the candidate's name.

    Parameters
    ----------
    folder
        Of one run: params, code and data decide its name; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def load(self, name: str) -> np.ndarray | None:
        """Return what was saved under a name; None if nothing was, or it is damaged."""
        if self._folder is None or not self._place(name).is_file():
            return None
        try:
            return read_array(self._place(name))
        except InputError:
            return None

    def save(self, name: str, values: np.ndarray) -> None:
        """Write values whole, or not at all."""
        if self._folder is not None:
            with staged(self._place(name)) as (target,), target.open("wb") as file:
                np.save(file, values)

    def clear(self) -> None:
        """Remove all of the run; call it after the outputs are written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npy"
