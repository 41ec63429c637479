"""Cold items: measures by hand, chance, and who counts."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from symbiosis.recommender.evaluation.cold_items import cold_items, content_scores
from symbiosis.recommender.evaluation.evaluation import measure
from symbiosis.recommender.evaluation.per_user import columns, user_metrics
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS, recall


def world(users: int = 300, warm: int = 60, cold: int = 40) -> tuple[csr_array, csr_array, np.ndarray]:
    """Users of four tastes take items of their taste; the last items are in the test only."""
    rng = np.random.default_rng(1)
    taste = rng.integers(4, size=users)
    kind = rng.integers(4, size=warm + cold)
    texts = np.eye(4, dtype=np.float32)[kind]
    train, test = np.zeros((2, users, warm + cold), np.float32)
    for user in range(users):
        fitting = np.flatnonzero(kind == taste[user])
        train[user, rng.choice(fitting[fitting < warm], 3, replace=False)] = 1
        test[user, rng.choice(fitting[fitting >= warm], 2, replace=False)] = 1
    train[0, :warm] = 1  # every warm item was taken
    return csr_array(train), csr_array(test), texts


def test_texts_that_tell_rank_above_chance_and_noise_does_not() -> None:
    train, test, texts = world()
    rng = np.random.default_rng(2)
    noise = rng.standard_normal(train.shape).astype(np.float32)
    found = cold_items(
        {"texts": content_scores(texts, train), "noise": lambda users: noise[users]}, train, test, 300, 0
    )
    assert found["candidates"] == 40
    assert found["users"] == 300
    for name, chance in found["chance"].items():
        if "all items" not in name:  # 100 places hold everything
            assert found["methods"]["texts"][name]["low"] > chance
            noisy = found["methods"]["noise"][name]
            assert noisy["low"] - 0.02 < chance < noisy["high"] + 0.02


def test_measures_by_hand() -> None:
    train = csr_array(np.array([[1, 0, 0, 0, 0]], np.float32))
    test = csr_array(np.array([[0, 1, 0, 0, 1]], np.float32))
    scores = np.array([[9, 3, 4, 1, 1]], np.float32)
    found = cold_items({"method": lambda users: scores[users]}, train, test, 100, 0)
    # Pairs (taken, not taken): 3 < 4, 3 > 1, 1 < 4, 1 = 1.
    assert found["methods"]["method"]["auc"]["mean"] == (0 + 1 + 0 + 0.5) / 4
    assert found["chance"]["recall@5 among cold items"] == 1


def test_chance_is_what_random_orders_give() -> None:
    train, test, _ = world()
    rng = np.random.default_rng(3)
    means = []
    for _ in range(30):
        noise = rng.standard_normal(train.shape).astype(np.float32)
        found = cold_items({"noise": lambda users, noise=noise: noise[users]}, train, test, 100, 0)
        means.append(found["methods"]["noise"]["recall@5 among cold items"]["mean"])
    assert np.mean(means) == pytest.approx(found["chance"]["recall@5 among cold items"], abs=0.01)


def test_without_cold_items_there_is_nothing_to_say() -> None:
    train = csr_array(np.eye(3, dtype=np.float32))
    test = csr_array(np.roll(np.eye(3, dtype=np.float32), 1, axis=1))
    assert cold_items({}, train, test, 100, 0) is None


def test_a_user_without_training_items_gets_a_flat_score() -> None:
    train = csr_array((1, 2), dtype=np.float32)
    assert (content_scores(np.eye(2, dtype=np.float32), train)(np.array([0])) == 0).all()


def test_user_metrics_hold_every_method_and_part() -> None:
    train, test, _ = world()
    ranking = np.tile(np.arange(99, -1, -1, dtype=np.int32), (300, 1))
    rankings = {"a": ranking, "b": ranking[:, ::-1]}
    table = user_metrics(rankings, measure(rankings, test), train, test)
    assert table["method"].value_counts().sort("method")["count"].to_list() == [300, 300]
    first = table.filter(method="a")
    np.testing.assert_array_equal(first["recall@20"], recall(ranking, test, 20))
    assert first["recall@20 of head items"].null_count() == 300
    np.testing.assert_array_equal(first["recall@20 of cold items"], first["recall@20"])
    assert set(columns(HELD_OUT_SETS)) < set(table.columns)


def test_blocks_of_users_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test, texts = world(users=20)
    methods = {"texts": content_scores(texts, train)}
    whole = cold_items(methods, train, test, 100, 0)
    monkeypatch.setattr("symbiosis.recommender.evaluation.cold_items._CELLS", 300)  # three users at once
    assert cold_items(methods, train, test, 100, 0) == whole
