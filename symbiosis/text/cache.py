"""Embeddings kept by content, so that a text is embedded once whatever split, order or run it is part of.

The cache is no output of the pipeline: it may be deleted at any time, and results do not depend on it. Entries lie in
``.embeddings/ENCODER/DIGEST.safetensors``, written whole or not at all and named after the digest of their bytes, so
that a damaged file is told at reading and runs beside each other cannot spoil each other's files.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from symbiosis.core.artifacts import remove_left, staged

FOLDER = Path(".embeddings")
TEXTS_PER_FILE = 512  # what a killed run loses at most


def embed_cached(
    texts: Sequence[str],
    encoder: str,
    embed: Callable[[list[str]], np.ndarray],
    folder: Path = FOLDER,
) -> np.ndarray:
    """Return embeddings, from the cache where they are known.

    Parameters
    ----------
    texts
        N texts.
    encoder
        Identity of the encoder with its settings, a hexadecimal digest.
    embed
        Embeds texts, (n, d) float32; a text's row must not depend on the other texts.
    folder
        Of the cache.

    Returns
    -------
    numpy.ndarray
        (N, d) float32, in the order of `texts`.
    """
    keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
    place = folder / encoder
    known = _read(place)
    missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
    # Longest first: a bar over texts of falling length does not promise too much.
    waiting = sorted(missing, key=lambda key: -len(missing[key]))
    for start in range(0, len(waiting), TEXTS_PER_FILE):
        part = waiting[start : start + TEXTS_PER_FILE]
        vectors = embed([missing[key] for key in part])
        _write(place, part, vectors)
        known.update(zip(part, vectors, strict=True))
    return np.stack([known[key] for key in keys])


def _read(place: Path) -> dict[bytes, np.ndarray]:
    """All entries of an encoder; damaged files, and what killed processes have left, are removed."""
    from safetensors.numpy import load

    remove_left(place)

    known: dict[bytes, np.ndarray] = {}
    for file in sorted(place.glob("*.safetensors")):
        try:
            content = file.read_bytes()
        except OSError:  # another run removed it
            continue
        if hashlib.sha256(content).hexdigest() != file.stem:
            file.unlink(missing_ok=True)
            continue
        tensors = load(content)
        known.update(zip(map(bytes, tensors["keys"]), tensors["vectors"], strict=True))
    return known


def _write(place: Path, keys: list[bytes], vectors: np.ndarray) -> None:
    from safetensors.numpy import save

    content = save({"keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32), "vectors": vectors})
    target = place / f"{hashlib.sha256(content).hexdigest()}.safetensors"
    with staged(target) as (file,):
        file.write_bytes(content)
