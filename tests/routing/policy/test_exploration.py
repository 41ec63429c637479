"""Exploration with known probabilities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbiosis.routing.policy.exploration import Kind, probabilities

SCORES = np.array([0.5, 0.45, 0.1, 0.48])


@pytest.mark.parametrize("kind", ["none", "epsilon", "softmax", "thompson"])
def test_without_exploration_the_best_is_certain(kind: Kind) -> None:
    assert probabilities(SCORES, np.ones(4), kind, 0.0).tolist() == [1, 0, 0, 0]


def test_epsilon_and_softmax_by_hand() -> None:
    assert probabilities(SCORES, np.ones(4), "epsilon", 0.2).tolist() == pytest.approx([0.85, 0.05, 0.05, 0.05])
    two = probabilities(np.array([0.3, 0.1]), np.ones(2), "softmax", 0.2)
    assert two[0] == pytest.approx(1 / (1 + np.exp(-1)))


def test_thompson_is_as_often_right_as_draws_are() -> None:
    deviation = np.array([0.05, 0.2, 0.02, 0.1])
    rng = np.random.default_rng(0)
    draws = (SCORES + deviation * rng.standard_normal((200_000, 4))).argmax(axis=1)
    chance = probabilities(SCORES, deviation, "thompson", 1.0)
    np.testing.assert_allclose(chance, np.bincount(draws, minlength=4) / 200_000, atol=0.005)


def test_thompson_with_two_is_the_normal_distribution_function() -> None:
    from scipy.stats import norm

    chance = probabilities(np.array([0.3, 0.2]), np.array([0.1, 0.2]), "thompson", 2.0)
    assert chance[0] == pytest.approx(norm.cdf(0.1 / np.hypot(0.2, 0.4)), abs=2e-4)


@settings(max_examples=50)
@given(
    scores=st.lists(st.floats(-1, 1), min_size=1, max_size=8),
    amount=st.floats(0, 1),
    kind=st.sampled_from(["none", "epsilon", "softmax", "thompson"]),
)
def test_probabilities_sum_to_one_and_rise_with_the_score(scores: list[float], amount: float, kind: Kind) -> None:
    values = np.array(scores)
    amount = 0.0 if amount < 1e-3 else amount
    chance = probabilities(values, np.full(len(values), 0.3), kind, amount)
    assert chance.sum() == pytest.approx(1)
    assert (chance >= 0).all()
    assert chance[values.argmax()] == pytest.approx(chance.max())
