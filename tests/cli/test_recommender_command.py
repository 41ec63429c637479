"""Recommending and explaining from the command line: what is printed, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recommender_world import write_recommender

from symbiosis.cli.app import main
from symbiosis.core import layout
from symbiosis.core.artifacts import write_json
from symbiosis.graph.build import Graph


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recommender(tmp_path_factory.mktemp("made"))


@pytest.fixture
def say(folder: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> tuple[int, str]:
        status = main([*arguments, "--data-folder", str(folder)])
        told = capsys.readouterr()
        return status, told.out + told.err

    return run


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
    assert header.split() == ["rank", "item", "item_id", "score", "similarity", "title"]
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
        (["explain", "--user", "Dan", "--item", "B1"], "user 'Dan' is unknown"),
        (["recommend", "--user", "Ann", "--count", "0"], "count 0 must be"),
        (["recommend", "--user", "Ann", "--request", " "], "the text is empty"),
        (["recommend", "--user", "Ann", "--request", "zeppelin"], "'zeppelin' has no word"),
        (["recommend", "--user", "Ann", "--request", "tea", "--request-weight", "nan"], "text weight nan must be"),
        (["explain", "--user", "Ann", "--item", "B99"], "item 'B99' is unknown"),
        (["explain", "--user", "Ann", "--item", "B1", "--temperature", "-1"], "temperature -1.0 must be"),
    ],
)
def test_bad_input_ends_in_one_line(say: Any, arguments: list[str], message: str) -> None:
    status, told = say(*arguments)
    assert (status, told.count("\n")) == (1, 1)
    assert told.startswith("error: ")
    assert message in told


def test_nothing_made_yet(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", "--user", "0", "--data-folder", str(tmp_path)]) == 1
    assert "users.parquet is missing: run `dvc repro`" in capsys.readouterr().err
    (tmp_path / "data").symlink_to(folder / "data")
    assert main(["explain", "--user", "0", "--item", "0", "--data-folder", str(tmp_path)]) == 1
    assert "training.json is missing: run `dvc repro`" in capsys.readouterr().err
    assert main(["recommend", "--user", "0", "--data-folder", str(tmp_path)]) == 0  # by popularity, and it says so
    assert "note: the model cannot answer" in capsys.readouterr().err


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
