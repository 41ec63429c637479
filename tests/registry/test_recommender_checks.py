"""Recommenders for the same held-out users: by hand, on common ground, and models that were fitted to everything."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from gate_world import PARAMS

from symbiosis.core import layout
from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.graph.build import build_graph
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS
from symbiosis.registry.checks.check import Check
from symbiosis.registry.checks.recommender import KEPT, recommender_checks
from symbiosis.registry.checks.users import MODEL, SPLIT, Part

USERS, ITEMS = 30, 40
SCORES = layout.FINETUNED / "scores.npy"


@pytest.fixture(autouse=True)
def networks_are_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place of a trained network takes a table of scores by user and item."""
    monkeypatch.setattr(Part, "scores", lambda part: lambda users: np.load(part.folder / SCORES)[users])


def write_workspace(
    root: Path, *, users: int = USERS, items: int = ITEMS, held_out: int = 7, leak: bool = False, turn: int = 0
) -> Path:
    """Write a split in which user u took item u in training, u + 1 for validation, and u + `held_out` is held out.

    All modulo the number of items; `turn`: number users and items from another one on; `leak`: the graph knows all.
    """
    for path in (layout.CLEAN, layout.GRAPH, layout.PROPAGATION):
        (root / path).mkdir(parents=True)
    people, things = (np.roll(np.arange(n), -turn) for n in (users, items))
    number = np.argsort(things)  # of an item's name
    ids = {"user_id": [f"u{name}" for name in people], "user": np.arange(users, dtype=np.uint32)}
    pl.DataFrame(ids).write_parquet(root / layout.USERS)
    names = [f"i{name}" for name in things]
    pl.DataFrame({"item_id": names, "item": np.arange(items, dtype=np.uint32)}).write_parquet(root / layout.ITEMS)

    def pairs(step: int) -> pl.DataFrame:
        taken = number[(people + step) % items]
        both = pl.DataFrame({"user": np.arange(users, dtype=np.uint32), "item": taken.astype(np.uint32)})
        return both.with_columns(timestamp=pl.lit(step))

    parts = {layout.TRAIN: pairs(0), layout.VALIDATION: pairs(1), layout.TEST: pairs(held_out)}
    for path, part in parts.items():
        part.write_parquet(root / path)
    table = pl.DataFrame(
        {"item": np.arange(items, dtype=np.uint32), "brand": [None] * items, "categories": [None] * items},
        schema_overrides={"brand": pl.String, "categories": pl.List(pl.String)},
    )
    edges = pl.concat([parts[layout.TRAIN], parts[layout.TEST]]) if leak else parts[layout.TRAIN]
    graph = build_graph(users, table, edges, BuildGraphParams(minimum_group=2, maximum_group_share=0.5))
    graph.save(root / layout.GRAPH)
    (root / layout.PROPAGATION / "walks").write_text("none")
    return root


def write_bundle(root: Path, folder: Path, scores: np.ndarray, data: str = "train") -> Path:
    """Write the model of a workspace into it and, as a bundle, into a folder."""
    (root / layout.FINETUNED).mkdir(parents=True, exist_ok=True)
    np.save(root / SCORES, scores.astype(np.float32))
    for path in (*SPLIT, *MODEL):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (root / path).is_dir() else shutil.copyfile)(root / path, target)
    made_from = {path.as_posix(): sha256_of(root / path) for path in (*SPLIT, *MODEL)}
    if data == "all":
        everything = pl.concat([pl.read_parquet(root / path) for path in SPLIT[2:]])
        everything.write_parquet(folder / layout.TRAIN)
        for path in (layout.VALIDATION, layout.TEST):
            everything.clear().write_parquet(folder / path)
    write_json(folder / "bundle.json", {"data": data, "made_from": made_from})
    return folder


def knows(root: Path, share: float) -> np.ndarray:
    """Scores that put the held-out item first for a share of the users, and last for the others."""
    test = pl.read_parquet(root / layout.TEST)
    part = Part(root)
    scores = np.random.default_rng(0).random((len(part.users), len(part.items)))
    first = np.arange(len(part.users)) < share * len(part.users)
    scores[test["user"].to_numpy(), test["item"].to_numpy()] = np.where(first, 2.0, -1.0)
    return scores


def judged(candidate: Path, champion: Path | None, root: Path) -> dict[str, Check]:
    return {check.name: check for check in recommender_checks(candidate, champion, root, PARAMS)}


def test_by_hand(tmp_path: Path) -> None:
    """One item is held out for each user: the recall is the share of the users who get it."""
    root = write_workspace(tmp_path / "work")
    poor = write_bundle(root, tmp_path / "poor", knows(root, 0.5))
    good = write_bundle(root, tmp_path / "good", knows(root, 0.8))
    better = judged(good, poor, root)
    assert list(better) == ["Recall@20", "Recall@40", "NDCG@100"]
    assert better["Recall@20"].value == pytest.approx(0.8 - 0.5)
    assert better["Recall@20"].words.startswith("Recall@20 0.8000, the champion's 0.5000, of 30 users: +0.3000 [")
    assert better["Recall@20"].passed
    # The last of the 38 candidates is among 40 places, at a gain of 1 / log2(39) of 1.
    assert better["Recall@40"].value == 0
    assert better["NDCG@100"].value == pytest.approx(0.3 * (1 - 1 / np.log2(39)), abs=1e-5)
    assert [check.decides for check in better.values()] == [True, False, False]
    worse = judged(poor, good, root)
    assert not worse["Recall@20"].passed
    assert worse["Recall@20"].low == pytest.approx(-(better["Recall@20"].high or 0))
    same = judged(good, good, root)
    assert [check.value for check in same.values()] == [0, 0, 0]
    assert same["Recall@20"].passed


def test_the_first_is_compared_with_popularity(tmp_path: Path) -> None:
    root = write_workspace(tmp_path / "work")
    first = judged(write_bundle(root, tmp_path / "good", knows(root, 1.0)), None, root)
    assert first["Recall@20"].passed
    assert "less that of the most popular items" in first["Recall@20"].words
    assert not judged(write_bundle(root, tmp_path / "poor", knows(root, 0.0)), None, root)["Recall@20"].passed


def test_on_common_ground(tmp_path: Path) -> None:
    """A champion of earlier data numbers users and items otherwise, lacks some, and knows what is held out now."""
    old = write_workspace(tmp_path / "old", users=25, items=38, held_out=9, turn=3)
    knowing = knows(old, 1.0)
    champion = write_bundle(old, tmp_path / "champion", knowing)
    root = write_workspace(tmp_path / "work")
    test = pl.read_parquet(root / layout.TEST)
    # For u4 the champion was trained on what is held out now.
    row = {"user": [1], "item": [8], "timestamp": [0]}  # u4, i11
    extra = pl.DataFrame(row).cast(pl.read_parquet_schema(champion / layout.TRAIN))
    pl.concat([pl.read_parquet(champion / layout.TRAIN), extra]).write_parquet(champion / layout.TRAIN)
    assert test.filter(pl.col("user") == 4)["item"].to_list() == [11]
    candidate = write_bundle(root, tmp_path / "candidate", knows(root, 1.0))
    check = judged(candidate, champion, root)["Recall@20"]
    for words in (
        "of 24 users", "38 of 40 items, which both know", "without 5 users whom the champion does not know",
        "without 1 held-out interactions that the champion has learned from",
        "the champion ranks by the history that it was trained with",
    ):  # fmt: skip
        assert words in check.words, words
    assert check.value is not None
    assert check.value > 0
    # A champion that scores as the candidate does, under its own numbers, is its equal.
    ours, theirs = Part(root), Part(old)
    rows = [ours.users.index(name) for name in theirs.users]
    columns = [ours.items.index(name) for name in theirs.items]
    np.save(champion / SCORES, knows(root, 1.0)[np.ix_(rows, columns)].astype(np.float32))
    assert [one.value for one in judged(candidate, champion, root).values()] == [0, 0, 0]


def test_fitted_to_everything(tmp_path: Path) -> None:
    """The measured model decides in its place, and what that reached is kept for the time when it is champion."""
    root = write_workspace(tmp_path / "work")
    fitted = write_bundle(root, tmp_path / "all", knows(root, 0.6), "all")
    np.save(fitted / SCORES, knows(root, 1.0).astype(np.float32))  # it knows all by now
    poor = tmp_path / "poor"
    shutil.copytree(fitted, poor)
    first = judged(fitted, None, root)["Recall@20"]
    assert "the measured model stands for the candidate" in first.words
    assert len(list((root / KEPT).iterdir())) == 1
    later = write_bundle(root, tmp_path / "later", knows(root, 0.8))
    check = judged(later, fitted, root)["Recall@20"]
    assert check.value == pytest.approx(0.8 - 0.6)
    assert "the measured model stands for the champion" in check.words
    shutil.rmtree(root / KEPT)
    with pytest.raises(InputError, match="what its measured model reached was not kept here"):
        recommender_checks(later, fitted, root, PARAMS)
    # By now the workspace holds another measured model than the one that was fitted on.
    with pytest.raises(InputError, match="models/finetune is not what the candidate was made from"):
        recommender_checks(fitted, None, root, PARAMS)
    recommender_checks(later, None, root, PARAMS, keep=False)
    assert not (root / KEPT).exists()


def test_what_refuses(tmp_path: Path) -> None:
    """A graph that knows the test, a workspace that has moved on, too few users, a bundle that says nothing."""
    leaky = write_workspace(tmp_path / "leaky", leak=True)
    (check,) = recommender_checks(write_bundle(leaky, tmp_path / "a", knows(leaky, 1.0)), None, leaky, PARAMS)
    assert not check.passed
    assert "the candidate's graph holds 30 held-out interactions" in check.words
    root = write_workspace(tmp_path / "work")
    bundle = write_bundle(root, tmp_path / "b", knows(root, 1.0))
    moved = write_workspace(tmp_path / "moved", held_out=5)
    with pytest.raises(InputError, match=r"data/clean/test\.parquet is not what the candidate was made from"):
        recommender_checks(bundle, None, moved, PARAMS)
    few = write_workspace(tmp_path / "few", users=19)
    with pytest.raises(InputError, match="19 users have held-out items to compare by, 20 are needed"):
        recommender_checks(write_bundle(few, tmp_path / "c", knows(few, 1.0)), None, few, PARAMS)
    strangers = write_bundle(root, tmp_path / "d", knows(root, 1.0))
    names = pl.read_parquet(strangers / layout.USERS).with_columns(pl.col("user_id").str.to_uppercase())
    names.write_parquet(strangers / layout.USERS)
    with pytest.raises(InputError, match="no user, or no item, in common"):
        recommender_checks(bundle, strangers, root, PARAMS)
    write_json(bundle / "bundle.json", read_json(bundle / "bundle.json") | {"data": "some"})
    with pytest.raises(InputError, match=r"bundle\.json: `data`"):
        recommender_checks(bundle, None, root, PARAMS)


def test_metrics_are_those_of_the_reports() -> None:
    assert list(HELD_OUT_SETS.metrics) == ["recall@20", "recall@40", "ndcg@100"]
