"""Text embeddings of the items: what an item says of itself, whoever took it."""

from collections.abc import Callable

import numpy as np
import polars as pl

from symbiosis.recommender.language.params import EmbedItemsParams
from symbiosis.text.encoder import embed, load

TFIDF = "tfidf_svd"
"""The encoder that is fitted on the items' own texts; every other name is that of a sentence encoder."""

MANIFEST = "encoder.json"
"""Beside the vectors: the params of the encoder that made them."""

TextEncoder = Callable[[list[str]], np.ndarray]
"""From texts to float32 (texts, D), rows of length 1, or of zeros for a text without a known word."""

_MINIMUM_ITEMS = 2  # a word of one item alone relates it to nothing


def item_texts(items: pl.DataFrame) -> list[str]:
    """Title, brand, categories and description of every item as one text.

    Parameters
    ----------
    items
        Columns ``item, title, brand, categories, description``, one row an item.

    Returns
    -------
    list of str
        In the order of the item numbers; empty for an item of which nothing is known.

    Examples
    --------
    >>> item_texts(pl.DataFrame({"item": [0], "title": ["Lamp"], "brand": ["Acme"], "categories": [["Home", "Light"]],
    ...                          "description": [None]}))
    ['Lamp. Acme. Home. Light']
    """
    return [
        ". ".join(part for part in [title, brand, *(categories or []), description] if part)
        for title, brand, categories, description in items.sort("item")
        .select("title", "brand", "categories", "description")
        .iter_rows()
    ]


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
    return _fit_tfidf(texts, params)[1]


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
        model = load(params.encoder, params.maximum_tokens, params.revision, block="embed_items")
        return lambda others: embed(model, others)
    return _fit_tfidf(texts, params)[0]


def _fit_tfidf(texts: list[str], params: EmbedItemsParams) -> tuple[TextEncoder, np.ndarray]:
    """Fit `TFIDF`; return its encoder and the vectors of the texts themselves."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    least = min(_MINIMUM_ITEMS, len(texts))
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=least, max_df=0.5, ngram_range=(1, 2), dtype=np.float32)

    def filled(vectors: np.ndarray) -> np.ndarray:
        """Rows of length 1 and of as many dimensions as were asked for."""
        vectors = np.pad(vectors, ((0, 0), (0, params.dimensions - vectors.shape[1])))
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)

    def blank(others: list[str]) -> np.ndarray:
        return np.zeros((len(others), params.dimensions), dtype=np.float32)

    try:
        weighted = vectorizer.fit_transform(texts)
    except ValueError:  # no word is in so many items: nothing relates them
        return blank, blank(texts)
    if weighted.shape[1] < 2:  # a single word tells no more than whether it is there
        return lambda others: filled(vectorizer.transform(others).toarray()), filled(weighted.toarray())
    decomposition = TruncatedSVD(min(params.dimensions, *weighted.shape), random_state=params.seed)
    vectors = decomposition.fit_transform(weighted)
    return lambda others: filled(decomposition.transform(vectorizer.transform(others))), filled(vectors)
