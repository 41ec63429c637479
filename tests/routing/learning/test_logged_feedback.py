"""Training on the table and on logged answers: nothing leaks, weights are as computed by hand, and it helps."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from routing_world import FORM, LLMS, logged_of, split_of, train_params, write_router

from symbiosis.routing.data.logged import Logged
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience, Feedback, Noise, Satisfaction
from symbiosis.routing.learning.logged_feedback import answers_of, train_with_log, trainable, weights
from symbiosis.routing.learning.online_router import OnlineRouter
from symbiosis.routing.learning.serving_state import FILE, Lessons, ServingState
from symbiosis.routing.model.lengths import LengthDistribution
from symbiosis.routing.model.params import LoggedParams, RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import TradeOff

PLAIN = LoggedParams(weight="none", clip=10, holdout_share=0.0)
INVERSE = LoggedParams(weight="inverse", clip=4, holdout_share=0.0)


def params(**changes: Any) -> RouterTrainParams:
    return train_params(**({"logged": PLAIN.model_dump()} | changes))


def drawn(split: Split, seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).integers(len(LLMS), size=len(split))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def saved(router: Router, folder: Path) -> dict[str, bytes]:
    router.save(folder)
    return files(folder)


def with_gaps(split: Split) -> Split:
    known = np.ones(split.outcomes.quality.shape, dtype=bool)
    known[::3, 0] = known[1::3, 2] = False
    return replace(split, outcomes=replace(split.outcomes, known=known))


@pytest.mark.parametrize("predictor", ["linear", "stacked", "forest", "auto"])
def test_without_a_log_the_router_is_the_same_to_the_last_byte(predictor: str, tmp_path: Path) -> None:
    split, none = split_of(150, 3), logged_of(split_of(1, 4), np.zeros(1, dtype=int)).take(np.array([False]))
    alone, report = train(split, LLMS, params(predictor=predictor))
    router, same, used = train_with_log(split, LLMS, params(predictor=predictor), none)
    assert saved(alone, tmp_path / "a") == saved(router, tmp_path / "b")
    assert report == same
    assert len(used) == 0
    assert "logged" not in report


@pytest.mark.parametrize("predictor", ["linear", "stacked", "forest"])
@pytest.mark.parametrize("gaps", [False, True])
def test_every_family_learns_from_answers_of_one_llm_each(predictor: str, gaps: bool) -> None:
    small, stream, fresh = split_of(60, 3), split_of(900, 4), split_of(600, 5)
    small = with_gaps(small) if gaps else small
    alone, _ = train(small, LLMS, params(predictor=predictor))
    both, report, used = train_with_log(small, LLMS, params(predictor=predictor), logged_of(stream, drawn(stream)))
    assert len(used) == report["logged"]["answers"] == 900
    assert report["queries"] == 60
    features = alone.feature_map(fresh.embeddings)

    def error(router: Router) -> float:
        return float(((router.predict(features).quality - fresh.outcomes.quality) ** 2).mean())

    assert error(both) < error(alone)
    assert report["logged"]["brier"] < 1.02 * report["logged"]["brier_without"]  # judged on fewer than it has now
    assert both.cost_scale == alone.cost_scale
    np.testing.assert_array_equal(both.prompt_tokens(features), alone.prompt_tokens(features))


def test_an_llm_that_was_not_asked_is_not_learned_about() -> None:
    small, stream = split_of(80, 3), split_of(200, 4)
    alone, _ = train(small, LLMS, params())
    one = params(tag_penalties=[30], component_penalties=[100])
    both, _, _ = train_with_log(small, LLMS, one, logged_of(stream, np.full(200, 2)))
    again, _, _ = train_with_log(small, LLMS, one, logged_of(split_of(200, 9), np.full(200, 2)))
    kept = [0, 1, 3]
    np.testing.assert_array_equal(both.heads.weights[kept], again.heads.weights[kept])
    assert not np.array_equal(both.heads.weights[2], again.heads.weights[2])
    assert alone.llms.names == both.llms.names


def test_training_counts_an_answer_as_serving_does() -> None:
    """The heads know the same whether lessons are trained on or learned one by one from the same start."""
    small, stream = split_of(80, 3), split_of(60, 4)
    one = params(tag_penalties=[30], component_penalties=[100])
    alone, _ = train(small, LLMS, one)
    known = Experience.fit(alone, small.embeddings, small.outcomes, one.serving.satisfied_above)
    arms = drawn(stream)
    online = OnlineRouter(alone, TradeOff(1.0), experience=known)
    for vector, arm, quality, tokens in zip(
        stream.embeddings.astype(np.float32).astype(np.float64),
        arms,
        stream.outcomes.quality[np.arange(60), arms],
        stream.outcomes.response_tokens[np.arange(60), arms],
        strict=True,
    ):
        online.learn(online.features(vector), [int(arm)], [Feedback(quality, tokens)], [0.5], 1.0)
    both, _, _ = train_with_log(small, LLMS, one, logged_of(stream, arms))
    np.testing.assert_allclose(both.heads.precision, online.router.heads.precision, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(both.heads.moments, online.router.heads.moments, rtol=1e-7, atol=1e-7)


def test_weights_by_hand() -> None:
    known = Experience(Noise(own=0.1, common=0.1), Satisfaction(0.9, 0.2, 0.2))
    binary = np.array([False, True, False, False])
    propensity = np.array([0.5, 1.0, 0.1, np.nan])
    # One answer: own / (own + common). Satisfied or not adds 0.2 of variance to the LLM's own 0.1:
    # 0.3 / (0.3 + 0.1) of it is the LLM's, and it counts 0.1 / 0.3 of an observation.
    plain = [0.5, 0.75 / 3, 0.5, 0.5]
    np.testing.assert_allclose(weights(binary, propensity, known, PLAIN), plain)
    # Inverses 2, 1 and 10, clipped to 4, have mean 7/3; without propensity it is 1.
    inverse = [2 * 3 / 7, 1 * 3 / 7, 4 * 3 / 7, 1.0]
    np.testing.assert_allclose(weights(binary, propensity, known, INVERSE), np.multiply(plain, inverse))
    nobody = weights(binary, np.full(4, np.nan), known, INVERSE)
    np.testing.assert_allclose(nobody, plain)


def test_a_weight_is_a_number_of_equal_answers() -> None:
    """An answer that weighs two leads to the same router as the answer given twice."""
    split = split_of(80, 3)
    stream = split_of(40, 4)
    arms = drawn(stream)
    once = logged_of(stream, arms, propensity=np.where(np.arange(40) % 2, 0.25, 0.5))
    twice = Logged(pl.concat([once.frame, once.frame.filter(pl.col("propensity") == 0.25)]))
    one = params(tag_penalties=[30], component_penalties=[100])
    weighted, _ = train(split, LLMS, one, lambda _: _doubled(answers_of(once, LLMS, CALM, PLAIN)))
    repeated, _ = train(split, LLMS, one, lambda _: answers_of(twice, LLMS, CALM, PLAIN))
    np.testing.assert_allclose(weighted.heads.precision, repeated.heads.precision, rtol=1e-9)


CALM = Experience(Noise(0.2, 0.0), Satisfaction(0.9, 0.1, 0.1))


def _doubled(answers: Any) -> Any:
    return replace(answers, weight=np.where(np.arange(len(answers)) % 2, 2.0, 1.0))


def test_held_out_test_and_online_queries_and_other_llms_are_never_trained_on() -> None:
    stream = split_of(200, 4)
    logged = logged_of(stream, drawn(stream))
    rows = pl.int_range(pl.len())
    marked = Logged(
        logged.frame.with_columns(
            split=pl.when(rows < 10).then(pl.lit("test")).when(rows < 20).then(pl.lit("online")).otherwise(None),
            llm=pl.when(rows == 25).then(pl.lit("gone")).otherwise("llm"),
        )
    )
    share = LoggedParams(weight="none", clip=10, holdout_share=0.3)
    used = trainable(marked, LLMS, share)
    lessons = set(used.frame["lesson"])
    assert not lessons & {*range(1, 21), 26}
    held = marked.take(marked.held_out(0.3))
    assert not set(used.frame["query"]) & set(held.frame["query"])
    _, report, trained_on = train_with_log(split_of(80, 3), LLMS, params(logged=share.model_dump()), marked)
    assert trained_on.frame.equals(used.frame)
    assert report["logged"]["held_out"] == 200 - len(used)


def test_what_is_held_out_changes_nothing(tmp_path: Path) -> None:
    stream, small = split_of(120, 4), split_of(80, 3)
    logged = logged_of(stream, drawn(stream))
    shared = params(logged={"weight": "inverse", "clip": 10, "holdout_share": 0.5})
    held = pl.Series(logged.held_out(0.5))
    spoilt = Logged(logged.frame.with_columns(quality=pl.when(held).then(1 - pl.col("quality")).otherwise("quality")))
    routers = [train_with_log(small, LLMS, shared, one)[0] for one in (logged, spoilt)]
    assert saved(routers[0], tmp_path / "a") == saved(routers[1], tmp_path / "b")


def test_lengths_that_nobody_told_move_nothing() -> None:
    small, stream = split_of(80, 3), split_of(60, 4)
    logged = logged_of(stream, drawn(stream))
    silent = Logged(logged.frame.with_columns(response_tokens=pl.lit(None, pl.Float64)))
    alone, _ = train(small, LLMS, params())
    both, _, _ = train_with_log(small, LLMS, params(), silent)
    np.testing.assert_allclose(both.lengths.longest, alone.lengths.longest)
    features = alone.feature_map(stream.embeddings)
    expected = alone.predict(features).response_tokens
    np.testing.assert_allclose(both.predict(features).response_tokens, expected, rtol=0.35)


def test_lengths_are_fitted_to_what_is_known() -> None:
    expected = np.full((4, 3), 10.0)
    observed = np.array([[10.0, 20.0, 1.0], [20.0, 500.0, 1.0], [40.0, 5.0, 1.0], [1.0, 10.0, 1.0]])
    known = np.array([[True, True, False], [True, False, False], [True, False, False], [False, True, False]])
    fitted = LengthDistribution.fit(expected, observed, known)
    first, second = np.log([1.0, 2.0, 4.0]), np.log([2.0, 1.0])
    np.testing.assert_allclose(fitted.centre, [first.mean(), second.mean(), (first.mean() + second.mean()) / 2])
    np.testing.assert_allclose(fitted.sigma, [first.std(), second.std(), first.std()])
    np.testing.assert_allclose(fitted.longest, [40.0, 20.0, 40.0])


def test_noise_is_fitted_to_what_is_known() -> None:
    rng = np.random.default_rng(1)
    errors = rng.normal(size=(4000, 1)) * 0.3 + rng.normal(size=(4000, 4)) * 0.5
    whole = Noise.fit(errors)
    every = Noise.fit(errors, np.ones(errors.shape, dtype=bool))
    np.testing.assert_allclose([every.own, every.common], [whole.own, whole.common])
    known = rng.random(errors.shape) < 0.5
    part = Noise.fit(np.where(known, errors, 77.0), known)
    np.testing.assert_allclose([part.own, part.common], [0.25, 0.09], rtol=0.15)
    alone = Noise.fit(errors, np.arange(4) == np.arange(4000)[:, None] % 4)
    assert alone.common == 0
    assert alone.own == pytest.approx(0.34, rel=0.1)


def test_lessons_are_remembered_exactly() -> None:
    stores, numbers = ["a", "b", "a", "a"], [1, 70, 9, 3]
    known = Lessons.of(stores, numbers)
    assert np.flatnonzero(known.of_store("a")).tolist() == [1, 3, 9]
    assert np.flatnonzero(known.of_store("b")).tolist() == [70]
    assert not known.of_store("c").any()
    assert Lessons.model_validate(known.model_dump()) == known


def test_a_serving_state_without_lessons_is_written_and_read_as_ever(tmp_path: Path) -> None:
    write_router(tmp_path / "old")
    assert b"trained_on" not in (tmp_path / "old" / FILE).read_bytes()
    assert ServingState.load(tmp_path / "old").trained_on == Lessons()
    known = Lessons.of(["a" * 16], [2])
    write_router(tmp_path / "new", trained_on=known)
    assert ServingState.load(tmp_path / "new").trained_on == known
    assert ServingState.load(tmp_path / "new").vectors == FORM
