"""From a text to the vector that a trained router expects: the embedding, and the form of the text beside it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from symbiosis.artifacts import read_json
from symbiosis.errors import InputError
from symbiosis.routing.encoder import load_chosen, weights_sha256
from symbiosis.routing.shape import query_vectors, shape

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

MANIFEST = "manifest.json"
REMEMBERED = 4096  # texts whose vectors stay in memory


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

    return encoder_of(model, manifest["shape_weight"])


def encoder_of(model: "SentenceTransformer", shape_weight: float) -> Callable[[str], np.ndarray]:
    """Return a function from a text to its vector (d,), which remembers the last `REMEMBERED` texts.

    Parameters
    ----------
    model
        As `symbiosis.routing.encoder.load` returns it.
    shape_weight
        See `symbiosis.routing.shape.query_vectors`.
    """
    import torch

    @lru_cache(maxsize=REMEMBERED)
    def encode(text: str) -> np.ndarray:
        # What `encode` of sentence-transformers does for many texts, sorting and batching, is a good part of the time
        # that one short text takes.
        with torch.inference_mode():
            embedded = model(model.preprocess([text]))["sentence_embedding"].numpy()
        embedded = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
        vector: np.ndarray = query_vectors(embedded, shape([text], np.array([np.nan])), shape_weight)[0]
        vector.flags.writeable = False
        return vector

    model.eval()
    return encode
