"""Off-policy estimates against the truth that a full matrix of rewards gives."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_world import DOMAINS, LLMS, draw, replay_params, train_params

from symbiosis.core.errors import InputError
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.experiments.off_policy import certain, check_estimates
from symbiosis.routing.experiments.online import rule_of
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Noise
from symbiosis.routing.learning.off_policy import ESTIMATORS, Estimator, Logged, evaluate_policy, table, true_value
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.policy.exploration import Kind

N_LLMS = 4


def softmax(scores: np.ndarray) -> np.ndarray:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


class World:
    """Queries with rewards of all LLMs, a logging policy, a target policy and predictions."""

    def __init__(self, n: int, seed: int, bias: float = 0.0) -> None:
        rng = np.random.default_rng(seed)
        skill = rng.uniform(0.2, 0.9, size=(n, N_LLMS))
        self.rewards = (rng.random((n, N_LLMS)) < skill).astype(float)
        self.target = softmax(4 * skill + rng.standard_normal((n, N_LLMS)))
        behaviour = softmax(rng.standard_normal((n, N_LLMS)))
        arm = (behaviour.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
        rows = np.arange(n)
        self.logged = Logged(arm, behaviour[rows, arm], self.rewards[rows, arm])
        self.predicted = skill + bias
        self.truth = true_value(self.target, skill)  # the mean over rewards too, as each estimator's expectation


def test_estimates_lie_within_two_standard_errors_of_the_truth_as_often_as_they_should() -> None:
    hits = dict.fromkeys(ESTIMATORS, 0)
    for seed in range(200):
        world = World(300, seed)
        report = evaluate_policy(world.logged, world.target, world.predicted, samples=10)
        for name in ESTIMATORS:
            estimate = report.estimates[name]
            hits[name] += abs(estimate.value - world.truth) <= 2 * estimate.standard_error
    for name in ("ips", "snips", "dr", "sndr", "switch"):
        assert 0.9 <= hits[name] / 200 <= 0.995, name


def test_a_biased_prediction_misleads_only_the_direct_method_and_raises_an_alarm() -> None:
    world = World(4000, seed=1, bias=0.15)
    report = evaluate_policy(world.logged, world.target, world.predicted)
    direct = report.estimates["dm"]
    assert abs(direct.value - world.truth) > 5 * direct.standard_error
    for name in ("snips", "dr", "sndr"):
        estimate = report.estimates[name]
        assert abs(estimate.value - world.truth) <= 2 * estimate.standard_error
        assert estimate.low <= world.truth <= estimate.high
    assert any("dm and dr differ" in alarm for alarm in report.alarms)
    assert evaluate_policy(world.logged, world.target, world.predicted - 0.15).alarms == ()


def test_wrong_propensities_raise_an_alarm() -> None:
    world = World(4000, seed=2)
    assert evaluate_policy(world.logged, world.target, world.predicted).alarms == ()
    wrong = replace(world.logged, propensity=world.logged.propensity / 2)
    alarms = evaluate_policy(wrong, world.target, world.predicted).alarms
    assert any("instead of 1" in alarm for alarm in alarms)


def test_a_log_without_the_targets_actions_raises_an_alarm() -> None:
    world = World(500, seed=3)
    never = np.zeros((500, N_LLMS))
    never[np.arange(500), (world.logged.arm + 1) % N_LLMS] = 1
    report = evaluate_policy(world.logged, never, world.predicted)
    assert report.effective_sample_size == 0
    assert len(report.alarms) >= 2
    assert all(np.isfinite(estimate.value) for estimate in report.estimates.values())


def test_by_hand() -> None:
    """Two queries, two LLMs: weights 0.5 / 0.25 = 2 and 0.2 / 0.4 = 0.5."""
    logged = Logged(np.array([0, 1]), np.array([0.25, 0.4]), np.array([1.0, 0.0]))
    target = np.array([[0.5, 0.5], [0.8, 0.2]])
    predicted = np.array([[0.6, 0.4], [0.5, 0.5]])
    report = evaluate_policy(logged, target, predicted, switch=1.0)
    value = {name: report.estimates[name].value for name in ESTIMATORS}
    assert value["dm"] == pytest.approx(0.5)
    assert value["ips"] == pytest.approx(1.0)
    assert value["snips"] == pytest.approx(0.8)
    assert value["dr"] == pytest.approx(0.5 + (2 * 0.4 - 0.5 * 0.5) / 2)
    assert value["sndr"] == pytest.approx(0.5 + (2 * 0.4 - 0.5 * 0.5) / 2.5)
    assert value["switch"] == pytest.approx(0.5 - 0.5 * 0.5 / 2)  # the first weight is above 1
    assert report.effective_sample_size == pytest.approx(2.5**2 / 4.25)
    assert report.largest_weight == 2
    clipped = evaluate_policy(logged, target, predicted, clip=1.0)
    assert clipped.clipped == 0.5
    assert clipped.estimates["ips"].value == pytest.approx(0.5)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16))
def test_on_policy_every_weight_is_one(seed: int) -> None:
    world = World(50, seed)
    behaviour = np.full((50, N_LLMS), (1 - 0.4) / (N_LLMS - 1))
    behaviour[np.arange(50), world.logged.arm] = 0.4
    logged = replace(world.logged, propensity=np.full(50, 0.4))
    report = evaluate_policy(logged, behaviour, world.predicted, samples=10)
    assert report.effective_sample_size == pytest.approx(50)
    assert report.estimates["ips"].value == pytest.approx(logged.reward.mean())
    assert report.estimates["snips"].value == pytest.approx(logged.reward.mean())


def test_the_table_sets_estimates_beside_the_truth() -> None:
    world = World(100, seed=4)
    report = evaluate_policy(world.logged, world.target, world.predicted, samples=10)
    rows = table(report, truth=0.5)
    assert [row["estimator"] for row in rows] == list(ESTIMATORS)
    for row in rows:
        assert row["error"] == pytest.approx(report.estimates[str(row["estimator"])].value - 0.5)  # type: ignore[index]
    assert table(report)[0]["truth"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensity": np.zeros(5)}, "row 0 of the log has propensity 0.0"),
        ({"propensity": np.full(5, 1.5)}, "must lie above 0 and not above 1"),
        ({"reward": np.array([1, 1, np.nan, 1, 1])}, "row 2 of the log"),
        ({"reward": np.ones(4)}, "differ in length"),
    ],
)
def test_impossible_logs_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    sound = Logged(np.zeros(5, dtype=int), np.full(5, 0.5), np.ones(5))
    with pytest.raises(InputError, match=message):
        replace(sound, **change)


def test_impossible_targets_are_refused() -> None:
    logged = Logged(np.zeros(5, dtype=int), np.full(5, 0.5), np.ones(5))
    with pytest.raises(InputError, match="no distribution"):
        evaluate_policy(logged, np.full((5, 2), 0.4), np.zeros((5, 2)))
    with pytest.raises(InputError, match="one row per query"):
        evaluate_policy(logged, np.full((4, 2), 0.5), np.zeros((4, 2)))


@pytest.mark.parametrize(("kind", "amount"), [("epsilon", 0.3), ("softmax", 0.2), ("thompson", 3.0)])
def test_estimates_on_a_logged_stream_meet_the_truth(kind: Kind, amount: float) -> None:
    outcomes, vectors, domain = draw(1200, seed=0)
    labels = [DOMAINS[d] for d in domain]
    whole = Split(outcomes, vectors, labels, labels)
    known, stream = whole.take(np.arange(200)), whole.take(np.arange(200, 1200))
    params = train_params(tag_penalties=[3], component_penalties=[30], dimension=4)
    router = train(known, LLMS, params)[0]
    targets = {"uniform": np.full((1000, 4), 0.25), "dear": certain(np.full(1000, 2), 4)}
    rule = rule_of(replay_params())
    checked = check_estimates(router, stream, rule, Noise(0.1, 0.05), targets, kind, amount, seed=0, samples=20)
    for name, one in checked.items():
        estimators: tuple[Estimator, ...] = ("snips", "dr")
        for estimator in estimators:
            estimate = one.report.estimates[estimator]
            assert abs(estimate.value - one.truth) <= 3 * estimate.standard_error, (name, estimator)
    own = stream.outcomes
    assert checked["dear"].truth == pytest.approx(
        utility(own.quality, scaled_cost(own.cost_usd, router.cost_scale), rule.trade_off)[:, 2].mean()
    )
