"""Requests in free text (``summer clothing``), compared with the texts of the items.

``score(item | user, request) = score(item | user) + weight * cos(request, item)``

The recommender's score is a log probability up to a constant, so the sum multiplies two opinions: that of the user's
history and that of the words. The words are compared in the space of `embed_items`, where the pipeline compares texts
anyway. The request does not go into the prompt: no prompt of training holds one, and the likelihood of the request's
words given the item does not separate the right item from others (measured by ``python -m bench.free_text``).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from symbiosis.core.artifacts import read_array, read_json
from symbiosis.core.errors import InputError, quoted
from symbiosis.core.layout import ITEM_VECTORS
from symbiosis.recommender.data.item_texts import item_texts

if TYPE_CHECKING:
    import polars as pl

    from symbiosis.recommender.language.item_vectors import TextEncoder


class Requests:
    """Comparison of requests with the texts of all items.

    Parameters
    ----------
    encode
        Embeds texts in the space of the items' vectors.
    vectors
        float32 (I, D), embeddings of the items' texts, rows of length 1 or 0.
    signs
        float32 (D,), factors of 1 and -1 from the encoder's space to that of the model's item texts; 1 if not given.
    """

    def __init__(self, encode: "TextEncoder", vectors: np.ndarray, signs: np.ndarray | None = None) -> None:
        self.encode, self.vectors = encode, vectors
        self.signs = np.ones(vectors.shape[1], np.float32) if signs is None else signs

    @property
    def embedded(self) -> np.ndarray:
        """The vectors in the space of the model's item texts, float32 (I, D)."""
        return self.vectors * self.signs

    def extended(self, texts: list[str]) -> "Requests":
        """Return the same with the texts of new items behind the others."""
        return Requests(self.encode, np.concatenate([self.vectors, self.encode(texts)]), self.signs)

    @classmethod
    def load(cls, folder: Path | str, items: "pl.DataFrame") -> "Requests":
        """Read what the stage `embed_items` wrote, and make its encoder again.

        Parameters
        ----------
        folder
            ``data/item_embeddings``.
        items
            Columns ``item, title, brand, categories, description``: the texts that were embedded.

        Raises
        ------
        InputError
            A file is missing or damaged, the items are others, or the encoder cannot be loaded.
        """
        # Imported here: a recommendation without a request needs neither pydantic nor an encoder.
        from pydantic import ValidationError

        from symbiosis.recommender.language.item_vectors import COMMON, MANIFEST, TFIDF, text_encoder
        from symbiosis.recommender.language.params import EmbedItemsParams

        folder = Path(folder)
        try:
            params = EmbedItemsParams.model_validate(read_json(folder / MANIFEST))
        except ValidationError:
            raise InputError(f"{folder / MANIFEST} is damaged: delete {folder} and run `dvc repro`") from None
        vectors = read_array(folder / ITEM_VECTORS.name)
        if len(vectors) != len(items):
            raise InputError(f"{folder} holds {len(vectors)} items, not {len(items)}: run `dvc repro embed-items`")
        texts = item_texts(items)
        common = read_array(folder / COMMON) if (folder / COMMON).exists() else None
        encode = text_encoder(texts, params, common)
        if params.encoder != TFIDF:
            return cls(encode, vectors)
        # What is fitted again is compared with its own vectors: those of another machine may differ in signs.
        own = encode(texts)
        return cls(encode, own, np.where((own * vectors).sum(axis=0) < 0, -1, 1).astype(np.float32))

    def similarity(self, request: str) -> np.ndarray:
        """Return the cosine of a request and each item's text.

        Returns
        -------
        float32 array of shape (I,)
            Within -1..1.

        Raises
        ------
        InputError
            None of the request's words is known.
        """
        vector = self.encode([request])[0]
        if not vector.any():
            raise InputError(
                f"the request {quoted(request)} has no word that several items' texts have: use other words"
            )
        similarity: np.ndarray = (self.vectors @ vector).astype(np.float32)
        return similarity
