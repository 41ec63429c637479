"""The baselines on terms of graph, order and content: what they learn, and that they cannot see what is hidden."""

import sys
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from test_next_item import FIXED, of_sequences

from symbiosis.core.errors import InputError
from symbiosis.recommender.baselines.base import Baseline, tune
from symbiosis.recommender.baselines.boosting import Boosting
from symbiosis.recommender.baselines.tuned_hybrid import TunedHybrid
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.metrics.metrics import NEXT_ITEM
from symbiosis.recommender.metrics.ranking import rank_all
from symbiosis.recommender.reranking.item_links import LINKS
from symbiosis.recommender.reranking.stage_one import drawn_folds, listwise_weights

N_ITEMS = 30
KINDS = [TunedHybrid, Boosting]


def cycle(users: int, length: int, seed: int = 0) -> list[list[int]]:
    """Every user takes one item after the other from a random one on."""
    starts = np.random.default_rng(seed).integers(N_ITEMS, size=users)
    return [[(int(start) + step) % N_ITEMS for step in range(length)] for start in starts]


def fitted(kind: type[Baseline], data: TrainingData, **setting: Any) -> Any:
    if kind is Boosting:
        pytest.importorskip("lightgbm")
    model: Any = kind(data, seed=1)
    model.fit(**FIXED["boosting" if kind is Boosting else "tuned_hybrid"] | setting)
    if kind is Boosting:
        model.epoch()
    return model


@pytest.mark.parametrize("hidden", ["latest", "share"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_next_is_found(kind: type[Baseline], hidden: str) -> None:
    rows = cycle(200, 6)
    data = of_sequences(rows, N_ITEMS)
    scores = fitted(kind, data, hidden=hidden).scores(np.arange(200))
    scores[data.interactions.toarray() > 0] = -np.inf
    following = np.array([(row[-1] + 1) % N_ITEMS for row in rows])
    before = np.array([(row[0] - 1) % N_ITEMS for row in rows])
    best = np.argsort(-scores, axis=1)
    if hidden == "latest":
        assert (best[:, 0] == following).mean() > 0.95
    else:  # what lies on either side is as likely hidden
        assert ((best[:, :2] == following[:, None]) | (best[:, :2] == before[:, None])).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_twice(kind: type[Baseline]) -> None:
    rng = np.random.default_rng(2)
    data = of_sequences([rng.permutation(N_ITEMS)[:6].tolist() for _ in range(60)], N_ITEMS)
    one, other = (fitted(kind, data).scores(np.arange(60)) for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("hidden", ["latest", "share"])
def test_no_hidden_item_stands_behind_its_own_terms(hidden: str) -> None:
    """Another item in a user's row moves no link that his own items are learned with."""
    rows = cycle(50, 6)
    one = fitted(TunedHybrid, of_sequences(rows, N_ITEMS), hidden=hidden)
    user, fold = 7, drawn_folds(50, seed=1)[7]
    rows[user][-1] = (rows[user][-1] + 9) % N_ITEMS
    other = fitted(TunedHybrid, of_sequences(rows, N_ITEMS), hidden=hidden)
    for name in LINKS:
        mine, theirs = (model.without[fold].links.matrices[name].toarray() for model in (one, other))
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(one.without[fold].links.users, other.without[fold].links.users)
    np.testing.assert_array_equal(one.without[fold].links.lasts, other.without[fold].links.lasts)
    moved = one.without[(fold + 1) % 5].links.users - other.without[(fold + 1) % 5].links.users
    assert moved.any()


@pytest.mark.parametrize("kind", KINDS)
def test_another_held_out_item_moves_nothing_that_is_learned(kind: type[Baseline]) -> None:
    rows = cycle(60, 6)
    data = of_sequences(rows, N_ITEMS)
    learned = []
    for held_out in ([(row[-1] + 1) % N_ITEMS for row in rows], [(row[-1] + 11) % N_ITEMS for row in rows]):
        validation = csr_array((np.ones(60), (range(60), held_out)), shape=(60, N_ITEMS))
        if kind is Boosting:
            pytest.importorskip("lightgbm")
        grid = {name: [value] for name, value in FIXED["boosting" if kind is Boosting else "tuned_hybrid"].items()}
        epochs = {"epochs": 1, "patience": 1} if kind is Boosting else {}
        params = kind.Params(seed=1, **epochs, **grid)
        model: Any = kind(data, 1)
        tune(model, params, validation, N_ITEMS, NEXT_ITEM)
        trees = model.booster.model_to_string() if kind is Boosting else ""
        learned.append((model.weights.tolist(), trees, model.whole.links.users.tolist(), model.whole.units.tolist()))
    assert learned[0] == learned[1]


def test_links_learn_validation_items_only_if_they_shall() -> None:
    import polars as pl

    rows = cycle(40, 6)
    data = of_sequences([row[:-1] for row in rows], N_ITEMS)
    grown = data.followed_by(pl.DataFrame({"user": range(40), "item": [row[-1] for row in rows]}))
    model = fitted(TunedHybrid, data)
    before, weights = model.whole.links.users, model.weights
    for read, learns in ((model.read, False), (model.refit, True)):
        read(grown)
        assert (model.whole.links.users.sum() > before.sum()) == learns
        np.testing.assert_array_equal(model.weights, weights)
        model.read(data)
        np.testing.assert_array_equal(model.whole.links.users, before)


@pytest.mark.parametrize("kind", KINDS)
def test_rankings_at_test_are_those_of_the_best_epoch(kind: type[Baseline]) -> None:
    """One by the links of the training, one by links that were fitted again."""
    import polars as pl

    rng = np.random.default_rng(5)
    rows = [rng.permutation(N_ITEMS)[:7].tolist() for _ in range(80)]
    data = of_sequences([row[:-1] for row in rows], N_ITEMS)
    later = pl.DataFrame({"user": range(80), "item": [row[-1] for row in rows]})
    grown = data.followed_by(later)
    validation = csr_array((np.ones(80), (later["user"], later["item"])), shape=(80, N_ITEMS))
    name = "boosting" if kind is Boosting else "tuned_hybrid"
    grid = {key: [value] for key, value in FIXED[name].items()}
    epochs = {"epochs": 3, "patience": 3} if kind is Boosting else {}
    ranking, record, refitted = tune(
        fitted(kind, data), kind.Params(seed=1, **epochs, **grid), validation, N_ITEMS, NEXT_ITEM, grown
    )
    model = fitted(kind, data)
    if kind is Boosting:
        for _ in range(record["epoch"] - 1):
            model.epoch()
    for read, found in ((model.read, ranking), (model.refit, refitted)):
        read(grown)
        np.testing.assert_array_equal(found, rank_all(model.scores, grown.interactions, N_ITEMS, 1))
    assert (ranking != refitted).any()


def test_trees_of_later_epochs_are_left_out() -> None:
    rng = np.random.default_rng(2)
    data = of_sequences([rng.permutation(N_ITEMS)[:6].tolist() for _ in range(60)], N_ITEMS)
    model = fitted(Boosting, data)
    first = model.scores(np.arange(60))
    model.epoch()
    assert (model.scores(np.arange(60)) != first).any()
    model.rewind(1)
    np.testing.assert_array_equal(model.scores(np.arange(60)), first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_without_history_is_ranked_for_by_popularity(kind: type[Baseline]) -> None:
    rows = [[5, *(item for item in row if item != 5)] for row in cycle(80, 6)]
    model = fitted(kind, of_sequences([*rows, []], N_ITEMS))
    scores = model.scores(np.array([80]))
    assert np.isfinite(scores).all()
    if kind is TunedHybrid:
        by_users = model.weights[-1] * np.log1p(model.whole.links.users)
        np.testing.assert_allclose(scores[0], by_users, rtol=1e-5)


def test_candidates_stand_above_the_others() -> None:
    data = of_sequences(cycle(80, 6), N_ITEMS)
    model = fitted(Boosting, data)
    scores = model.scores(np.array([3, 50]))
    for row, user in enumerate((3, 50)):
        proposed = model._proposed[user]
        others = np.setdiff1d(np.arange(N_ITEMS), proposed)
        assert scores[row, proposed].min() >= 0 > scores[row, others].max()


def test_trees_are_summed_alike_in_one_epoch_or_two() -> None:
    rng = np.random.default_rng(2)
    data = of_sequences([rng.permutation(N_ITEMS)[:6].tolist() for _ in range(60)], N_ITEMS)
    at_once, by_epoch = fitted(Boosting, data), fitted(Boosting, data)
    first = by_epoch.scores(np.arange(30))
    for model in (at_once, by_epoch):
        model.epoch()
    scores = by_epoch.scores(np.arange(60))
    np.testing.assert_array_equal(scores, at_once.scores(np.arange(60)))
    assert (scores[:30] != first).any()
    described = by_epoch._described.reshape(-1, by_epoch._described.shape[2])
    np.testing.assert_allclose(by_epoch._sums.ravel(), by_epoch.booster.predict(described), rtol=1e-9, atol=1e-12)


def test_histories_of_all_lengths_and_few_items() -> None:
    """Lists of rivals are of one length, whatever the histories' are."""
    rng = np.random.default_rng(4)
    rows = [rng.permutation(N_ITEMS)[: 3 + user % 25].tolist() for user in range(200)]
    model = fitted(TunedHybrid, of_sequences(rows, N_ITEMS))
    assert np.isfinite(model.weights).all()
    assert model.weights.any()


def test_weights_by_hand() -> None:
    """The item with the term is wanted in three lists of four: odds of three."""
    terms = np.tile(np.array([[1, 7], [0, 7]], np.float32), (4, 1, 1))
    wanted = np.array([[1, 0]] * 3 + [[0, 1]], np.float32)
    weights = listwise_weights(terms, wanted, np.ones(2))
    assert weights == pytest.approx([np.log(3), 0], abs=0.02)
    # If the item without it stands for two, the term must outweigh both.
    assert listwise_weights(terms, wanted, np.array([1, 2]))[0] == pytest.approx(np.log(6), abs=0.03)


def test_without_lightgbm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    model = Boosting(of_sequences(cycle(20, 5), N_ITEMS), 0)
    with pytest.raises(InputError, match=r"needs LightGBM: pip install .*\[boosting\]"):
        model.fit(**FIXED["boosting"])


def test_what_is_hidden_is_too_short_to_learn_from() -> None:
    pytest.importorskip("lightgbm")
    model = Boosting(of_sequences([[0], [1]], N_ITEMS), 0)
    with pytest.raises(InputError, match="stage one proposes no hidden item"):
        model.fit(**FIXED["boosting"])
