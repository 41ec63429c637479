"""The recommender in service: whom it answers, by what, and what it says when it cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from recommender_world import TITLES, USERS, items_table, write_recommender

from symbiosis.core import layout
from symbiosis.core.errors import InputError
from symbiosis.core.serving import serving_folder
from symbiosis.graph.build import build_graph
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.inference.asking import RecommendationRequest as Request
from symbiosis.recommender.inference.recommender import Recommender

EVERYTHING = len(TITLES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_recommender(tmp_path_factory.mktemp("made"))
    group = BuildGraphParams(minimum_group=2, maximum_group_share=0.5)
    build_graph(USERS, items_table(), pl.read_parquet(root / layout.TRAIN), group).save(root / layout.GRAPH)
    return root


@pytest.fixture(scope="module")
def recommender(folder: Path) -> Recommender:
    return Recommender.open(folder)


def listed(recommender: Recommender, **asked: object) -> list[int]:
    return [item.item for item in recommender.recommend(Request(count=EVERYTHING, **asked)).items]  # type: ignore[arg-type]


# ------------------------------------------------------------------ who asks


def test_a_known_user_gets_what_he_has_not_taken(recommender: Recommender) -> None:
    answer = recommender.recommend(Request("Ann", count=2))
    assert (answer.method, answer.note, len(answer.items)) == ("model", None, 2)
    assert len(answer.model) == 16
    assert [item.rank for item in answer.items] == [1, 2]
    assert sorted(listed(recommender, user="Ann")) == [1, 2, 4, 5]  # 0 is of training, 3 of validation
    assert sorted(listed(recommender, user=0, repeat_purchases=True)) == list(range(EVERYTHING))


def test_newer_clicks_are_taken_and_change_the_scores(recommender: Recommender) -> None:
    before = {item.item: item.score for item in recommender.recommend(Request("Ben", count=9)).items}
    after = {item.item: item.score for item in recommender.recommend(Request("Ben", ("B4", "B0"), count=9)).items}
    assert set(before) - set(after) == {4, 0}
    assert all(after[item] != before[item] for item in after)
    known = recommender.recommend(Request("Ben", ("B2",), count=9)).items  # what he took in training
    assert {item.item: item.score for item in known} == before


def test_a_guest_is_answered_by_his_session(recommender: Recommender) -> None:
    answer = recommender.recommend(Request(session=("B1", "B3"), count=9))
    assert (answer.method, answer.note) == ("model", None)
    assert sorted(item.item for item in answer.items) == [0, 2, 4, 5]
    other = recommender.recommend(Request(session=("B5", "B3"), count=9))
    assert "'B5' of the session is unknown and left out" in (other.note or "")
    assert sorted(item.item for item in other.items) == [0, 1, 2, 4, 5]


def test_words_alone_ask_for_the_nearest_texts(recommender: Recommender) -> None:
    answer = recommender.recommend(Request(text="garden glove", count=2))
    assert (answer.method, answer.note) == ("text", None)
    assert [item.item for item in answer.items] == [0, 1]  # one user took 0, nobody 1
    first, second = answer.items
    assert first.score == pytest.approx(np.log(2) + 10 * (first.similarity or 0), rel=1e-5)
    assert second.score == pytest.approx(10 * (second.similarity or 0), rel=1e-5)
    assert set(listed(recommender, user="Ben", text="garden", text_weight=1e4)[:2]) == {0, 1}


def test_what_nobody_knows_is_answered_by_popularity_and_said(recommender: Recommender) -> None:
    answer = recommender.recommend(Request("Dan", count=9))
    assert answer.method == "popularity"
    assert answer.note == "user 'Dan' is unknown; these are the most popular items"
    assert {item.item for item in answer.items[:3]} == {0, 2, 5}  # one user each in training
    assert [item.score for item in answer.items] == [1, 1, 1, 0, 0, 0]
    answer = recommender.recommend(Request(session=("X1", "X2")))
    assert answer.method == "popularity"
    assert "2 items of the session are unknown and left out, 'X1' among them" in (answer.note or "")
    guest = recommender.recommend(Request("Dan", ("B1",)))
    assert guest.method == "model"
    assert guest.note == "user 'Dan' is unknown; answered as to a guest"
    assert recommender.recommend(Request("Dan", text="garden")).method == "text"


# ------------------------------------------------------------------ what is damaged


def gone(file: Path) -> None:
    file.unlink()


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def of_others(file: Path) -> None:
    other = write_recommender(file.parents[2] / "other")
    described = json.loads((other / layout.FINETUNED / "config.json").read_text())
    file.write_text(json.dumps(described | {"n_items": 5}))


def incomplete(file: Path) -> None:
    file.write_text('{"bias": "ones"}')


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", gone),
        ("model.safetensors", cut),
        ("config.json", cut),
        ("config.json", of_others),
        ("tokenizer.json", cut),
        ("training.json", gone),
        ("training.json", incomplete),
    ],
)
def test_without_its_model_it_answers_by_words_or_popularity(
    name: str, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    damaged = Recommender.open(write_recommender(tmp_path / "made"))
    damage(tmp_path / "made" / layout.FINETUNED / name)
    answer = damaged.recommend(Request("Ann", count=9))
    assert answer.method == "popularity"
    assert (answer.note or "").startswith("the model cannot answer (")
    assert name.split(".")[0] in (answer.note or "") or "model" in (answer.note or "")
    assert "\n" not in (answer.note or "")
    assert sorted(item.item for item in answer.items) == [1, 2, 4, 5]
    assert damaged.recommend(Request("Ann", text="garden")).method == "text"
    with pytest.raises(InputError):
        damaged.recommend_many()


def test_a_text_that_cannot_be_compared_is_left_out(tmp_path: Path) -> None:
    damaged = Recommender.open(write_recommender(tmp_path / "made"))
    (tmp_path / "made" / layout.EMBEDDINGS / "encoder.json").write_text("{}")
    answer = damaged.recommend(Request("Ann", text="garden"))
    assert answer.method == "model"
    assert "the text is left out (" in (answer.note or "")
    assert damaged.recommend(Request(text="garden")).method == "popularity"


# ------------------------------------------------------------------ new items


NEW = pl.DataFrame(
    {
        "item_id": ["N1", "N2"],
        "title": ["green garden glove", "zeppelin"],
        "brand": [None, "Acme"],
        "categories": [["Garden"], None],
        "price": [None, 9.5],
    },
    schema_overrides={"brand": pl.String},
)


def test_new_items_are_recommended_and_leave_the_others_as_they_are(recommender: Recommender) -> None:
    more = recommender.with_items(NEW)
    before = {item.item: item for item in recommender.recommend(Request("Ann", count=99)).items}
    after = {item.item: item for item in more.recommend(Request("Ann", count=99)).items}
    assert set(after) - set(before) == {6, 7}
    for item, described in before.items():
        assert after[item].score == pytest.approx(described.score, abs=1e-5)
    assert (after[7].item_id, after[7].title, after[7].brand, after[7].price) == ("N2", "zeppelin", "Acme", 9.5)
    assert {item.item for item in more.recommend(Request(text="garden glove", count=3)).items} == {0, 1, 6}
    assert 6 in [item.item for item in more.recommend(Request("Ann", count=99, text="garden glove")).items[:2]]
    guest = more.recommend(Request(session=("N1",), count=99))
    assert (guest.method, guest.note) == ("model", None)
    assert sorted(item.item for item in guest.items) == [0, 1, 2, 3, 4, 5, 7]
    assert len(recommender.recommend(Request("Ann", count=99)).items) == 4  # itself it knows none of them


def test_new_items_come_in_several_steps(recommender: Recommender) -> None:
    once, twice = recommender.with_items(NEW), recommender.with_items(NEW[:1]).with_items(NEW[1:])
    asked = Request("Cy", count=99, text="garden")
    assert twice.recommend(asked) == once.recommend(asked)
    with pytest.raises(InputError, match="new item 1: 'N1' is the id of"):
        twice.with_items(NEW[:1])
    with pytest.raises(InputError, match="'N1' is new"):
        once.explain("Ann", "N1")


# ------------------------------------------------------------------ many users


def test_many_users_are_answered_as_one_by_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbiosis.recommender.inference.recommender._CELLS", 2 * (EVERYTHING + 2))  # two users a block
    recommender = Recommender.open(folder).with_items(NEW)
    for repeat in (False, True):
        blocks = list(recommender.recommend_many(count=99, repeat_purchases=repeat))
        assert [block.users.tolist() for block in blocks] == [[0, 1], [2]]
        for block in blocks:
            for user, items, scores in zip(block.users, block.items, block.scores, strict=True):
                alone = recommender.recommend(Request(int(user), count=99, repeat_purchases=repeat)).items
                assert items[: len(alone)].tolist() == [item.item for item in alone]
                assert (items[len(alone) :] == -1).all()
                np.testing.assert_allclose(scores[: len(alone)], [item.score for item in alone], atol=1e-5)
                assert np.isnan(scores[len(alone) :]).all()


def test_many_users_with_few_candidates(recommender: Recommender) -> None:
    stock = np.zeros(EVERYTHING, dtype=bool)
    stock[[0, 2]] = True
    (block,) = recommender.recommend_many(np.array([1, 0]), 3, candidates=stock)
    assert block.items.tolist() == [[0, -1, -1], [2, -1, -1]]  # Ben took 2 and Ann 0
    with pytest.raises(InputError, match="count 0"):
        recommender.recommend_many(count=0)
    assert not list(recommender.recommend_many(np.array([], dtype=np.int64)))


# ------------------------------------------------------------------ what is asked, and what serves


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "give a user, the items of a session, or a text"),
        ({"user": 1, "count": 0}, "count 0 must be"),
        ({"text": " "}, "the text is empty"),
        ({"text": "x" * 10_001}, "10,001 characters"),
        ({"user": 1, "text_weight": float("nan")}, "text weight nan"),
        ({"user": 1, "price_from": -1.0}, "price_from -1.0"),
        ({"user": 1, "price_from": 2.0, "price_to": 1.0}, "exchange them"),
        ({"user": 1, "per_brand_limit": 0}, "per_brand_limit 0"),
        ({"user": 1, "excluded": (3,)}, "excluded holds 3"),
        ({"session": ("a",) * 10_001}, "10,001 items"),
    ],
)
def test_requests_that_cannot_be_answered_are_refused(asked: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Request(**asked)  # type: ignore[arg-type]


def test_the_champion_serves_then_the_final_fit_then_the_workspace(tmp_path: Path) -> None:
    assert serving_folder("recommender", tmp_path) == tmp_path
    (tmp_path / layout.RECOMMENDER).mkdir(parents=True)
    assert serving_folder("recommender", tmp_path) == tmp_path / layout.RECOMMENDER
    bundle = write_recommender(tmp_path / layout.CHAMPIONS / "recommender" / "versions" / "abc")
    (bundle / "version.json").write_text('{"digest": "abc"}')
    (tmp_path / layout.CHAMPION_RECOMMENDER).symlink_to(bundle)
    assert serving_folder("recommender", tmp_path) == bundle.resolve()
    champion = Recommender.open(serving_folder("recommender", tmp_path))
    assert champion.recommend(Request(USERS - 1)).model == "abc"
    (bundle / "version.json").write_text("[]")
    assert len(Recommender.open(bundle).recommend(Request(1)).model) == 16
    assert replace(champion.recommend(Request(1)), model="") == replace(
        Recommender.open(write_recommender(tmp_path / "same")).recommend(Request(1)), model=""
    )


@pytest.mark.parametrize(("protocol", "read"), [("random", {0}), ("last_out", {0, 3})])
def test_what_serves_reads_the_history_that_was_measured(protocol: str, read: set[int], tmp_path: Path) -> None:
    folder = write_recommender(tmp_path)
    (folder / layout.PROTOCOL).write_text(f'{{"protocol": "{protocol}"}}')
    assert set(Recommender.open(folder).parts.history[[0]].indices.tolist()) == read
