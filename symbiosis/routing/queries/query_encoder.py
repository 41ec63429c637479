"""From a text to the vector that a trained router expects: the embedding, and the form of the text beside it."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.core.text_files import mended
from symbiosis.routing.queries.text_shape import VERSION, query_vectors
from symbiosis.routing.queries.vector_form import VectorForm

if TYPE_CHECKING:
    from symbiosis.text.encoder import Encoder, Precision

REMEMBERED = 4096  # texts whose vectors stay in memory
LONGEST_REMEMBERED = 20_000  # characters: the texts stay, too


class QueryEncoder:
    """Makes vectors of one form; remembers the last `REMEMBERED` texts.

    Parameters
    ----------
    encode
        From a text to its vector (d,), float32, of length 1.
    form
        Of the vectors.
    """

    def __init__(self, encode: Callable[[str], np.ndarray], form: VectorForm) -> None:
        self.encode, self.form = encode, form

    @classmethod
    def load(cls, encoder: Path | str, form: VectorForm) -> "QueryEncoder":
        """Load ``models/encoder`` to make vectors of the form that a router was trained with.

        Raises
        ------
        InputError
            A file is missing or damaged, or the encoder gives vectors of another form.
        """
        from symbiosis.text.encoder import load_chosen, weights_sha256

        model, chosen = load_chosen(encoder)
        found = form.model_copy(
            update={
                "weights_sha256": weights_sha256(model),
                "maximum_tokens": chosen["maximum_tokens"],
                "text_shape": VERSION,
            }
        )
        for name, needed in form.model_dump().items():
            if getattr(found, name) != needed:
                raise InputError(
                    f"{encoder} is not the encoder that the router was trained with ({name}: {getattr(found, name)}, "
                    f"trained with {needed}): run `dvc repro router-train`"
                )
        return cls(encoder_of(model, form.shape_weight, form.precision), form)

    def __call__(self, text: str) -> np.ndarray:
        """Return a text's vector (d,)."""
        return self.encode(text)


def encoder_of(
    model: "Encoder", shape_weight: float, precision: "Precision" = "float32"
) -> Callable[[str], np.ndarray]:
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
    from symbiosis.text.encoder import embedder

    embed_one = embedder(model, precision)

    def computed(text: str) -> np.ndarray:
        text = mended(text)  # a tokenizer refuses halves of surrogate pairs
        vector: np.ndarray = query_vectors(embed_one(text)[None], [text], shape_weight)[0]
        vector.flags.writeable = False
        return vector

    remembered = lru_cache(maxsize=REMEMBERED)(computed)
    return lambda text: remembered(text) if len(text) <= LONGEST_REMEMBERED else computed(text)
