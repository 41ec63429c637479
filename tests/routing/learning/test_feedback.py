"""Learning while running: refined and binary feedback."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_world import DOMAINS, LLMS, SKILL, draw, replay_params, train_params

from symbiosis.routing.data.outcomes import Outcomes, Split
from symbiosis.routing.experiments.online import rule_of
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.feedback import Experience, Noise, Satisfaction
from symbiosis.routing.learning.policy_network import TRUNK, PolicyNetwork
from symbiosis.routing.learning.satisfaction import Confidence, SupervisedHead
from symbiosis.routing.model.router import Router
from symbiosis.routing.simulation.replay import FeedbackKind, ReplayedRouter, run

# ---------------------------------------------------------------- policy gradient


def network(n_llms: int, dimension: int, rate: float) -> PolicyNetwork:
    return PolicyNetwork.blank(n_llms, dimension, hidden=5, rate=rate, seed=0)


def test_reward_makes_an_llm_likelier_and_blame_rarer() -> None:
    x = np.array([1.0, 0.5, -0.2])
    for reward, risen in ((1.0, True), (-1.0, False)):
        policy = network(3, 3, rate=0.1)
        probabilities = [policy.policy(x)[1]]
        for _ in range(30):
            policy.learn(1, x, reward, propensity=1.0)
            probabilities.append(policy.policy(x)[1])
        steps = np.diff(probabilities)
        assert (steps > 0).all() if risen else (steps < 0).all()


def test_the_step_is_the_gradient_of_the_log_probability() -> None:
    rng = np.random.default_rng(0)
    x, names = rng.standard_normal(4), (*TRUNK, "outputs")
    sound = [rng.standard_normal(shape) for shape in ((5, 4), (5,), (5, 5), (5,), (3, 6))]
    policy = PolicyNetwork(*(array.copy() for array in sound), rate=1.0)
    policy.learn(2, x, reward=1.0, propensity=float(policy.policy(x)[2]))  # weight 1, baseline 0
    for place, name in enumerate(names):
        numeric = np.empty_like(sound[place])
        for entry in np.ndindex(*numeric.shape):
            sides = []
            for step in (1e-6, -1e-6):
                moved = [array.copy() for array in sound]
                moved[place][entry] += step
                sides.append(np.log(PolicyNetwork(*moved, rate=1.0).policy(x)[2]))
            numeric[entry] = (sides[0] - sides[1]) / 2e-6
        np.testing.assert_allclose(getattr(policy, name) - sound[place], numeric, rtol=1e-5, atol=1e-8)


def test_rare_actions_are_weighted_by_their_propensity_up_to_a_bound() -> None:
    x = np.ones(1)
    moved = []
    for propensity in (1.0, 0.5, 1e-9):
        policy = network(2, 1, rate=0.1)
        policy.learn(0, x, 1.0, propensity)
        moved.append(policy.outputs[0, -1])
    assert moved[1] == pytest.approx(2 * moved[0])
    assert moved[2] == pytest.approx(moved[0] * PolicyNetwork.MAXIMUM_WEIGHT / 0.5)


def test_sampled_feedback_finds_the_better_llm() -> None:
    rng = np.random.default_rng(1)
    policy, x = network(3, 1, rate=0.03), np.ones(1)
    for _ in range(2000):
        chances = policy.policy(x)
        arm = int(rng.choice(3, p=chances))
        policy.learn(arm, x, 1.0 if rng.random() < (0.2, 0.8, 0.4)[arm] else -1.0, chances[arm])
    assert policy.policy(x)[1] > 0.8


# ---------------------------------------------------------------- what feedback says


def test_noise_is_split_into_the_querys_and_the_llms_own() -> None:
    rng = np.random.default_rng(5)
    errors = rng.normal(scale=0.3, size=(20_000, 1)) + rng.normal(scale=0.5, size=(20_000, 4))
    noise = Noise.fit(errors)
    assert noise.common == pytest.approx(0.09, rel=0.1)
    assert noise.own == pytest.approx(0.25, rel=0.05)
    alone = Noise.fit(errors[:, :1])
    assert (alone.common, alone.own) == (0.0, pytest.approx(0.34, rel=0.05))


def test_errors_are_attributed_as_the_joint_normal_distribution_says() -> None:
    """Given the others' errors: the conditional mean, and the conditional variance as weight."""
    noise, errors = Noise(own=0.2, common=0.1), np.array([0.5, -0.2, 0.4])
    covariance = 0.2 * np.eye(3) + 0.1
    shared, weight = noise.attribute(errors)
    for arm in range(3):
        rest = [other for other in range(3) if other != arm]
        gain = covariance[arm, rest] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
        assert shared[arm] == pytest.approx(gain @ errors[rest])
        assert weight == pytest.approx(0.2 / (covariance[arm, arm] - gain @ covariance[rest, arm]))
    assert noise.attribute(errors[:1])[0].tolist() == [0.0]
    assert noise.attribute(errors[:1])[1] == pytest.approx(0.2 / 0.3)
    assert Noise(0.2, 0.0).attribute(errors)[1] == 1.0


def test_satisfaction_says_as_much_of_quality_as_it_did_offline() -> None:
    graded = Satisfaction.fit(np.array([[0.9, 0.7], [0.8, 0.1]]), bar=0.7)
    assert graded.quality(np.array([True, False])).tolist() == pytest.approx([0.85, 0.4])
    assert graded.variance == pytest.approx((0.05**2 * 2 + 0.3**2 * 2) / 4)
    zero_one = Satisfaction.fit(np.array([0.0, 1.0, 1.0]), bar=0.7)
    assert (zero_one.satisfied, zero_one.dissatisfied, zero_one.variance) == (1.0, 0.0, 0.0)
    assert Satisfaction.fit(np.ones(3), bar=0.7).dissatisfied == pytest.approx(0.35)


# ---------------------------------------------------------------- supervised head


def test_the_supervised_head_learns_the_surplus_of_the_llm_that_answered() -> None:
    rng = np.random.default_rng(2)
    head = SupervisedHead.blank(np.tile(np.eye(2), (3, 1, 1)))
    assert head.output(np.ones(2)).tolist() == [0.0, 0.0, 0.0]
    for _ in range(800):
        x = np.array([1.0, rng.choice([-1.0, 1.0])])
        head.learn(1, x, bool(rng.random() < 0.6 + 0.3 * x[1]), expected=0.5)
    np.testing.assert_allclose(head.output(np.array([1.0, 1.0])), [0, 0.4, 0], atol=0.06)
    np.testing.assert_allclose(head.output(np.array([1.0, -1.0])), [0, -0.2, 0], atol=0.06)


@pytest.mark.parametrize("kind", ["supervised", "policy"])
def test_heads_of_other_llms_survive_changes(kind: str) -> None:
    rng = np.random.default_rng(3)
    xs = rng.standard_normal((50, 4))
    if kind == "supervised":
        head = SupervisedHead.blank(np.tile(np.eye(4), (3, 1, 1)))
        for n, x in enumerate(xs):
            head.learn(n % 3, x, bool(n % 2), 0.5)
        kept, more = head.take([0, 2]), head.with_llm()
        np.testing.assert_array_equal(kept.output(xs[0]), head.output(xs[0])[[0, 2]])
        np.testing.assert_array_equal(more.output(xs[0]), [*head.output(xs[0]), 0.0])
    else:
        policy = network(3, 4, rate=0.1)
        for n, x in enumerate(xs):
            policy.learn(n % 3, x, 1.0 if n % 2 else -1.0, 1.0)
        kept_policy, more_policy = policy.take([0, 2]), policy.with_llm()
        np.testing.assert_array_equal(kept_policy.output(xs[0]), policy.output(xs[0])[[0, 2]])
        np.testing.assert_array_equal(more_policy.output(xs[0]), [*policy.output(xs[0]), 0.0])


# ---------------------------------------------------------------- kappa


@settings(max_examples=50)
@given(
    outputs=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), min_size=1, max_size=30),
    maximum=st.floats(0, 100),
)
def test_kappa_is_bounded(outputs: list[list[float]], maximum: float) -> None:
    confidence = Confidence(maximum, warm_up=0, window=8)
    for output in outputs:
        confidence.observe(np.array(output))
        kappa = np.asarray(confidence.kappa())
        assert ((kappa >= 0) & (kappa <= maximum)).all()


def test_kappa_is_zero_before_warm_up_and_bounded_for_a_head_that_says_nothing() -> None:
    confidence = Confidence(maximum=2.0, warm_up=3)
    for _ in range(3):
        confidence.observe(np.zeros(2))
        assert np.all(confidence.kappa() == 0)
        confidence.rewarded()
    assert np.asarray(confidence.kappa()).tolist() == [2.0, 2.0]


def test_kappa_is_the_inverse_variance_of_each_llm_over_the_window() -> None:
    confidence = Confidence(maximum=1e9, warm_up=0, window=4, epsilon=0.5)
    rng = np.random.default_rng(4)
    rows = rng.normal(scale=[1.0, 3.0], size=(20, 2))
    for row in rows:
        confidence.observe(row)
    np.testing.assert_allclose(confidence.kappa(), 1 / (rows[-4:].var(axis=0) + 0.5), rtol=1e-9)


# ---------------------------------------------------------------- the stream

# Trained where "alge-mid" is good at algebra; on the stream it has become bad at it.
CHANGED = SKILL.copy()
CHANGED[0, 0] = 0.1
IDLE = {"workers": 100, "queries_per_s": 1.0}


@pytest.fixture(scope="module")
def router() -> Router:
    outcomes, vectors, domain = draw(150, seed=0)
    labels = [DOMAINS[d] for d in domain]
    return train(
        Split(outcomes, vectors, labels, labels), LLMS, train_params(tag_penalties=[3], component_penalties=[3])
    )[0]


def streamed(
    router: Router,
    feedback: FeedbackKind,
    outcomes: Outcomes,
    vectors: np.ndarray,
    told: Outcomes | None = None,
    **binary: Any,
) -> np.ndarray:
    """Quality of each query; the router is told the outcomes `told` if they are others than the true ones."""
    learner = online(router, feedback, told or outcomes, vectors, stream=IDLE, binary=binary)
    return run(outcomes, LLMS, replay_params(stream=IDLE).stream, learner.choose, learner.answered).quality


def online(
    router: Router, feedback: FeedbackKind, outcomes: Outcomes, vectors: np.ndarray, **changes: Any
) -> ReplayedRouter:
    params = replay_params(**changes)
    known, seen, _ = draw(150, seed=0)
    experience = Experience.fit(router, seen, known, params.user.quality_above)
    rng = np.random.default_rng(0)
    return ReplayedRouter(
        router,
        outcomes,
        vectors,
        rule_of(params),
        feedback,
        experience,
        params.learning,
        params.binary,
        params.user,
        rng,
    )


def head_of(learner: ReplayedRouter) -> Any:
    assert learner.online.binary is not None
    return learner.online.binary.head


def test_feedback_follows_a_change_that_none_misses(router: Router) -> None:
    outcomes, vectors, _ = draw(900, seed=5, skill=CHANGED)
    none = streamed(router, "none", outcomes, vectors)[450:].mean()
    assert streamed(router, "refined", outcomes, vectors)[450:].mean() > none + 0.1
    for learning in ("posterior", "supervised"):
        assert streamed(router, "binary", outcomes, vectors, learning=learning)[450:].mean() > none + 0.1
    how: Any = {"learning": "policy_gradient", "sampled_share": 0.3, "rate": 0.1, "maximum_kappa": 0.5}
    assert streamed(router, "binary", outcomes, vectors, **how)[450:].mean() > none + 0.05


def test_shuffled_rewards_teach_nothing(router: Router) -> None:
    outcomes, vectors, _ = draw(900, seed=6)
    order = np.random.default_rng(7).permutation(900)
    shuffled = replace(outcomes, quality=outcomes.quality[order])
    none = streamed(router, "none", outcomes, vectors).mean()
    assert streamed(router, "refined", outcomes, vectors, told=shuffled).mean() <= none + 0.005


def test_the_start_is_not_changed_by_learning(router: Router) -> None:
    before = router.heads.weights.copy()
    outcomes, vectors, _ = draw(60, seed=8)
    streamed(router, "refined", outcomes, vectors)
    np.testing.assert_array_equal(router.heads.weights, before)


def test_propensities_are_logged_where_actions_are_drawn(router: Router) -> None:
    outcomes, vectors, _ = draw(200, seed=9)
    binary = {"learning": "policy_gradient", "sampled_share": 0.4}
    learner = online(router, "binary", outcomes, vectors, stream=IDLE, binary=binary)
    log = run(outcomes, LLMS, replay_params(stream=IDLE).stream, learner.choose, learner.answered)
    assert ((learner.propensity > 0) & (learner.propensity <= 1)).all()
    # Uniform at first: 0.4 / 4 for a drawn arm, 0.6 more for the best.
    first = learner.propensity[0]
    assert first == pytest.approx(0.1) or first == pytest.approx(0.7)
    assert len(np.unique(log.trace.arm)) == 4


@pytest.mark.parametrize("feedback", ["none", "refined", "binary"])
def test_sampling_explores_only_where_something_is_learned(router: Router, feedback: FeedbackKind) -> None:
    outcomes, vectors, _ = draw(100, seed=11)
    learning = {"sampling": {"kind": "epsilon", "amount": 0.5}}
    learner = online(router, feedback, outcomes, vectors, stream=IDLE, learning=learning)
    log = run(outcomes, LLMS, replay_params(stream=IDLE).stream, learner.choose, learner.answered)
    greedy = 0.5 + 0.5 / 4
    if feedback == "none":
        assert (learner.propensity == 1).all()
    else:
        assert set(np.round(learner.propensity, 9)) == {0.125, greedy}
        assert len(np.unique(log.trace.arm)) == 4


def test_further_answers_teach_and_are_paid_for(router: Router) -> None:
    outcomes, vectors, _ = draw(50, seed=12)
    seen = {}
    for answers in (1, 2, 9):
        learner = online(router, "refined", outcomes, vectors, stream=IDLE, learning={"answers": answers})
        log = run(outcomes, LLMS, replay_params(stream=IDLE).stream, learner.choose, learner.answered)
        seen[answers] = learner.router.heads.updates.sum()
        if answers == 1:
            assert not learner.extra_usd.any()
        if answers == 9:  # all four: who serves and who only teaches cost the whole row together
            np.testing.assert_allclose(log.cost_usd + learner.extra_usd, outcomes.cost_usd.sum(axis=1))
    assert seen == {1: 50, 2: 100, 9: 200}


def test_newcomers_are_asked_besides_until_the_burn_in_is_over(router: Router) -> None:
    outcomes, vectors, _ = draw(40, seed=14)
    params = replay_params(stream=IDLE, learning={"burn_in": 30})
    experience = online(router, "refined", outcomes, vectors).online.experience
    rng = np.random.default_rng(0)
    learner = ReplayedRouter(
        router, outcomes, vectors, rule_of(params), "refined", experience, params.learning, params.binary, params.user,
        rng, newcomers=[3],
    )  # fmt: skip
    log = run(outcomes, LLMS, params.stream, learner.choose, learner.answered)
    besides = log.trace.arm[:30] != 3
    np.testing.assert_allclose(learner.extra_usd[:30], np.where(besides, outcomes.cost_usd[:30, 3], 0))
    assert not learner.extra_usd[30:].any()
    assert learner.router.heads.updates[3] == 30 + (log.trace.arm[30:] == 3).sum()


def test_binary_answers_leave_the_expected_length_alone(router: Router) -> None:
    outcomes, vectors, _ = draw(40, seed=13)
    learner = online(router, "binary", outcomes, vectors, stream=IDLE)
    before = learner.router.heads.weights[:, :, -1].copy()
    run(outcomes, LLMS, replay_params(stream=IDLE).stream, learner.choose, learner.answered)
    np.testing.assert_allclose(learner.router.heads.weights[:, :, -1], before, atol=1e-9)
    assert learner.router.heads.updates.sum() == 40


@pytest.mark.parametrize(("wait", "dropped"), [(20.0, False), (40.0, True)])
def test_who_waited_too_long_says_nothing_of_the_answer(router: Router, wait: float, dropped: bool) -> None:
    outcomes, vectors, _ = draw(5, seed=10)
    learners = {}
    kinds: tuple[tuple[str, FeedbackKind, str], ...] = (
        ("refined", "refined", "supervised"),
        ("posterior", "binary", "posterior"),
        ("supervised", "binary", "supervised"),
        ("policy", "binary", "policy_gradient"),
    )
    for name, feedback, learning in kinds:
        learner = learners[name] = online(router, feedback, outcomes, vectors, binary={"learning": learning})
        learner.choose(0, np.array([1e6, 0.0, 1e6, 1e6]))
        learner.answered(0, 1, wait, dropped)
    # An answer that came late has been seen; a dropped query was never answered.
    assert learners["refined"].router.heads.updates.sum() == (0 if dropped else 1)
    assert learners["posterior"].router.heads.updates.sum() == 0
    assert head_of(learners["supervised"]).heads.updates.sum() == 0
    # The policy is of satisfaction, waits included: rarer next time.
    x = router.feature_map(vectors[:1])[0]
    assert head_of(learners["policy"]).policy(x).argmin() == 1
