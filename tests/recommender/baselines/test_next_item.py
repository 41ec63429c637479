"""Methods by histories that have grown since the training, and counts of what users took next."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array
from test_baselines import GRIDS, item_frame, learned
from test_baselines import params_of as simple_params
from test_neural_baselines import SHAPES, prepared

from symbiosis.recommender.baselines.base import Baseline, IterativeBaseline, tune
from symbiosis.recommender.baselines.registry import BASELINES
from symbiosis.recommender.baselines.transitions import Transitions, TransitionsParams
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.metrics.metrics import NEXT_ITEM

_SHARED = {"hidden": "latest", "decay": 0.8, "directed": True}
FIXED: dict[str, dict[str, Any]] = {
    "transitions": {"decay": 0.5, "backward": 0.5, "popularity": 0.5},
    "tuned_hybrid": _SHARED,
    "boosting": _SHARED | {"candidates": 12, "leaves": 4, "learning_rate": 0.1},
}
"""Settings of baselines that need the order of a user's items."""

UNMOVED = ("chance", "popularity")
"""Read no history."""


def of_sequences(sequences: list[list[int]], n_items: int) -> TrainingData:
    """Users who took these items, in this order."""
    rows = [(user, item, time) for user, row in enumerate(sequences) for time, item in enumerate(row)]
    rows.sort()
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    taken = csr_array((np.ones(len(rows), np.float32), (users, items)), shape=(len(sequences), n_items))
    return TrainingData(taken, times, item_frame(n_items).drop("item"))


def fitted(name: str, data: TrainingData) -> Baseline:
    if name in SHAPES:
        model = prepared(name, data)
        model.epoch()
        return model
    if name in FIXED:
        if name == "boosting":
            pytest.importorskip("lightgbm")
        chosen = BASELINES[name](data, seed=0)
        chosen.fit(**FIXED[name])
        if isinstance(chosen, IterativeBaseline):
            chosen.epoch()
        return chosen
    return learned(name, data, next(simple_params(name).settings()))


def world() -> tuple[TrainingData, pl.DataFrame]:
    """Thirty users with five of twenty items each, and one later item of each."""
    rng = np.random.default_rng(3)
    taken = [rng.permutation(20)[:6].tolist() for _ in range(30)]
    later = pl.DataFrame({"user": range(30), "item": [row[-1] for row in taken]})
    return of_sequences([row[:-1] for row in taken], 20), later


def test_every_baseline_is_tested_here() -> None:
    assert {*GRIDS, *SHAPES, *FIXED} == set(BASELINES)


@pytest.mark.parametrize("name", list(BASELINES))
def test_a_grown_history_is_read_and_not_learned_from(name: str) -> None:
    data, later = world()
    model = fitted(name, data)
    everyone = np.arange(30)
    before = model.scores(everyone)
    model.read(data.followed_by(later))
    grown = model.scores(everyone)
    assert (np.abs(grown - before).max(axis=1) > 0).mean() >= (0 if name in UNMOVED else 0.9)
    model.read(data)
    np.testing.assert_array_equal(model.scores(everyone), before)


def test_what_follows_comes_last() -> None:
    data = of_sequences([[3, 1], [2, 0]], 5).followed_by(pl.DataFrame({"user": [0], "item": [0]}))
    assert [data.sequences().indices[:3].tolist(), data.sequences().indices[3:].tolist()] == [[3, 1, 0], [2, 0]]


def test_the_ranking_is_by_the_history_at_test_and_the_setting_by_that_before() -> None:
    data, later = world()
    at_test = data.followed_by(later)
    validation = csr_array((np.ones(30), (later["user"], later["item"])), shape=(30, 20))
    params = TransitionsParams(seed=1, decay=[0.3, 0.9], backward=[0.0], popularity=[0.5])
    ranking, chosen, _ = tune(Transitions(data, 1), params, validation, 20, NEXT_ITEM, at_test)
    assert not (ranking == later["item"].to_numpy()[:, None]).any()
    best = max(chosen["tried"], key=lambda record: record["validation"]["ndcg@10"])
    assert chosen["validation"] == best["validation"]
    model = Transitions(data, 1)
    model.fit(**chosen["setting"])
    model.read(at_test)
    scores = model.scores(np.arange(30))
    scores[at_test.interactions.toarray() > 0] = -1
    assert scores[np.arange(30), ranking[:, 0]].tolist() == scores.max(axis=1).tolist()


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        # Steps: 0>1 twice and 1>2 once directly, 0>2 once two places apart.
        ({"decay": 0.5, "backward": 0.0, "popularity": 0.0}, [0, 0.5 * 2, 1 + 0.5 * 0.5, 0]),
        ({"decay": 0.0, "backward": 0.0, "popularity": 0.0}, [0, 0, 1, 0]),
        ({"decay": 0.0, "backward": 1.0, "popularity": 0.0}, [2, 0, 1, 0]),
        ({"decay": 0.0, "backward": 1.0, "popularity": 1.0}, [2 / 3, 0, 1 / 3, 0]),
    ],
)
def test_transitions_by_hand(setting: dict[str, Any], expected: list[float]) -> None:
    """A user who took 0, then 1: the latest item counts one, the one before it decay."""
    model = Transitions(of_sequences([[0, 1, 2], [0, 1]], 4), seed=0)
    model.fit(**setting)
    np.testing.assert_allclose(model.scores(np.array([1]))[0], expected, rtol=1e-6)
