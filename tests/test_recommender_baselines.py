"""The baselines: known answers, brute force, tuning, and the stage that ranks with them."""

import importlib
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from stages import baseline as stage
from symbiosis.errors import InputError
from symbiosis.recommender import baselines, ranking
from symbiosis.recommender.baselines import ease, item_knn
from symbiosis.recommender.baselines.base import Baseline, BaselineParams, tune
from symbiosis.recommender.baselines.ease import EASE
from symbiosis.recommender.baselines.item_knn import ItemKNN
from symbiosis.recommender.baselines.popularity import Popularity
from symbiosis.recommender.baselines.registry import BASELINES, BaselinesParams
from symbiosis.recommender.metrics import means
from symbiosis.recommender.ranking import rank_all, read_ranking, tie_order

GRIDS: dict[str, dict[str, list[Any]]] = {
    "chance": {},
    "popularity": {},
    "item_knn": {"neighbours": [3, 100], "shrinkage": [0, 5]},
    "ease": {"l2": [1, 100]},
}
PERSONAL = ["item_knn", "ease"]


def params_of(name: str) -> BaselineParams:
    return BASELINES[name].Params(seed=1, **GRIDS[name])


def random_split(users: int, items: int, seed: int) -> tuple[csr_array, csr_array, csr_array]:
    """Interactions without any structure, one held out per user and part."""
    rng = np.random.default_rng(seed)
    taken = np.argsort(rng.random((users, items)), axis=1)[:, :12]
    parts = []
    for chosen in (taken[:, :10], taken[:, 10:11], taken[:, 11:]):
        rows = np.repeat(np.arange(users), chosen.shape[1])
        parts.append(csr_array((np.ones(chosen.size, np.float32), (rows, chosen.ravel())), shape=(users, items)))
    return parts[0], parts[1], parts[2]


def checkerboard(size: int) -> csr_array:
    """Even users take the even items, odd users the odd ones; the diagonal is withheld (as in `implicit`'s tests)."""
    full = (np.arange(size)[:, None] + np.arange(size)) % 2 == 0
    return csr_array((full & ~np.eye(size, dtype=bool)).astype(np.float32))


def dense_ease(train: csr_array, l2: float) -> np.ndarray:
    """Equation 8 of the paper, word for word."""
    matrix = train.toarray().astype(np.float64)
    inverse = np.linalg.inv(matrix.T @ matrix + l2 * np.eye(matrix.shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("name", PERSONAL)
def test_the_checkerboard_is_solved_perfectly(name: str) -> None:
    train = checkerboard(40)
    for setting in params_of(name).settings():
        model = BASELINES[name](train, seed=0)
        model.fit(**setting)
        first = rank_all(model.scores, train, 1, seed=0)
        assert first.ravel().tolist() == list(range(40))


@pytest.mark.parametrize("name", list(BASELINES))
def test_data_without_structure_give_the_level_of_chance(name: str) -> None:
    users, items = 1500, 200
    train, validation, test = random_split(users, items, seed=4)
    found, _ = tune(BASELINES[name](train, 1), params_of(name), validation, 100)
    level = 20 / (items - 10)
    assert means(found, test)["recall@20"] == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / users))


@pytest.mark.parametrize("name", list(BASELINES))
def test_renumbering_the_items_leaves_the_metrics(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = 60, 30
    train, validation, _ = random_split(users, items, seed=5)
    before = tune(BASELINES[name](train, 1), params_of(name), validation, 30)
    number = np.random.default_rng(0).permutation(items)
    # The random order of ties is renumbered with the items: the same item has the same luck.
    for module in (ranking, item_knn):
        monkeypatch.setattr(module, "tie_order", lambda n, seed: tie_order(n, seed)[np.argsort(number)])
    renumbered = [csr_array(part.toarray()[:, np.argsort(number)]) for part in (train, validation)]
    after = tune(BASELINES[name](renumbered[0], 1), params_of(name), renumbered[1], 30)
    assert after[1] == before[1]
    if name != "ease":  # a factorisation in another order rounds otherwise
        np.testing.assert_array_equal(after[0], np.where(before[0] == -1, -1, number[before[0]]))


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_second_fit_forgets_the_first(name: str) -> None:
    train, _, _ = random_split(50, 30, seed=6)
    every = np.arange(50)
    model = BASELINES[name](train, seed=0)
    for setting in params_of(name).settings():
        model.fit(**setting)
        fresh = BASELINES[name](train, seed=0)
        fresh.fit(**setting)
        scores = model.scores(every)
        assert scores.dtype == np.float32
        assert scores.shape == (50, 30)
        np.testing.assert_array_equal(scores, fresh.scores(every))
        np.testing.assert_allclose(scores[[7, 3]], model.scores(np.array([7, 3])), rtol=1e-6)


def test_popularity_counts() -> None:
    train = csr_array(np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]], dtype=np.float32))
    model = Popularity(train, seed=0)
    model.fit()
    assert model.scores(np.array([0, 2])).tolist() == [[1, 3, 1], [1, 3, 1]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 5, 200]))
def test_ease_equals_the_direct_formula(seed: int, l2: float) -> None:
    rng = np.random.default_rng(seed)
    train = csr_array((rng.random((25, 14)) < 0.3).astype(np.float32))
    model = EASE(train, seed=0)
    model.fit(l2=l2)
    np.testing.assert_allclose(model.weights, dense_ease(train, l2), atol=2e-5)
    np.testing.assert_allclose(model.scores(np.arange(25)), train @ dense_ease(train, l2), atol=1e-4)


def test_ease_with_more_items_than_one_block_mirrors() -> None:
    rng = np.random.default_rng(0)
    train = csr_array((rng.random((300, 1100)) < 0.01).astype(np.float32))
    model = EASE(train, seed=0)
    model.fit(l2=20)
    np.testing.assert_allclose(model.weights, dense_ease(train, 20), atol=1e-5)


def test_ease_refuses_a_penalty_that_is_too_small() -> None:
    twins = csr_array(np.ones((4, 2), np.float32))  # their Gram matrix has exact square roots
    with pytest.raises(InputError, match=r"baselines\.ease\.l2`: 1e-12 is too small"):
        EASE(twins, seed=0).fit(l2=1e-12)
    with pytest.raises(ValueError, match="greater than 0"):
        ease.EASEParams(seed=0, l2=[0])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 14), st.sampled_from([0, 3]))
def test_item_knn_equals_brute_force(seed: int, neighbours: int, shrinkage: float) -> None:
    rng = np.random.default_rng(seed)
    train = csr_array((rng.random((25, 14)) < 0.3).astype(np.float32))
    dense, ties = train.toarray().astype(np.float64), tie_order(14, 3)
    expected = np.zeros((14, 14))
    for item in range(14):
        similar = {}
        for other in range(14):
            common = (dense[:, item] * dense[:, other]).sum()
            if other != item and common > 0:
                similar[other] = common / (np.sqrt(dense[:, item].sum() * dense[:, other].sum()) + shrinkage)
        for other in sorted(similar, key=lambda o: (similar[o], ties[o]), reverse=True)[:neighbours]:
            expected[other, item] = similar[other]
    model = ItemKNN(train, seed=3)
    model.fit(neighbours=neighbours, shrinkage=shrinkage)
    np.testing.assert_allclose(model.scores(np.arange(25)), dense @ expected, rtol=1e-6)


class Oracle(Baseline):
    """Ranks one part of the split perfectly, or as badly as can be if `honest` is 0."""

    class Params(BaselineParams):
        honest: list[int]

    held_out: csr_array

    def fit(self, honest: int) -> None:
        self.honest = honest

    def scores(self, users: np.ndarray) -> np.ndarray:
        known = self.held_out[users].toarray()
        return known if self.honest else -known


def test_the_setting_that_ranks_validation_best_wins() -> None:
    train, validation, _ = random_split(40, 150, seed=8)
    oracle = Oracle(train, seed=0)
    oracle.held_out = validation
    ranked, record = tune(oracle, Oracle.Params(seed=0, honest=[0, 1, 2]), validation, 110)
    assert record["setting"] == {"honest": 1}  # 2 is as good, but later
    assert record["validation"] == {"recall@20": 1, "recall@40": 1, "ndcg@100": 1}
    assert [tried["validation"]["ndcg@100"] for tried in record["tried"]] == [0, 1, 1]
    assert means(ranked, validation) == record["validation"]


def test_every_combination_is_tried_in_order() -> None:
    grid = item_knn.ItemKNNParams(seed=1, neighbours=[5, 9], shrinkage=[0, 2])
    assert [tuple(setting.values()) for setting in grid.settings()] == [(5, 0), (5, 2), (9, 0), (9, 2)]
    assert list(params_of("popularity").settings()) == [{}]


def test_a_name_is_that_of_the_module() -> None:
    modules = {info.name for info in pkgutil.iter_modules(baselines.__path__)} - {"base", "registry"}
    assert modules == set(BASELINES) == set(BaselinesParams.model_fields)
    for name, kind in BASELINES.items():
        assert kind.__module__ == importlib.import_module(f"symbiosis.recommender.baselines.{name}").__name__


def write_split(folder: Path, parts: dict[str, csr_array]) -> None:
    clean = folder / "data/clean"
    clean.mkdir(parents=True, exist_ok=True)
    users, items = next(iter(parts.values())).shape
    pl.DataFrame({"user": range(users)}, schema={"user": pl.UInt32}).write_parquet(clean / "users.parquet")
    pl.DataFrame({"item": range(items)}, schema={"item": pl.UInt32}).write_parquet(clean / "items.parquet")
    for name, part in parts.items():
        pairs = part.tocoo()
        schema = {"user": pl.UInt32, "item": pl.UInt32}
        pl.DataFrame({"user": pairs.row, "item": pairs.col}, schema=schema).write_parquet(clean / f"{name}.parquet")


@pytest.mark.parametrize("name", list(BASELINES))
def test_the_stage_never_looks_at_the_test(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, validation, test = random_split(50, 140, seed=9)
    write_split(tmp_path, {"train": train, "validation": validation, "test": test})
    stage.work(name, params_of(name))
    folder = tmp_path / "data/rankings" / name
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (tmp_path / "data/clean/test.parquet").write_bytes(b"poisoned")
    stage.work(name, params_of(name))
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}
    assert read_ranking(folder / "ranking.npy", train, 101).shape == (50, 101)
    record = json.loads(before["tuning.json"])
    assert len(record["tried"]) == len(list(params_of(name).settings()))
    assert {"setting": record["setting"], "validation": record["validation"]} in record["tried"]


def test_a_wrong_name_is_told_in_one_line() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "stages.baseline", "eas"], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 2
    assert "invalid choice: 'eas' (choose from 'chance', 'popularity', 'item_knn', 'ease')" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_seed_of_the_ties_is_that_of_the_params() -> None:
    train, validation, _ = random_split(30, 50, seed=2)
    rankings = []
    for seed in (1, 1, 2):
        params = BASELINES["chance"].Params(seed=seed)
        rankings.append(tune(BASELINES["chance"](train, seed), params, validation, 50)[0])
    np.testing.assert_array_equal(rankings[0], rankings[1])
    assert (rankings[0] != rankings[2]).any()
