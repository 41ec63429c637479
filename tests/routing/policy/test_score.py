"""Which LLM is chosen: the score of MixLLM, its laws, and its frozen cost scale."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from routing_world import DOMAINS, LLMS, RULE, draw, train_params

from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.router import Predictions
from symbiosis.routing.policy.objectives import Outlook, Paper, Verdict, decide
from symbiosis.routing.policy.score import Rule, waiting_penalty

PLAIN = replace(RULE, exploration=0.0, waiting=0.0)


def predictions(quality: Any, cost: Any, variance: Any = 0.0) -> Predictions:
    quality, cost = np.atleast_2d(np.asarray(quality, float)), np.atleast_2d(np.asarray(cost, float))
    return Predictions(quality, cost, cost, np.broadcast_to(np.asarray(variance, float), quality.shape))


def score(told: Predictions, waits: np.ndarray, rule: Rule, cost_scale: float) -> Verdict:
    """The published score of LLMs that answer at once."""
    none = np.zeros_like(told.quality)
    seen = Outlook(
        told.quality, told.quality, told.quality, np.sqrt(told.variance), told.cost_usd,
        np.broadcast_to(waits, none.shape), none, none[0], cost_scale,
    )  # fmt: skip
    return decide(Paper(rule), seen)


shares = st.floats(0, 1, allow_subnormal=False)
tables = st.tuples(st.integers(1, 12), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(arrays(float, shape, elements=shares), arrays(float, shape, elements=shares))
)


def test_score_by_hand() -> None:
    verdict = score(
        predictions([0.9, 0.5], [0.02, 0.001], [[0.25, 0.04]]), np.array([30.0, 0.0]), RULE, cost_scale=0.04
    )
    # Eq. 8: 1.4 / 2.4 p - 1 / 2.4 c; Eq. 9: root; Eq. 10: exp(0.1 (w - 15))
    parts = verdict.parts
    np.testing.assert_allclose(parts["trade-off"][0], [1.4 / 2.4 * 0.9 - 0.5 / 2.4, 1.4 / 2.4 * 0.5 - 0.025 / 2.4])
    np.testing.assert_allclose(parts["uncertainty"][0], [0.01 * 0.5, 0.01 * 0.2])
    np.testing.assert_allclose(parts["waiting"][0], [-0.1 * np.exp(1.5), -0.1 * np.exp(-1.5)])
    np.testing.assert_allclose(verdict.total, parts["trade-off"] + parts["uncertainty"] + parts["waiting"])
    assert verdict.choice().tolist() == [1]
    idle = score(predictions([0.9, 0.5], [0.02, 0.001]), np.zeros(2), RULE, cost_scale=0.04)
    assert idle.choice().tolist() == [0]


def test_the_root_is_a_flag() -> None:
    told = predictions([0.5, 0.5], [0, 0], [[0.25, 0.04]])
    np.testing.assert_allclose(score(told, np.zeros(2), RULE, 1.0).parts["uncertainty"], [[0.005, 0.002]])
    plain = score(told, np.zeros(2), replace(RULE, root=False), 1.0)
    np.testing.assert_allclose(plain.parts["uncertainty"], [[0.0025, 0.0004]])


@given(table=tables, pay=st.lists(st.floats(1e-4, 1e4), min_size=2, max_size=8))
def test_predicted_quality_and_cost_do_not_fall_as_willingness_to_pay_rises(
    table: tuple[np.ndarray, np.ndarray], pay: list[float]
) -> None:
    told = predictions(*table)
    rows = np.arange(len(table[0]))
    results = []
    for trade_off in sorted(pay):
        arms = score(told, np.zeros(table[0].shape[1]), replace(PLAIN, trade_off=trade_off), 1.0).choice()
        results.append((table[0][rows, arms], table[1][rows, arms]))
    for (quality, cost), (more_quality, more_cost) in pairwise(results):
        # Ties may fall either way within rounding.
        assert (more_quality >= quality - 1e-9).all()
        assert (more_cost >= cost - 1e-9).all()


@given(table=tables, pay=st.floats(1e-3, 1e3))
def test_convex_and_linear_weights_value_alike(table: tuple[np.ndarray, np.ndarray], pay: float) -> None:
    convex = utility(*table, pay)
    linear = utility(*table, pay, "linear")
    np.testing.assert_allclose(convex * (1 + pay), linear, rtol=1e-9, atol=1e-9)


@given(table=tables, arm=st.integers(0, 5), waits=st.lists(st.floats(0, 200), min_size=2, max_size=6))
def test_an_llm_is_chosen_no_more_often_as_its_wait_rises(
    table: tuple[np.ndarray, np.ndarray], arm: int, waits: list[float]
) -> None:
    told, n_llms = predictions(*table), table[0].shape[1]
    arm %= n_llms
    counts = []
    for wait in sorted(waits):
        seconds = np.full(n_llms, 5.0)
        seconds[arm] = wait
        counts.append(int((score(told, seconds, RULE, 1.0).choice() == arm).sum()))
    assert counts == sorted(counts, reverse=True)


@given(table=tables, wait=st.floats(0, 40))
def test_equal_waits_change_no_choice(table: tuple[np.ndarray, np.ndarray], wait: float) -> None:
    quality, cost = np.round(table[0], 3), np.round(table[1], 3)  # no ties within rounding
    told, n_llms = predictions(quality, cost), table[0].shape[1]
    idle = score(told, np.zeros(n_llms), RULE, 1.0)
    gaps = np.sort(idle.total, axis=1)
    clear = gaps[:, -1] - gaps[:, -2] > 1e-9
    waiting = score(told, np.full(n_llms, wait), RULE, 1.0)
    np.testing.assert_array_equal(waiting.choice()[clear], idle.choice()[clear])


def test_the_penalty_stays_finite_and_passes_one_at_the_onset() -> None:
    penalty = waiting_penalty(np.array([0.0, 15.0, 30.0, 1e12]), RULE)
    np.testing.assert_allclose(penalty[:3], [np.exp(-1.5), 1.0, np.exp(1.5)])
    assert np.isfinite(penalty[3])
    assert penalty[3] > 1e6


def test_scaled_cost_is_cut_at_one_and_knows_no_batch() -> None:
    np.testing.assert_array_equal(scaled_cost(np.array([0.5, 1.0, 7.0]), 2.0), [0.25, 0.5, 1.0])


def test_one_query_is_decided_the_same_alone_and_in_any_batch() -> None:
    outcomes, vectors, domain = draw(300, seed=0)
    labels = [DOMAINS[d] for d in domain]
    router, _ = train(Split(outcomes, vectors, labels, labels), LLMS, train_params())
    new, new_vectors, _ = draw(600, seed=1)
    # The most expensive query of all joins the batch: a scale taken from the batch would move every score.
    new.prompt_tokens[-1] = 1e6
    whole = router.predict(router.feature_map(new_vectors), new.prompt_tokens)
    together = score(whole, np.zeros(4), RULE, router.cost_scale)
    for row in range(0, 600, 37):
        x = router.feature_map(new_vectors[row : row + 1])
        alone = score(router.predict(x, new.prompt_tokens[row : row + 1]), np.zeros(4), RULE, router.cost_scale)
        np.testing.assert_allclose(alone.total[0], together.total[row], rtol=1e-10, atol=1e-12)
        assert alone.choice()[0] == together.choice()[row]


def test_uncertainty_decides_between_equals() -> None:
    told = predictions([0.5, 0.5], [0.1, 0.1], [[0.1, 0.4]])
    assert score(told, np.zeros(2), RULE, 1.0).choice().tolist() == [1]
    assert score(told, np.zeros(2), PLAIN, 1.0).choice().tolist() == [0]


@pytest.mark.parametrize(("trade_off", "expected"), [(0.0, 1), (1e6, 0)])
def test_the_ends_of_the_trade_off_buy_the_cheapest_and_the_best(trade_off: float, expected: int) -> None:
    told = predictions([0.9, 0.8], [0.9, 0.1])
    assert score(told, np.zeros(2), replace(PLAIN, trade_off=trade_off), 1.0).choice().tolist() == [expected]
