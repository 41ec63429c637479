"""The baselines: known answers, brute force, tuning, and the stage that ranks with them."""

import importlib
import itertools
import json
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from stages import baseline as stage
from symbiosis.core.errors import InputError
from symbiosis.recommender import baselines
from symbiosis.recommender.baselines import ease, item_knn, rp3beta, slim
from symbiosis.recommender.baselines.base import (
    Baseline,
    BaselineParams,
    IterativeBaseline,
    IterativeParams,
    learn,
    tune,
)
from symbiosis.recommender.baselines.ease import EASE
from symbiosis.recommender.baselines.ials import IALS
from symbiosis.recommender.baselines.item_knn import ItemKNN
from symbiosis.recommender.baselines.popularity import Popularity
from symbiosis.recommender.baselines.registry import BASELINES, BaselinesParams
from symbiosis.recommender.baselines.rp3beta import RP3beta
from symbiosis.recommender.baselines.slim import SLIM
from symbiosis.recommender.data.training_data import TrainingData, read_training_data
from symbiosis.recommender.metrics import ranking
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS
from symbiosis.recommender.metrics.ranking import rank_all, read_ranking, tie_order

GRIDS: dict[str, dict[str, list[Any]]] = {
    "chance": {},
    "popularity": {},
    "item_knn": {"neighbours": [3, 100], "shrinkage": [0, 5]},
    "rp3beta": {"alpha": [0, 0.7], "beta": [0, 0.3], "neighbours": [100]},
    "ease": {"l2": [1, 100]},
    "slim": {"l1": [0, 0.5], "l2": [1, 50]},
    "ials": {"dimension": [4, 30], "unobserved_weight": [0.2], "l2": [0.003]},
}
EPOCHS = {"epochs": 12, "patience": 12}
PERSONAL = ["item_knn", "rp3beta", "ease", "slim", "ials"]
DRAWN = ["ials"]
"""What is drawn for an item depends on its number."""


def params_of(name: str) -> BaselineParams:
    kind = BASELINES[name].Params
    return kind(seed=1, **GRIDS[name], **(EPOCHS if issubclass(kind, IterativeParams) else {}))


def learned(name: str, data: TrainingData, setting: dict[str, Any]) -> Baseline:
    """The baseline after its last epoch."""
    model = BASELINES[name](data, seed=0)
    for _ in learn(model, params_of(name), setting):
        pass
    return model


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
        model = learned(name, TrainingData(train), setting)
        first = rank_all(model.scores, train, 1, seed=0)
        assert first.ravel().tolist() == list(range(40))


@pytest.mark.parametrize("name", list(GRIDS))
def test_data_without_structure_give_the_level_of_chance(name: str) -> None:
    users, items = 1500, 200
    train, validation, test = random_split(users, items, seed=4)
    found = tune(BASELINES[name](TrainingData(train), 1), params_of(name), validation, 100)
    level = 20 / (items - 10)
    assert HELD_OUT_SETS.means(found.ranking, test)["recall@20"] == pytest.approx(
        level, abs=4 * np.sqrt(level * (1 - level) / users)
    )


@pytest.mark.parametrize("name", [name for name in GRIDS if name not in DRAWN])
def test_renumbering_the_items_leaves_the_metrics(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    users, items = 60, 30
    train, validation, _ = random_split(users, items, seed=5)
    before = tune(BASELINES[name](TrainingData(train), 1), params_of(name), validation, 30)
    number = np.random.default_rng(0).permutation(items)
    # The random order of ties is renumbered with the items: the same item has the same luck.
    for module in (ranking, item_knn, rp3beta):
        monkeypatch.setattr(module, "tie_order", lambda n, seed: tie_order(n, seed)[np.argsort(number)])
    renumbered = [csr_array(part.toarray()[:, np.argsort(number)]) for part in (train, validation)]
    after = tune(BASELINES[name](TrainingData(renumbered[0]), 1), params_of(name), renumbered[1], 30)
    assert after[1] == before[1]
    if name not in ("ease", "slim"):  # a factorisation in another order rounds otherwise
        np.testing.assert_array_equal(after[0], np.where(before[0] == -1, -1, number[before[0]]))


@pytest.mark.parametrize("name", list(GRIDS))
def test_a_second_fit_forgets_the_first(name: str) -> None:
    train, _, _ = random_split(50, 30, seed=6)
    every = np.arange(50)
    model = BASELINES[name](TrainingData(train), seed=0)
    for setting in params_of(name).settings():
        assert list(learn(model, params_of(name), setting))
        fresh = learned(name, TrainingData(train), setting)
        scores = model.scores(every)
        assert scores.dtype == np.float32
        assert scores.shape == (50, 30)
        np.testing.assert_array_equal(scores, fresh.scores(every))
        np.testing.assert_allclose(scores[[7, 3]], model.scores(np.array([7, 3])), rtol=1e-5, atol=1e-6)


def test_popularity_counts() -> None:
    train = csr_array(np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]], dtype=np.float32))
    model = Popularity(TrainingData(train), seed=0)
    model.fit()
    assert model.scores(np.array([0, 2])).tolist() == [[1, 3, 1], [1, 3, 1]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 5, 200]))
def test_ease_equals_the_direct_formula(seed: int, l2: float) -> None:
    rng = np.random.default_rng(seed)
    train = csr_array((rng.random((25, 14)) < 0.3).astype(np.float32))
    model = EASE(TrainingData(train), seed=0)
    model.fit(l2=l2)
    np.testing.assert_allclose(model.weights, dense_ease(train, l2), atol=2e-5)
    np.testing.assert_allclose(model.scores(np.arange(25)), train @ dense_ease(train, l2), atol=1e-4)


def test_ease_with_more_items_than_one_block_mirrors() -> None:
    rng = np.random.default_rng(0)
    train = csr_array((rng.random((300, 1100)) < 0.01).astype(np.float32))
    model = EASE(TrainingData(train), seed=0)
    model.fit(l2=20)
    np.testing.assert_allclose(model.weights, dense_ease(train, 20), atol=1e-5)


def test_ease_refuses_a_penalty_that_is_too_small() -> None:
    twins = csr_array(np.ones((4, 2), np.float32))  # their Gram matrix has exact square roots
    with pytest.raises(InputError, match="`l2` 1e-12 of EASE is too small"):
        EASE(TrainingData(twins), seed=0).fit(l2=1e-12)
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
    model = ItemKNN(TrainingData(train), seed=3)
    model.fit(neighbours=neighbours, shrinkage=shrinkage)
    np.testing.assert_allclose(model.scores(np.arange(25)), dense @ expected, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([(0, 0), (0.4, 0.3), (1.5, 1)]), st.integers(1, 14))
def test_rp3beta_equals_brute_force(seed: int, exponents: tuple[float, float], neighbours: int) -> None:
    alpha, beta = exponents
    rng = np.random.default_rng(seed)
    dense = (rng.random((25, 14)) < 0.3).astype(np.float64)
    ties, counts = tie_order(14, 3), dense.sum(axis=0)
    expected = np.zeros((14, 14))
    for item in range(14):
        strengths = {}
        for other in range(14):
            strength = sum(
                (1 / counts[item]) ** alpha * (1 / dense[user].sum()) ** alpha / counts[other] ** beta
                for user in range(25)
                if dense[user, item] and dense[user, other]
            )
            if other != item and strength:
                strengths[other] = np.float32(strength)
        for other in sorted(strengths, key=lambda o: (strengths[o], ties[o]), reverse=True)[:neighbours]:
            expected[item, other] = strengths[other]
    model = RP3beta(TrainingData(csr_array(dense.astype(np.float32))), seed=3)
    model.fit(alpha=alpha, beta=beta, neighbours=neighbours)
    np.testing.assert_allclose(model.scores(np.arange(25)), dense @ expected, rtol=1e-5)


def test_rp3beta_by_hand() -> None:
    train = csr_array(np.array([[1, 1, 0], [1, 1, 1], [0, 0, 1]], dtype=np.float32))
    model = RP3beta(TrainingData(train), seed=0)
    model.fit(alpha=1, beta=1, neighbours=3)
    # From item 0, taken twice: to user 0 (of two items) and user 1 (of three), half the time each.
    from_first = [0, (1 / 2 * 1 / 2 + 1 / 2 * 1 / 3) / 2, (1 / 2 * 1 / 3) / 2]
    np.testing.assert_allclose(model.links.toarray()[0], from_first, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.sampled_from([(0, 0.5), (0.5, 1), (1, 0.2), (2.5, 3)]))
def test_slim_is_at_the_minimum(seed: int, penalties: tuple[float, float]) -> None:
    """The conditions of Karush, Kuhn and Tucker: no slope where a weight is above 0, none below 0 elsewhere."""
    l1, l2 = penalties
    dense = (np.random.default_rng(seed).random((40, 14)) < 0.3).astype(np.float32)
    model = SLIM(TrainingData(csr_array(dense)), seed=0)
    model.fit(l1=l1, l2=l2)
    weights = model.weights.toarray().astype(np.float64)
    gram = (dense.T @ dense).astype(np.float64)
    slope = gram @ weights - gram + l2 * weights + l1
    apart = ~np.eye(14, dtype=bool)
    assert (weights >= 0).all()
    assert not weights.diagonal().any()
    np.testing.assert_allclose(slope[apart & (weights > 0)], 0, atol=0.02)
    assert (slope[apart & (weights == 0)] > -0.02).all()


def test_slim_equals_the_elastic_net_of_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import ElasticNet

    dense = (np.random.default_rng(0).random((60, 12)) < 0.3).astype(np.float64)
    l1, l2 = 0.7, 2.0
    expected = np.zeros((12, 12))
    for item in range(12):
        others = np.arange(12) != item
        net = ElasticNet(
            alpha=(l1 + l2) / 60, l1_ratio=l1 / (l1 + l2), positive=True, fit_intercept=False, tol=1e-8, max_iter=10_000
        )
        expected[others, item] = net.fit(dense[:, others], dense[:, item]).coef_
    model = SLIM(TrainingData(csr_array(dense.astype(np.float32))), seed=0)
    model.fit(l1=l1, l2=l2)
    np.testing.assert_allclose(model.weights.toarray(), expected, atol=1e-3)
    whole = model.weights.toarray()
    monkeypatch.setattr(slim, "_CELLS", 300)  # few columns at once
    model.fit(l1=l1, l2=l2)
    np.testing.assert_allclose(model.weights.toarray(), whole, atol=5e-4)


def test_slim_without_any_link_scores_zero() -> None:
    train = csr_array(np.eye(4, dtype=np.float32))
    model = SLIM(TrainingData(train), seed=0)
    model.fit(l1=0.1, l2=1)
    assert not model.scores(np.arange(4)).any()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([2, 5, 40]))
def test_ials_solves_the_normal_equations(seed: int, dimension: int) -> None:
    """Short and long rows alike, with as many dimensions as one likes."""
    rng = np.random.default_rng(seed)
    dense = rng.random((20, 15)) < rng.choice([0.05, 0.4, 0.9], size=(20, 1))
    model = IALS(TrainingData(csr_array(dense.astype(np.float32))), seed=1)
    model.fit(dimension=dimension, unobserved_weight=0.3, l2=0.05)
    items = rng.standard_normal((15, dimension)).astype(np.float32)
    found = model._solved(model.train, items)
    for user in range(20):
        own = items[dense[user]].astype(np.float64)
        penalty = 0.05 * (len(own) + 0.3 * 15)
        normal = own.T @ own + 0.3 * items.T @ items + penalty * np.eye(dimension)
        np.testing.assert_allclose(found[user], np.linalg.solve(normal, own.sum(axis=0)), atol=2e-3)


def test_ials_never_raises_its_loss() -> None:
    train, _, _ = random_split(60, 40, seed=3)
    model = IALS(TrainingData(train), seed=0)
    weight, l2 = 0.2, 0.01
    model.fit(dimension=6, unobserved_weight=weight, l2=l2)
    losses = []
    for _ in range(8):
        model.epoch()
        users, items = model.users.astype(np.float64), model.items.astype(np.float64)
        scores, taken = users @ items.T, train.toarray() > 0
        of_users = (taken.sum(axis=1) + weight * 40) @ (users**2).sum(axis=1)
        of_items = (taken.sum(axis=0) + weight * 60) @ (items**2).sum(axis=1)
        losses.append(((scores[taken] - 1) ** 2).sum() + weight * (scores**2).sum() + l2 * (of_users + of_items))
    assert all(later < earlier + 1e-4 for earlier, later in itertools.pairwise(losses))
    assert losses[-1] < 0.9 * losses[0]


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
    oracle = Oracle(TrainingData(train), seed=0)
    oracle.held_out = validation
    ranked, record, _ = tune(oracle, Oracle.Params(seed=0, honest=[0, 1, 2]), validation, 110)
    assert record["setting"] == {"honest": 1}  # 2 is as good, but later
    assert record["validation"] == {"recall@20": 1, "recall@40": 1, "ndcg@100": 1}
    assert [tried["validation"]["ndcg@100"] for tried in record["tried"]] == [0, 1, 1]
    assert HELD_OUT_SETS.means(ranked, validation) == record["validation"]


class Swinging(IterativeBaseline):
    """Is perfect in some epochs only."""

    class Params(IterativeParams):
        good: list[int]

    held_out: csr_array

    def fit(self, good: int) -> None:
        self.good, self.passed = good, 0

    def epoch(self) -> None:
        self.passed += 1

    def scores(self, users: np.ndarray) -> np.ndarray:
        known = self.held_out[users].toarray()
        return known if self.passed == self.good else -known


def test_the_best_epoch_wins_and_patience_ends() -> None:
    train, validation, _ = random_split(40, 150, seed=8)
    swinging = Swinging(TrainingData(train), seed=0)
    swinging.held_out = validation
    params = Swinging.Params(seed=0, epochs=9, patience=3, good=[6, 3, 2])
    ranked, record, _ = tune(swinging, params, validation, 110)
    assert record["setting"] == {"good": 3}  # 6 comes after patience has ended, 2 is as good, but later
    assert [tried["epoch"] for tried in record["tried"]] == [1, 3, 2]
    assert record["epoch"] == 3
    assert (
        HELD_OUT_SETS.means(ranked, validation)
        == record["validation"]
        == {"recall@20": 1, "recall@40": 1, "ndcg@100": 1}
    )
    assert swinging.passed == 5


def test_every_baseline_has_the_same_budget() -> None:
    """As many settings, and epochs where it has epochs, as the others of its kind; what has none tries one."""
    blocks = yaml.safe_load((ROOT / "params.yaml").read_text())["baselines"]
    tried = {name: len(list(BASELINES[name].Params(**blocks[name]).settings())) for name in GRIDS}
    assert tried.pop("chance") == tried.pop("popularity") == 1
    assert set(tried.values()) == {12}


def test_every_combination_is_tried_in_order() -> None:
    grid = item_knn.ItemKNNParams(seed=1, neighbours=[5, 9], shrinkage=[0, 2])
    assert [tuple(setting.values()) for setting in grid.settings()] == [(5, 0), (5, 2), (9, 0), (9, 2)]
    assert list(params_of("popularity").settings()) == [{}]


def test_a_name_is_that_of_the_module() -> None:
    modules = {info.name for info in pkgutil.iter_modules(baselines.__path__)}
    modules -= {"base", "hybrid", "neural", "sequential", "registry"}
    assert modules == set(BASELINES) == set(BaselinesParams.model_fields)
    for name, kind in BASELINES.items():
        assert kind.__module__ == importlib.import_module(f"symbiosis.recommender.baselines.{name}").__name__


def item_frame(items: int) -> pl.DataFrame:
    """Metadata as the stage `clean` writes it; every third item has neither brand nor categories."""
    brand = [None if i % 3 == 0 else f"brand{i % 2}" for i in range(items)]
    return pl.DataFrame(
        {
            "item": pl.Series(range(items), dtype=pl.UInt32),
            "title": [f"thing number{i % 7}" for i in range(items)],
            "brand": brand,
            "categories": [None if i % 3 == 0 else ["all", f"kind{i % 4}"] for i in range(items)],
            "description": pl.Series([None] * items, dtype=pl.String),
        }
    )


def write_split(folder: Path, parts: dict[str, csr_array]) -> None:
    clean = folder / "data/clean"
    clean.mkdir(parents=True, exist_ok=True)
    users, items = next(iter(parts.values())).shape
    pl.DataFrame({"user": range(users)}, schema={"user": pl.UInt32}).write_parquet(clean / "users.parquet")
    item_frame(items).write_parquet(clean / "items.parquet")
    rng = np.random.default_rng(0)
    for name, part in parts.items():
        pairs = part.tocoo()
        columns = {"user": pairs.row, "item": pairs.col, "timestamp": rng.permutation(part.nnz)}
        schema = {"user": pl.UInt32, "item": pl.UInt32, "timestamp": pl.Int64}
        pl.DataFrame(columns, schema=schema).sample(fraction=1, shuffle=True, seed=1).write_parquet(
            clean / f"{name}.parquet"
        )


@pytest.mark.parametrize("name", list(GRIDS))
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
    assert record["tried"].index({key: value for key, value in record.items() if key != "tried"}) >= 0


def test_sequences_are_in_order_of_time() -> None:
    train, _, _ = random_split(30, 40, seed=1)
    times = np.random.default_rng(2).integers(5, size=train.nnz)
    sequences = TrainingData(train, times).sequences()
    for user in range(30):
        own = slice(train.indptr[user], train.indptr[user + 1])
        expected = sorted(zip(times[own], train.indices[own], strict=True))
        assert sequences.indices[own].tolist() == [item for _, item in expected]
    with pytest.raises(InputError, match="times are unknown"):
        TrainingData(train).sequences()


def test_attributes_are_those_that_items_share() -> None:
    items = pl.DataFrame(
        {
            "brand": ["x", "x", "y", None, ""],
            "categories": [["x", "b", "b"], ["b"], None, [], ["c"]],
        },
        schema_overrides={"categories": pl.List(pl.String)},
    )
    found = TrainingData(csr_array((1, 5), dtype=np.float32), items=items).attributes().toarray()
    assert found.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0], [0, 0]]  # the brand x and the category b
    assert TrainingData(csr_array((1, 5), dtype=np.float32)).attributes().shape == (5, 0)


def test_text_vectors_tell_like_from_unlike() -> None:
    titles = ["red wine glass", "wine glass red", "blue beer mug", "beer mug blue", None, "lonesome"]
    items = pl.DataFrame(
        {
            "title": titles,
            "brand": ["a", "a", None, None, None, None],
            "categories": [["k"], None, None, None, [], None],
        }
    ).with_columns(description=pl.lit(None, pl.String))
    data = TrainingData(csr_array((1, 6), dtype=np.float32), items=items)
    vectors = data.text_vectors(2, seed=0)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 1, 1, 0, 0], atol=1e-6)
    alike = vectors @ vectors.T
    assert min(alike[0, 1], alike[2, 3]) > 0.99 > 0.01 > abs(alike[0, 2])
    np.testing.assert_array_equal(data.text_vectors(2, seed=0), vectors)
    nothing = items.with_columns(title=pl.lit(None, pl.String), brand=pl.lit(None, pl.String))
    blank = TrainingData(data.interactions, items=nothing.with_columns(categories=pl.lit(None, pl.List(pl.String))))
    assert not blank.text_vectors(2, seed=0).any()
    assert not TrainingData(data.interactions).text_vectors(2, seed=0).any()


def test_training_data_are_those_of_the_files(tmp_path: Path) -> None:
    train, validation, _ = random_split(20, 30, seed=3)
    write_split(tmp_path, {"train": train, "validation": validation})
    data = read_training_data(tmp_path / "data/clean")
    np.testing.assert_array_equal(data.interactions.toarray(), train.toarray())
    stored = pl.read_parquet(tmp_path / "data/clean/train.parquet")
    known = {(user, item): time for user, item, time in stored.select("user", "item", "timestamp").iter_rows()}
    pairs = train.tocoo()
    assert data.times is not None
    assert data.times.tolist() == [known[pair] for pair in zip(pairs.row, pairs.col, strict=True)]
    assert data.items is not None
    assert data.items.equals(item_frame(30).drop("item"))
    stored.drop("timestamp").write_parquet(tmp_path / "data/clean/train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet is damaged.*timestamp"):
        read_training_data(tmp_path / "data/clean")


def test_a_wrong_name_is_told_in_one_line() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "stages.baseline", "eas"], capture_output=True, text=True, check=False, timeout=120
    )
    assert answer.returncode == 2
    assert (
        "invalid choice: 'eas' (choose from 'chance', 'popularity', 'item_knn', 'rp3beta', 'ease', 'slim', 'ials'"
        in answer.stderr
    )
    assert "Traceback" not in answer.stderr


def test_the_seed_of_the_ties_is_that_of_the_params() -> None:
    train, validation, _ = random_split(30, 50, seed=2)
    rankings = []
    for seed in (1, 1, 2):
        params = BASELINES["chance"].Params(seed=seed)
        rankings.append(tune(BASELINES["chance"](TrainingData(train), seed), params, validation, 50)[0])
    np.testing.assert_array_equal(rankings[0], rankings[1])
    assert (rankings[0] != rankings[2]).any()
