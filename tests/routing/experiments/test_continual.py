"""Studies of learning while running: what feedback is worth afterwards, and LLMs that join mid-stream."""

from dataclasses import replace

import numpy as np
import pytest
from routing_world import DOMAINS, LLMS, draw, replay_params, train_params

from symbiosis.core.errors import InputError
from symbiosis.core.statistics import resample
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.experiments import newcomers
from symbiosis.routing.experiments.continual import (
    KINDS,
    FeedbackResult,
    continual,
    divide,
    gains,
    pooled,
    stratified,
)
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Noise
from symbiosis.routing.learning.onboarding import filled, onboard
from symbiosis.routing.model.forests import SharedForest, leaves
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router

IDLE = {"workers": 100, "queries_per_s": 1.0}
SMALL: RouterTrainParams = train_params(tag_penalties=[3], component_penalties=[30], dimension=4)


def world(n: int, seed: int) -> Split:
    outcomes, vectors, domain = draw(n, seed)
    labels = [DOMAINS[d] for d in domain]
    return Split(outcomes, vectors, labels, labels)


def trained(params: RouterTrainParams) -> Router:
    split = world(300, seed=0)
    three = Split(split.outcomes.of_llms(range(3)), split.embeddings, split.domains, split.domains)
    return train(three, LLMS.take(range(3)), params)[0]


@pytest.fixture(scope="module")
def router() -> Router:
    return trained(SMALL)


@pytest.fixture(scope="module")
def stacked() -> Router:
    return trained(SMALL.model_copy(update={"predictor": "stacked"}))


def test_a_division_keeps_every_query_once() -> None:
    whole = world(50, seed=1)
    offline, stream = divide(whole, 0.3, seed=2)
    assert (len(offline.outcomes), len(stream.outcomes)) == (15, 35)
    assert sorted([*offline.outcomes.queries, *stream.outcomes.queries]) == list(range(50))
    row = int(stream.outcomes.queries[7])
    np.testing.assert_array_equal(stream.embeddings[7], whole.embeddings[row])
    assert stream.domains[7] == whole.domains[row]


def test_feedback_helps_where_little_was_known_and_permuted_rewards_do_not() -> None:
    test = world(400, seed=4)
    kinds = ("none", "refined", "binary", "refined_shuffled")
    rounds: dict[str, list[FeedbackResult]] = {kind: [] for kind in kinds}
    for seed in range(2):
        training = world(400, seed=10 + seed)
        params = replay_params(stream=IDLE, learning={"answers": 2})
        for kind, learned in continual(training, test, LLMS, 0.06, SMALL, params, seed, kinds).items():
            rounds[kind].append(learned)
    result = gains({kind: pooled(some) for kind, some in rounds.items()}, resample(400, 60, seed=0))
    assert set(result) == set(kinds) <= set(KINDS)
    for kind in ("refined", "binary"):
        assert result[kind]["gain_utility_95"]["low"] > 0
        assert result[kind]["gain_quality"] == pytest.approx(result[kind]["quality"] - result["none"]["quality"])
        assert result[kind]["utility"] > result["refined_shuffled"]["utility"]
    assert "gain_utility" not in result["none"]
    first = rounds["none"][0]
    assert len(first.stream_utility) == 376
    assert (np.diff(first.stream_regret) >= -1e-9).all()


def test_the_test_queries_outcomes_reach_no_choice() -> None:
    training, test = world(120, seed=5), world(40, seed=6)
    params = replay_params(stream=IDLE)
    other = replace(test, outcomes=replace(test.outcomes, quality=1 - test.outcomes.quality))
    for kind in ("refined", "binary"):
        own = continual(training, test, LLMS, 0.5, SMALL, params, 0, [kind])[kind]
        turned = continual(training, other, LLMS, 0.5, SMALL, params, 0, [kind])[kind]
        np.testing.assert_array_equal(own.cost_usd, turned.cost_usd)
        np.testing.assert_array_equal(own.quality, 1 - turned.quality)
        np.testing.assert_array_equal(own.stream_regret, turned.stream_regret)


def test_rounds_are_pooled_by_query() -> None:
    params = replay_params(stream=IDLE)
    whole = world(90, seed=7)
    one, two = (
        continual(whole.take(np.arange(60)), whole.take(rows), LLMS, 0.8, SMALL, params, 0, ["none"])["none"]
        for rows in (np.arange(60, 80), np.arange(70, 90))
    )
    both = pooled([one, two])
    assert both.queries.tolist() == list(range(60, 90))
    assert both.utility[0] == one.utility[0]
    assert both.utility[10] == pytest.approx((one.utility[10] + two.utility[0]) / 2)
    np.testing.assert_allclose(both.curve.cost[:, 25], two.curve.cost[:, 15])
    with pytest.raises(ValueError, match="same queries"):
        gains({"none": one, "refined": two}, resample(20, 2, 0))


def test_probe_queries_are_stratified() -> None:
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    rows = stratified(labels, 20, seed=0)
    assert [sum(labels[row] == name for row in rows) for name in "abc"] == [12, 6, 2]
    assert len(set(rows.tolist())) == 20
    assert stratified(labels, 500, seed=0).tolist() == list(range(100))


# ---------------------------------------------------------------- a new LLM


NOISE = Noise(0.1, 0.05)


def joined(router: Router, n: int, known: bool = True) -> Router:
    probes = world(max(n, 1), seed=8)
    asked = probes.outcomes.take(np.arange(n))
    return onboard(
        router,
        LLMS.take([3]),
        probes.embeddings[:n],
        asked.quality[:, 3],
        asked.response_tokens[:, 3],
        NOISE,
        asked.quality[:, :3] if known else None,
    )


@pytest.mark.parametrize("known", [True, False])
def test_a_new_llm_is_known_from_its_probes(router: Router, known: bool) -> None:
    fresh = world(300, seed=9)
    features = router.feature_map(fresh.embeddings)
    error = {}
    for probes in (0, 20, 200):
        predicted = joined(router, probes, known).predict(features, fresh.outcomes.prompt_tokens)
        error[probes] = float(((predicted.quality[:, 3] - fresh.outcomes.quality[:, 3]) ** 2).mean())
    assert error[200] < error[20] < error[0]
    assert error[200] < fresh.outcomes.quality[:, 3].var()


def test_answers_fill_the_leaves_of_a_shared_forest(stacked: Router) -> None:
    forest = stacked.prior.with_average()
    assert isinstance(forest, SharedForest)
    features = stacked.feature_map(world(60, seed=8).embeddings)
    as_expected = filled(forest, features, np.zeros((60, 2)), noise=0.1)
    np.testing.assert_array_equal(as_expected.value, forest.value)
    better = filled(forest, features, np.full((60, 2), 0.2), noise=0.1)
    np.testing.assert_array_equal(better.value[:, :3], forest.value[:, :3])
    rise = better.value[:, 3] - forest.value[:, 3]
    assert rise.max() < 0.2  # the others' mean counts, too
    seen = np.unique(leaves(forest, features))
    assert (rise[seen] > 0).all()
    assert (np.delete(rise, seen, axis=0) == 0).all()
    noisy = filled(forest, features, np.full((60, 2), 0.2), noise=1.0)
    assert (noisy.value[seen, 3, 0] < better.value[seen, 3, 0]).all()


@pytest.mark.parametrize("known", [True, False])
def test_a_shared_forest_learns_a_new_llm_as_if_trained_with_it(stacked: Router, known: bool) -> None:
    fresh, whole = world(300, seed=9), world(300, seed=0)
    told = train(whole, LLMS, SMALL.model_copy(update={"predictor": "stacked"}))[0]
    expected = told.predict(told.feature_map(fresh.embeddings)).quality[:, 3]
    features = stacked.feature_map(fresh.embeddings)
    apart = []
    for probes in (0, 20, 200):
        more = joined(stacked, probes, known)
        apart.append(float(np.abs(more.predict(features).quality[:, 3] - expected).mean()))
        if probes:
            assert more.heads.updates[3] == probes
    assert max(apart[1:]) < apart[0] / 1.5
    assert apart[2] < 0.1


def test_a_new_llm_leaves_the_others_bit_identical(router: Router) -> None:
    fresh = world(30, seed=10)
    features = router.feature_map(fresh.embeddings)
    more = joined(router, 50)
    before = router.predict(features, fresh.outcomes.prompt_tokens[:, :3])
    after = more.predict(features, fresh.outcomes.prompt_tokens)
    for name in ("quality", "response_tokens", "cost_usd", "variance"):
        np.testing.assert_array_equal(getattr(after, name)[:, :3], getattr(before, name))
    for name in ("precision", "moments", "weights"):
        np.testing.assert_array_equal(getattr(more.heads, name)[:3], getattr(router.heads, name))
    assert more.heads.updates.tolist() == [0, 0, 0, 50]


def test_a_new_llm_is_expected_to_be_alike_and_uncertain(router: Router) -> None:
    """Without an answer: the mean of the others, less certain than they are, most so where they differ."""
    features = router.feature_map(world(20, seed=11).embeddings)
    more = joined(router, 0)
    mean, variance = more.heads.predict(features)
    np.testing.assert_allclose(mean[:, 3], mean[:, :3].mean(axis=1), atol=1e-9)
    assert (variance[:, 3] > variance[:, :3].max(axis=1)).all()
    theta = router.heads.weights[:, :, router.heads.dimension]
    centred = theta - theta.mean(axis=0)
    expected = np.diag(1 / router.heads.penalty[0]) + centred.T @ centred / 2 / NOISE.own
    np.testing.assert_allclose(np.linalg.inv(more.heads.precision[3]), expected, rtol=1e-6, atol=1e-9)


def test_impossible_probe_answers_are_refused(router: Router) -> None:
    vectors = world(2, seed=12).embeddings
    with pytest.raises(InputError, match="probe answers of 'poor-cheap'"):
        onboard(router, LLMS.take([3]), vectors, np.array([0.5, np.nan]), np.ones(2), NOISE)
    with pytest.raises(InputError, match="already"):
        onboard(router, LLMS.take([0]), vectors, np.ones(2), np.ones(2), NOISE)


def test_llms_that_join_recover_most_of_the_gain() -> None:
    adapted = newcomers.adapt(
        world(500, seed=13),
        world(300, seed=14),
        LLMS,
        0.4,
        SMALL,
        replay_params(stream=IDLE),
        0,
        withheld=["bio-mid", "alge-mid"],
        probes=100,
        queries=200,
        every=100,
    )
    assert adapted.withheld == ("bio-mid", "alge-mid")
    assert adapted.steps.tolist() == [0, 100, 200]
    assert adapted.probe_usd > 0
    rows = adapted.recovered(resample(300, 100, seed=0))
    assert rows[-1]["known"] > rows[-1]["without"]
    assert rows[-1]["recovered"] > 0.8
    assert rows[-1]["low"] <= rows[-1]["recovered"] <= rows[-1]["high"]


def test_an_llm_that_joins_may_have_a_capacity_of_its_own() -> None:
    own = {name: {"workers": 2, "jitter": 0.1} for name in ("bio-mid", "alge-mid", "poor-cheap")}
    params = replay_params(stream=IDLE | {"llms": own})
    parts = world(120, seed=13), world(40, seed=14)
    settings = {"withheld": ["bio-mid"], "probes": 30, "queries": 20, "every": 20}
    adapted = newcomers.adapt(*parts, LLMS, 0.4, SMALL, params, 0, **settings)  # type: ignore[arg-type]
    assert adapted.steps.tolist() == [0, 20]


def test_the_most_used_llms_are_withheld_unless_named() -> None:
    split = world(200, seed=15)
    router = train(split, LLMS, SMALL)[0]
    used = newcomers.most_used(router, split, replay_params(), 2)
    assert len(used) == 2
    # Cheap and good on a domain each; the dear one is hardly better.
    assert 2 not in used
