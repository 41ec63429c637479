"""Which texts a router was trained on, as digests beside it: what a later test must leave out to be fair to it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_array
from symbiosis.core.errors import InputError
from symbiosis.routing.data.splits import normalised

FILE = "training_texts.npy"
_BYTES = 8


def digests_of(texts: Iterable[str]) -> np.ndarray:
    """Return the digest of each normalised text, uint64 (N,): the first bytes of its SHA-256."""
    clean = pl.DataFrame({"text": list(texts)}, schema={"text": pl.String}).select(normalised(pl.col("text")))["text"]
    first = b"".join(hashlib.sha256(text.encode()).digest()[:_BYTES] for text in clean)
    return np.frombuffer(first, dtype=">u8").astype(np.uint64)


def save(folder: Path, texts: Iterable[str], logged: Iterable[str] = ()) -> None:
    """Write the digests of the texts beside a router, each once, rising.

    Parameters
    ----------
    folder
        Of the router.
    texts
        That stand in the table.
    logged
        Queries that come from logs, as `symbiosis.routing.data.logged.OUTCOMES` tells them: SHA-256 in hexadecimal.
    """
    np.save(folder / FILE, np.unique(np.concatenate([digests_of(texts), of_logged(logged)])))


def of_logged(queries: Iterable[str]) -> np.ndarray:
    """Return the digest of each query of a log, uint64 (N,); see `symbiosis.routing.data.logged.OUTCOMES`."""
    return np.array([int(query[: 2 * _BYTES], 16) for query in queries], dtype=np.uint64)


def load(folder: Path | str) -> np.ndarray | None:
    """Read them, uint64 (N,); None if the router does not tell.

    Raises
    ------
    InputError
        The file is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    found = read_array(path)
    if found.dtype != np.uint64 or found.ndim != 1:
        raise InputError(f"{path} is damaged: delete the folder and run `dvc repro router-train`")
    return found
