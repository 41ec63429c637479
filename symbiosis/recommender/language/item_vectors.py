"""Vectors of the items' texts, and the encoder that puts requests into the same space."""

from collections.abc import Callable

import numpy as np

from symbiosis.recommender.data.item_texts import fit_tfidf
from symbiosis.recommender.language.params import EmbedItemsParams
from symbiosis.text import smollm2

TFIDF = "tfidf_svd"
"""The encoder that is fitted on the items' own texts; every other name is that of a sentence encoder, or
`symbiosis.text.smollm2.NAME`, a language model."""

MANIFEST = "encoder.json"
"""Beside the vectors: the params of the encoder that made them."""

COMMON = "common.npy"
"""Beside the vectors of a language model: what was taken out of them, see `without_common`."""

TextEncoder = Callable[[list[str]], np.ndarray]
"""From texts to float32 (texts, D), rows of length 1, or of zeros for a text without a known word."""

_MINIMUM_ITEMS = 2  # a word of one item alone relates it to nothing
_MAXIMUM_SHARE = 0.5  # nor does a word of more than half of the items
_DIRECTIONS = 4  # that all texts share


def embed_items(texts: list[str], params: EmbedItemsParams) -> np.ndarray:
    """Embed the items' texts.

    With `TFIDF`: single words and pairs, sublinear TF-IDF, the leading singular vectors (latent semantic analysis,
    Deerwester et al. 1990). With `symbiosis.text.smollm2.NAME`: the mean state of a middle layer of that language
    model, without what all items have in common. Else the sentence encoder of that name.

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
    return embed_items_and_common(texts, params)[0]


def embed_items_and_common(texts: list[str], params: EmbedItemsParams) -> tuple[np.ndarray, np.ndarray | None]:
    """Embed the items' texts, see `embed_items`.

    Returns
    -------
    vectors
        As `embed_items` returns them.
    common
        float32 (1 + directions, D), what was taken out of the vectors of a language model, as `text_encoder` takes it;
        None of other encoders.
    """
    if params.encoder == smollm2.NAME:
        vectors = smollm2.text_vectors(texts, params.maximum_tokens)
        common = common_of(vectors)
        return without_common(vectors, common), common
    if params.encoder != TFIDF:
        return text_encoder(texts, params)(texts), None
    return _fit(texts, params)[1], None


def text_encoder(texts: list[str], params: EmbedItemsParams, common: np.ndarray | None = None) -> TextEncoder:
    """Make the encoder of other texts, requests above all, into the space of the items' vectors.

    `TFIDF` is fitted on the items' texts again, which takes seconds and gives the same; its singular vectors, a row for
    every word and pair of words, would be larger than all else that the stage writes.

    Parameters
    ----------
    texts
        The items' texts, one per item.
    params
        Encoder, dimensions and seed.
    common
        As `embed_items_and_common` returned it; if not given, a language model reads all items again.
    """
    if params.encoder == smollm2.NAME:
        taken_out = embed_items_and_common(texts, params)[1] if common is None else common
        assert taken_out is not None
        read = smollm2.text_encoder(params.maximum_tokens)
        return lambda others: without_common(read(others), taken_out)
    if params.encoder != TFIDF:
        from symbiosis.text.encoder import embed, load  # a second of import, for sentence encoders only

        model = load(params.encoder, params.maximum_tokens, params.revision, block="embed_items")
        return lambda others: embed(model, others)
    return _fit(texts, params)[0]


def common_of(vectors: np.ndarray) -> np.ndarray:
    """Return what all vectors of a language model share: their mean, and the directions in which they differ most.

    These tell of frequency and length rather than of meaning: taking them out makes cosines tell texts apart (Mu and
    Viswanath 2018, All-but-the-top, arXiv 1702.01417).

    Parameters
    ----------
    vectors
        float32 (I, D); rows of zeros do not count.

    Returns
    -------
    float32 array of shape (1 + directions, D)
        The mean, then orthogonal directions of length 1; fewer where there are few items.
    """
    known = vectors[vectors.any(axis=1)].astype(np.float64)
    mean = known.mean(axis=0, keepdims=True) if len(known) else np.zeros((1, vectors.shape[1]))
    # Of less than twice as many items, the directions would be most of what there is.
    count = min(_DIRECTIONS, len(known) // 2)
    directions = np.linalg.eigh(np.cov(known.T, bias=True))[1][:, ::-1][:, :count].T if count else mean[:0]
    return np.concatenate([mean, directions]).astype(np.float32)


def without_common(vectors: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Take out what `common_of` found, and give rows length 1; rows of zeros stay zeros."""
    mean, directions = common[:1], common[1:]
    kept = (vectors - mean) * vectors.any(axis=1, keepdims=True)
    return _of_length_one(kept - (kept @ directions.T) @ directions)


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-6)


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
        return _of_length_one(np.pad(vectors, ((0, 0), (0, params.dimensions - vectors.shape[1]))))

    return lambda others: normalised(tfidf.encode(others)), normalised(tfidf.vectors)
