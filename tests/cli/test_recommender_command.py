"""Recommending and explaining from the command line: what is printed, and bad input."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from recommender_world import write_recommender

from symbiosis.cli.app import main
from symbiosis.core import layout
from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph
from symbiosis.recommender.inference import fact_writer, recommender


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


def items(told: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(told)["items"]
    return found


def test_recommend_lists_what_the_user_has_not_taken(say: Any) -> None:
    status, told = say("recommend", "--user", "Ann", "--count", "10", "--json")
    answer = json.loads(told)
    rows = answer["items"]
    assert status == 0
    assert (answer["method"], answer["note"], len(answer["model"])) == ("model", None, 16)
    assert sorted(row["item"] for row in rows) == [1, 2, 4, 5]  # 0 is of training, 3 of validation
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    assert len(items(say("recommend", "--user", "0", "--count", "2", "--json")[1])) == 2


def test_recommend_for_user_and_words(say: Any) -> None:
    status, told = say("recommend", "--user", "Ann", "--request", "garden glove")
    header, first, *_ = told.splitlines()
    assert status == 0
    assert header.split() == ["rank", "item", "item_id", "score", "similarity", "title", "brand", "price", "reason"]
    assert first.split()[1:3] == ["1", "B1"]
    assert " blue garden glove " in first
    assert first.endswith("like your words: garden, glove; same category: Garden")
    status, told = say("recommend", "--user", "Ben", "--request", "garden", "--json")
    assert {row["item"] for row in items(told)[:2]} == {0, 1}


def test_filters_stock_and_new_clicks(say: Any, tmp_path: Path) -> None:
    stock = tmp_path / "stock.txt"
    stock.write_text("B1\nB2\n\nB5\n")
    pl.DataFrame({"item_id": ["B2"]}).write_parquet(tmp_path / "sold.parquet")
    (tmp_path / "sold.csv").write_text("name,item_id\nteapot,B2\n")

    def found(*arguments: str) -> set[str]:
        status, told = say("recommend", "--json", *arguments)
        assert status == 0, told
        return {item["item_id"] for item in items(told)}

    assert found("--user", "Ann", "--allowed", str(stock)) == {"B1", "B2"}
    assert found("--user", "Ann", "--allowed", "B1, B2,B4") == {"B1", "B2", "B4"}
    for file in ("sold.parquet", "sold.csv"):
        assert found("--user", "Ann", "--allowed", str(stock), "--exclude", str(tmp_path / file)) == {"B1"}
    assert found("--user", "Ann", "--category", "GARDEN") == {"B1"}
    assert found("--user", "Ann", "--category", "garden", "--repeat-purchases") == {"B0", "B1"}
    assert found("--session", "B0", "--session", "B2", "--category", "garden", "--category", "kitchen") == {
        "B1", "B3", "B4"
    }  # fmt: skip
    assert found("--user", "Ann", "--price-to", "5") == set()
    assert "2" not in found("--user", "Ann", "--session", "2")


def test_what_is_not_known_is_noted_beside_the_items(say: Any) -> None:
    status, told = say("recommend", "--user", "Ann", "--brand", "Acme")
    assert status == 0
    assert told.splitlines() == ["no item is left", "note: no brand is called 'Acme'"]
    assert json.loads(say("recommend", "--user", "Ann", "--brand", "Acme", "--json")[1])["note"]


def test_written_reasons_are_the_models(say: Any) -> None:
    status, told = say("recommend", "--user", "Cy", "--count", "2", "--written", "--json")
    assert status == 0
    for item in items(told):
        explained = json.loads(say("explain", "--user", "Cy", "--item", item["item_id"], "--json")[1])
        assert item["written"] == explained["reason"]
    status, told = say("recommend", "--session", "B0", "--count", "1", "--written")
    assert status == 0
    assert "note: no reasons are written for a guest" in told


def test_reasons_from_facts_are_a_language_models(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def write(self, known: list[Any]) -> list[str]:
            return [""] * len(known)

    monkeypatch.setattr(fact_writer.FactWriter, "load", Silent)
    status, told = say("recommend", "--user", "Cy", "--count", "2", "--from-facts", "--json")
    assert status == 0
    told_items = [item for item in items(told) if item["reason"]]
    assert told_items
    for item in told_items:  # what says nothing is refused, and the facts stand in
        assert item["written"] == f"{item['title']}: {item['reason']}"
    status, told = say("recommend", "--user", "Cy", "--from-facts", "--written")
    assert (status, told) == (1, "error: --written and --from-facts are two ways to write reasons: choose one\n")


def test_all_users_into_a_file(say: Any, tmp_path: Path, folder: Path) -> None:
    output = tmp_path / "new" / "all.parquet"
    status, told = say("recommend", "--all", "--count", "3", "--output", str(output), "--exclude", "B1")
    assert (status, told) == (0, f"{output}: 9 rows of 3 users\n")
    table = pl.read_parquet(output)
    assert table.schema == {"user_id": pl.String, "rank": pl.Int32, "item_id": pl.String, "score": pl.Float32}
    for user in ("Ann", "Ben", "Cy"):
        single = items(say("recommend", "--user", user, "--count", "3", "--exclude", "B1", "--json")[1])
        rows = table.filter(pl.col("user_id") == user)
        assert rows["item_id"].to_list() == [item["item_id"] for item in single]
        assert rows["score"].to_list() == pytest.approx([item["score"] for item in single], abs=1e-3)
        assert rows["rank"].to_list() == [1, 2, 3]
    assert say("recommend", "--all", "--output", str(output), "--allowed", "nothing")[0] == 0
    assert pl.read_parquet(output).schema == table.schema
    assert pl.read_parquet(output).is_empty()


def test_all_users_or_no_file(say: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbiosis.recommender.inference.all_users.ROWS", 1)
    really = recommender.RankedUsers

    def breaks(users: Any, *others: Any) -> Any:
        if 2 in users:
            raise InputError("the disk is gone")
        return really(users, *others)

    monkeypatch.setattr(recommender, "_CELLS", 1)  # a user a block, and a block a row group
    assert say("recommend", "--all", "--output", str(tmp_path / "whole.parquet"))[0] == 0
    assert pq.ParquetFile(tmp_path / "whole.parquet").num_row_groups == 3
    monkeypatch.setattr(recommender, "RankedUsers", breaks)
    assert say("recommend", "--all", "--output", str(tmp_path / "half.parquet"))[0] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["whole.parquet"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--all"], "--all needs a file"),
        (["--all", "--output", "all.csv"], "all.csv: recommendations are written as parquet"),
        (["--all", "--output", "x.parquet", "--user", "Ann"], "leave out --user"),
        (["--all", "--output", "x.parquet", "--per-brand-limit", "1"], "leave out --per-brand-limit"),
        (["--all", "--output", "x.parquet", "--count", "0"], "count 0 must be"),
        (["--user", "Ann", "--output", "x.parquet"], "--output is the file of --all"),
        ([], "whom to recommend to is missing"),
        (["--user", "Ann", "--allowed", "gone.txt"], "gone.txt is missing"),
        (["--user", "Ann", "--exclude", "gone.parquet"], "gone.parquet is missing"),
        (["--user", "Ann", "--new-items", "gone.jsonl"], "gone.jsonl is missing"),
        (["--user", "Ann", "--price-from", "2", "--price-to", "1"], "price_from 2.0 is above price_to 1.0"),
        (["--user", "Ann", "--per-brand-limit", "0"], "per_brand_limit 0 must be"),
    ],
)
def test_wrong_options_end_in_one_line_before_anything_is_read(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recommend", *arguments]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert message in told
    assert list(tmp_path.iterdir()) == []


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
