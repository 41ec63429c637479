"""The best items for a user, or for a user and a request in free text (``summer clothing``).

``score(item | user, request) = score(item | user) + weight * cos(request, item)``

The recommender's score is a log probability up to a constant, so the sum multiplies two opinions: that of the user's
history and that of the words. The words are compared in the space of `embed_items`, where the pipeline compares texts
anyway. The request does not go into the prompt: no prompt of training holds one, and the likelihood of the request's
words given the item does not separate the right item from others (measured by ``python -m bench.free_text``).
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from symbiosis.core.artifacts import read_array, read_json
from symbiosis.core.errors import InputError, quoted
from symbiosis.core.layout import ITEM_VECTORS
from symbiosis.recommender.data.item_texts import item_texts
from symbiosis.recommender.inference.asking import WEIGHT
from symbiosis.recommender.metrics.ranking import NONE, top_items

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
    """

    def __init__(self, encode: "TextEncoder", vectors: np.ndarray) -> None:
        self.encode, self.vectors = encode, vectors

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

        from symbiosis.recommender.language.item_vectors import MANIFEST, TFIDF, text_encoder
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
        encode = text_encoder(texts, params)
        # What is fitted again is compared with its own vectors: those of another machine may differ in signs.
        return cls(encode, encode(texts) if params.encoder == TFIDF else vectors)

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


def best_items(
    scores: np.ndarray,
    candidates: np.ndarray,
    user: int,
    count: int,
    seed: int,
    similarity: np.ndarray | None = None,
    weight: float = WEIGHT,
) -> tuple[np.ndarray, np.ndarray]:
    """Rank the candidates for a user.

    Parameters
    ----------
    scores
        float32 (I,), of the recommender.
    candidates
        bool (I,).
    user
        Number of the user, on which the order of ties depends.
    count
        Items at most.
    seed
        Of the order of ties.
    similarity
        float32 (I,), of a request and each item; without it the scores alone count.
    weight
        Of the similarity.

    Returns
    -------
    items : int array of shape (count,)
        Best first; fewer if there are fewer candidates.
    scores : float32 array of shape (count,)
        What they are ranked by.
    """
    total = scores if similarity is None else (scores + np.float32(weight) * similarity).astype(np.float32)
    excluded = csr_array(~candidates[None])
    ranked = top_items(total[None], excluded, min(count, len(total)), seed, np.array([user]))[0]
    items = ranked[ranked != NONE]
    return items, total[items]
