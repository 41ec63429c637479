"""What a choice has judged so far, kept on disk so that one that was interrupted goes on."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from symbiosis.core.artifacts import read_array, sha256_of, staged
from symbiosis.core.errors import InputError
from symbiosis.core.fingerprint import imported_files
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.model.params import RouterTrainParams

ROOT = Path(__file__).resolve().parents[3]
CHOICE = Path(__file__).with_name("choice.py")
"""What a choice computes depends on this module and on all that it imports."""


class Kept:
    """Predictions for held-out queries by the candidate's name.

    Parameters
    ----------
    folder
        Everything lies in it; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def of(self, params: RouterTrainParams, split: Split) -> "Kept":
        """Return what is kept of one choice: other params, code or data never pick it up."""
        if self._folder is None:
            return self
        digest = hashlib.sha256(params.model_dump_json().encode())
        for path in imported_files(CHOICE, ROOT):
            digest.update(sha256_of(ROOT / path).encode())
        outcomes = split.outcomes
        values = (outcomes.quality, outcomes.prompt_tokens, outcomes.response_tokens, outcomes.cost_usd)
        for array in (split.embeddings, *values, outcomes.known):
            digest.update(b"" if array is None else array.tobytes())
        digest.update("\n".join([*split.domains, *split.subdomains]).encode())
        return Kept(self._folder / digest.hexdigest()[:16])

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
        """Remove all that is kept; call it after the outputs are written."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _place(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.npy"
