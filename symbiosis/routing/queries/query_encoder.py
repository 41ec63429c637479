"""From a text to the vector that a trained router expects: the embedding, and the form of the text beside it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
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


class RememberingEncoder:
    """Makes vectors of texts, and remembers those of the last `REMEMBERED` texts; threads may share it.

    Parameters
    ----------
    encode
        From one text or more to their vectors, (texts, d) float32 of length 1; each with the bytes that it has alone.
    """

    def __init__(self, encode: Callable[[Sequence[str]], np.ndarray]) -> None:
        self.fresh = encode
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, text: str) -> np.ndarray:
        """Return a text's vector (d,), read-only."""
        vector = self.remembered(text)
        return self.many([text])[0] if vector is None else vector

    def remembered(self, text: str) -> np.ndarray | None:
        """Return a text's vector (d,) if it is in memory: no text is encoded."""
        with self._lock:
            if text not in self._vectors:
                return None
            self._vectors.move_to_end(text)
            return self._vectors[text]

    def many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the vectors (d,) of several texts, those that are new encoded together."""
        known = {text: vector for text in texts if (vector := self.remembered(text)) is not None}
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            for text, row in zip(new, self.fresh(new), strict=True):
                vector = row.copy()
                vector.flags.writeable = False
                known[text] = vector
            with self._lock:
                self._vectors.update((text, known[text]) for text in new if len(text) <= LONGEST_REMEMBERED)
                while len(self._vectors) > REMEMBERED:
                    self._vectors.popitem(last=False)
        return [known[text] for text in texts]


class QueryEncoder:
    """Makes vectors of one form.

    Parameters
    ----------
    encode
        Makes them.
    form
        Theirs.
    """

    def __init__(self, encode: RememberingEncoder, form: VectorForm) -> None:
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

    def remembered(self, text: str) -> np.ndarray | None:
        """Return a text's vector (d,) if it is in memory."""
        return self.encode.remembered(text)

    def many(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return the vectors (d,) of texts that wait together, each with the bytes that it has alone."""
        return self.encode.many(texts)


def encoder_of(model: "Encoder", shape_weight: float, precision: "Precision" = "float32") -> RememberingEncoder:
    """Return what makes the vectors of texts.

    Parameters
    ----------
    model
        As `symbiosis.text.encoder.load` returns it.
    shape_weight
        See `symbiosis.routing.queries.text_shape.query_vectors`.
    precision
        See `symbiosis.text.encoder.embedder`.
    """
    from symbiosis.text.encoder import batch_embedder

    embed = batch_embedder(model, precision)

    def computed(texts: Sequence[str]) -> np.ndarray:
        clean = [mended(text) for text in texts]  # a tokenizer refuses halves of surrogate pairs
        # One by one: a row of a product of several rows may differ from it in the last digit.
        return np.concatenate(
            [query_vectors(row[None], [text], shape_weight) for row, text in zip(embed(clean), clean, strict=True)]
        )

    return RememberingEncoder(computed)
