"""From a text to the vector that a trained router expects: the embedding, and the form of the text beside it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from symbiosis.artifacts import read_json
from symbiosis.errors import InputError
from symbiosis.routing.encoder import load_chosen, weights_sha256
from symbiosis.routing.shape import query_vectors, shape

MANIFEST = "manifest.json"


def query_encoder(encoder: Path | str, embeddings: Path | str) -> Callable[[str], np.ndarray]:
    """Load the encoder with which the router's training queries were embedded.

    Parameters
    ----------
    encoder
        ``models/encoder``.
    embeddings
        ``data/embeddings``, whose manifest tells what was put beside the embedding.

    Returns
    -------
    callable
        From a text to its vector (d,), float32, of length 1.

    Raises
    ------
    InputError
        A file is missing, or the embeddings come from another encoder.
    """
    manifest = read_json(Path(embeddings) / MANIFEST)
    model, _ = load_chosen(encoder)
    if weights_sha256(model) != manifest["weights_sha256"]:
        raise InputError(f"{encoder} is not the encoder of {embeddings}: run `dvc repro embed-queries router-train`")

    def encode(text: str) -> np.ndarray:
        embedded = model.encode([text], batch_size=1, show_progress_bar=False, convert_to_numpy=True)
        embedded = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
        vector: np.ndarray = query_vectors(embedded, shape([text], np.array([np.nan])), manifest["shape_weight"])[0]
        return vector

    return encode
