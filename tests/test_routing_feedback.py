"""Learning while running: refined and binary feedback."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_world import DOMAINS, LLMS, SKILL, draw, replay_params, train_params

from symbiosis.routing.evaluation import rule_of
from symbiosis.routing.feedback import Confidence, PolicyHead, SupervisedHead
from symbiosis.routing.outcomes import Outcomes
from symbiosis.routing.replay import Feedback, OnlineRouter, run
from symbiosis.routing.router import Router
from symbiosis.routing.training import train

# ---------------------------------------------------------------- policy gradient


def test_reward_makes_an_llm_likelier_and_blame_rarer() -> None:
    x = np.array([1.0, 0.5, -0.2])
    for reward, risen in ((1.0, True), (-1.0, False)):
        head = PolicyHead.blank(3, 3, rate=0.1)
        probabilities = [head.policy(x)[1]]
        for _ in range(30):
            head.learn(1, x, reward, propensity=1.0)
            probabilities.append(head.policy(x)[1])
        steps = np.diff(probabilities)
        assert (steps > 0).all() if risen else (steps < 0).all()


def test_the_step_is_the_gradient_of_the_log_probability() -> None:
    rng = np.random.default_rng(0)
    weights, x = rng.standard_normal((3, 4)), rng.standard_normal(4)
    head = PolicyHead(weights.copy(), rate=1.0)
    pi = head.policy(x)[2]
    head.learn(2, x, reward=1.0, propensity=pi)  # weight 1, baseline 0
    numeric = np.empty_like(weights)
    for place in np.ndindex(*weights.shape):
        moved = [weights.copy(), weights.copy()]
        moved[0][place] += 1e-6
        moved[1][place] -= 1e-6
        up, down = (np.log(PolicyHead(w, 1.0).policy(x)[2]) for w in moved)
        numeric[place] = (up - down) / 2e-6
    np.testing.assert_allclose(head.weights - weights, numeric, rtol=1e-6, atol=1e-8)


def test_rare_actions_are_weighted_by_their_propensity_up_to_a_bound() -> None:
    x = np.ones(1)
    moved = []
    for propensity in (1.0, 0.5, 1e-9):
        head = PolicyHead.blank(2, 1, rate=0.1)
        head.learn(0, x, 1.0, propensity)
        moved.append(head.weights[0, 0])
    assert moved[1] == pytest.approx(2 * moved[0])
    assert moved[2] == pytest.approx(moved[0] * PolicyHead.MAXIMUM_WEIGHT / 0.5)


def test_sampled_feedback_finds_the_better_llm() -> None:
    rng = np.random.default_rng(1)
    head, x = PolicyHead.blank(3, 1, rate=0.05), np.ones(1)
    for _ in range(3000):
        policy = head.policy(x)
        arm = int(rng.choice(3, p=policy))
        head.learn(arm, x, 1.0 if rng.random() < (0.2, 0.8, 0.4)[arm] else -1.0, policy[arm])
    assert head.policy(x)[1] > 0.8


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
    head: SupervisedHead | PolicyHead
    if kind == "supervised":
        head = supervised = SupervisedHead.blank(np.tile(np.eye(4), (3, 1, 1)))
        for n, x in enumerate(xs):
            supervised.learn(n % 3, x, bool(n % 2), 0.5)
        kept, more = head.take([0, 2]), head.with_llm()
        np.testing.assert_array_equal(kept.output(xs[0]), head.output(xs[0])[[0, 2]])
        np.testing.assert_array_equal(more.output(xs[0]), [*head.output(xs[0]), 0.0])
    else:
        head = policy = PolicyHead.blank(3, 4, rate=0.1)
        for n, x in enumerate(xs):
            policy.learn(n % 3, x, 1.0 if n % 2 else -1.0, 1.0)
        kept_policy, more_policy = policy.take([0, 2]), policy.with_llm()
        np.testing.assert_array_equal(kept_policy.weights, policy.weights[[0, 2]])
        np.testing.assert_array_equal(more_policy.weights[:3], policy.weights)
        assert not more_policy.weights[3].any()


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
        vectors, outcomes, LLMS, labels, [None] * 150, train_params(tag_penalties=[3], component_penalties=[3])
    )[0]


def streamed(
    router: Router,
    feedback: Feedback,
    outcomes: Outcomes,
    vectors: np.ndarray,
    told: Outcomes | None = None,
    **binary: Any,
) -> np.ndarray:
    """Quality of each query; the router is told the outcomes `told` if they are others than the true ones."""
    params = replay_params(stream=IDLE, binary=binary)
    rng = np.random.default_rng(0)
    learner = OnlineRouter(
        router, told or outcomes, vectors, rule_of(params), feedback, params.binary, params.user, rng
    )
    return run(outcomes, LLMS, params.stream, learner.choose, learner.answered).quality


def test_feedback_follows_a_change_that_none_misses(router: Router) -> None:
    outcomes, vectors, _ = draw(900, seed=5, skill=CHANGED)
    none = streamed(router, "none", outcomes, vectors)[450:].mean()
    assert streamed(router, "refined", outcomes, vectors)[450:].mean() > none + 0.1
    assert streamed(router, "binary", outcomes, vectors)[450:].mean() > none + 0.1
    how: Any = {"learning": "policy_gradient", "sampled_share": 0.3, "rate": 0.2, "maximum_kappa": 0.5}
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
    params = replay_params(stream=IDLE, binary={"learning": "policy_gradient", "sampled_share": 0.4})
    learner = OnlineRouter(
        router, outcomes, vectors, rule_of(params), "binary", params.binary, params.user, np.random.default_rng(0)
    )
    log = run(outcomes, LLMS, params.stream, learner.choose, learner.answered)
    assert ((learner.propensity > 0) & (learner.propensity <= 1)).all()
    # Uniform at first: 0.4 / 4 for a drawn arm, 0.6 more for the best.
    first = learner.propensity[0]
    assert first == pytest.approx(0.1) or first == pytest.approx(0.7)
    assert len(np.unique(log.trace.arm)) == 4


@pytest.mark.parametrize(("wait", "dropped"), [(20.0, False), (40.0, True)])
def test_who_waited_too_long_says_nothing_of_the_answer(router: Router, wait: float, dropped: bool) -> None:
    outcomes, vectors, _ = draw(5, seed=10)
    learners = {}
    kinds: tuple[tuple[str, Feedback, str], ...] = (
        ("refined", "refined", "supervised"),
        ("supervised", "binary", "supervised"),
        ("policy", "binary", "policy_gradient"),
    )
    for name, feedback, learning in kinds:
        params = replay_params(binary={"learning": learning})
        learner = learners[name] = OnlineRouter(
            router, outcomes, vectors, rule_of(params), feedback, params.binary, params.user, np.random.default_rng(0)
        )
        learner.choose(0, np.zeros(4))
        learner.answered(0, 1, wait, dropped)
    # An answer that came late has been seen; a dropped query was never answered.
    assert learners["refined"].router.heads.updates.sum() == (0 if dropped else 1)
    assert learners["supervised"]._supervised.heads.updates.sum() == 0
    # The policy is of satisfaction, waits included: rarer next time.
    x = router.feature_map(vectors[:1])[0]
    assert learners["policy"]._policy.policy(x).argmin() == 1
