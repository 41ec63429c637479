"""Vectors of the items' texts, and the encoder that puts requests into the same space."""

from collections.abc import Callable

import numpy as np

from symbiosis.recommender.data.item_texts import fit_tfidf
from symbiosis.recommender.language.params import EmbedItemsParams

TFIDF = "tfidf_svd"
"""The encoder that is fitted on the items' own texts; every other name is that of a sentence encoder."""

MANIFEST = "encoder.json"
"""Beside the vectors: the params of the encoder that made them."""

TextEncoder = Callable[[list[str]], np.ndarray]
"""From texts to float32 (texts, D), rows of length 1, or of zeros for a text without a known word."""

_MINIMUM_ITEMS = 2  # a word of one item alone relates it to nothing
_MAXIMUM_SHARE = 0.5  # nor does a word of more than half of the items


def embed_items(texts: list[str], params: EmbedItemsParams) -> np.ndarray:
    """Embed the items' texts.

    With `TFIDF`: single words and pairs, sublinear TF-IDF, the leading singular vectors (latent semantic analysis,
    Deerwester et al. 1990). Else the sentence encoder of that name.

    Parameters
    ----------
    texts
        One per item.
    params
        Encoder, dimensions and seed.

    Returns
    -------
    float32 array of shape (I, D)
        Rows of length 1; zeros for an item without a known word.
    """
    if params.encoder != TFIDF:
        return text_encoder(texts, params)(texts)
    return _fit(texts, params)[1]


def text_encoder(texts: list[str], params: EmbedItemsParams) -> TextEncoder:
    """Make the encoder of other texts, requests above all, into the space of the items' vectors.

    `TFIDF` is fitted on the items' texts again, which takes seconds and gives the same; its singular vectors, a row for
    every word and pair of words, would be larger than all else that the stage writes.

    Parameters
    ----------
    texts
        The items' texts, one per item.
    params
        Encoder, dimensions and seed.
    """
    if params.encoder != TFIDF:
        from symbiosis.text.encoder import embed, load  # a second of import, for sentence encoders only

        model = load(params.encoder, params.maximum_tokens, params.revision, block="embed_items")
        return lambda others: embed(model, others)
    return _fit(texts, params)[0]


def _fit(texts: list[str], params: EmbedItemsParams) -> tuple[TextEncoder, np.ndarray]:
    """Fit `TFIDF`; return its encoder and the vectors of the texts themselves."""
    tfidf = fit_tfidf(
        texts,
        params.dimensions,
        params.seed,
        words=2,
        minimum_items=min(_MINIMUM_ITEMS, len(texts)),
        maximum_share=_MAXIMUM_SHARE,
    )
    if tfidf is None:

        def blank(others: list[str]) -> np.ndarray:
            return np.zeros((len(others), params.dimensions), dtype=np.float32)

        return blank, blank(texts)

    def normalised(vectors: np.ndarray) -> np.ndarray:
        """Give rows length 1 and as many dimensions as the params ask for."""
        vectors = np.pad(vectors, ((0, 0), (0, params.dimensions - vectors.shape[1])))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)

    return lambda others: normalised(tfidf.encode(others)), normalised(tfidf.vectors)
