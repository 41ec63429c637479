"""From a text to the vector that a trained router expects: the embedding, and the form of the text beside it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.routing.queries.text_shape import query_vectors, shape
from symbiosis.text.encoder import Encoder, Precision, embedder, load_chosen, weights_sha256

MANIFEST = "manifest.json"
REMEMBERED = 4096  # texts whose vectors stay in memory


def query_encoder(encoder: Path | str, embeddings: Path | str) -> Callable[[str], np.ndarray]:
    """Load the encoder with which the router's training queries were embedded.

    Parameters
    ----------
    encoder
        ``models/encoder``.
    embeddings
        ``data/embeddings``, whose manifest tells in which precision, and what was put beside the embedding.

    Returns
    -------
    callable
        From a text to its vector (d,), float32, of length 1.

    Raises
    ------
    InputError
        A file is missing or damaged, or the embeddings come from another encoder.
    """
    path = Path(embeddings) / MANIFEST
    try:
        made = _Made.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path}: `{'.'.join(map(str, first['loc'])) or 'manifest'}`: {first['msg']}; "
            f"delete {embeddings} and run `dvc repro embed-queries router-train`"
        ) from None
    model, _ = load_chosen(encoder)
    if weights_sha256(model) != made.weights_sha256:
        raise InputError(f"{encoder} is not the encoder of {embeddings}: run `dvc repro embed-queries router-train`")
    return encoder_of(model, made.shape_weight, made.precision)


def encoder_of(model: Encoder, shape_weight: float, precision: Precision = "float32") -> Callable[[str], np.ndarray]:
    """Return a function from a text to its vector (d,), which remembers the last `REMEMBERED` texts.

    Parameters
    ----------
    model
        As `symbiosis.text.encoder.load` returns it.
    shape_weight
        See `symbiosis.routing.queries.text_shape.query_vectors`.
    precision
        See `symbiosis.text.encoder.embedder`.
    """
    embed_one = embedder(model, precision)

    @lru_cache(maxsize=REMEMBERED)
    def encode(text: str) -> np.ndarray:
        vector: np.ndarray = query_vectors(embed_one(text)[None], shape([text], np.array([np.nan])), shape_weight)[0]
        vector.flags.writeable = False
        return vector

    return encode


class _Made(BaseModel):
    """What the manifest beside the queries' vectors tells of how they were made, as far as serving needs it."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    shape_weight: float = Field(ge=0)
    precision: Precision
    weights_sha256: str
