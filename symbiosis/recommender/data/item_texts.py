"""The text of an item, and the TF-IDF vectors of such texts.

Latent semantic analysis (Deerwester et al. 1990): sublinear TF-IDF weights of the words, then the leading singular
vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from symbiosis.core.artifacts import read_frame

if TYPE_CHECKING:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

FIELDS = ("title", "brand", "categories", "description")
"""What is known of an item, in the order of its text."""


def read_items(path: Path | str) -> pl.DataFrame:
    """Read ``item`` and `FIELDS` of every item, in the order of the item numbers.

    Raises
    ------
    InputError
        The file is missing or damaged.
    """
    return read_frame(path, ["item", *FIELDS]).sort("item")


def item_texts(items: pl.DataFrame, fields: Sequence[str] = FIELDS) -> list[str]:
    """Join title, brand, categories and description of every item to one text.

    Parameters
    ----------
    items
        Columns `fields`, one row an item.
    fields
        The parts to join, a selection of `FIELDS`.

    Returns
    -------
    list of str
        In the order of the rows; empty for an item of which nothing is known.

    Examples
    --------
    >>> item_texts(pl.DataFrame({"title": ["Lamp"], "brand": ["Acme"], "categories": [["Home", "Light"]],
    ...                          "description": [None]}))
    ['Lamp. Acme. Home. Light']
    """
    texts = []
    for row in items.select(fields).iter_rows():
        parts = [part for value in row for part in (value if isinstance(value, list) else [value])]
        texts.append(". ".join(part for part in parts if part))
    return texts


@dataclass(frozen=True)
class Tfidf:
    """Fitted TF-IDF weights and their singular vectors.

    Attributes
    ----------
    vectorizer
        From texts to the weights of their words.
    decomposition
        From the weights to the leading singular vectors; None if there is one word only.
    vectors
        float32 (texts, D), the fitted texts; rows of any length.
    """

    vectorizer: "TfidfVectorizer"
    decomposition: "TruncatedSVD | None"
    vectors: np.ndarray

    def encode(self, texts: list[str]) -> np.ndarray:
        """Embed other texts into the same space, (texts, D)."""
        weights = self.vectorizer.transform(texts)
        vectors: np.ndarray = weights.toarray() if self.decomposition is None else self.decomposition.transform(weights)
        return vectors


def fit_tfidf(
    texts: list[str], dimensions: int, seed: int, *, words: int, minimum_items: int, maximum_share: float = 1.0
) -> Tfidf | None:
    """Fit TF-IDF weights and their decomposition.

    Parameters
    ----------
    texts
        One per item.
    dimensions
        Singular vectors at most: there are no more than items or words.
    seed
        Of the decomposition.
    words
        Longest sequence of words that counts as one: 1 for single words, 2 for pairs as well.
    minimum_items, maximum_share
        Words in fewer items, or in a larger share of them, are left out: they relate nothing.

    Returns
    -------
    Tfidf or None
        None if no word is left.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        sublinear_tf=True, min_df=minimum_items, max_df=maximum_share, ngram_range=(1, words), dtype=np.float32
    )
    try:
        weights = vectorizer.fit_transform(texts)
    except ValueError:  # no word is left
        return None
    if weights.shape[1] < 2:
        return Tfidf(vectorizer, None, weights.toarray())
    decomposition = TruncatedSVD(min(dimensions, *weights.shape), random_state=seed)
    return Tfidf(vectorizer, decomposition, decomposition.fit_transform(weights))
