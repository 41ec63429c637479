"""Objectives of a decision: their laws, pacing of a budget, and exploration among the best."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import norm

from symbiosis.routing.policy.exploration import Kind, among_best
from symbiosis.routing.policy.objectives import (
    Budget,
    Deadline,
    Outlook,
    QualityFloor,
    ServiceCycle,
    TradeOff,
    decide,
)


def outlook(
    quality: object, cost: object, *, half: float = 0.0, wait: object = 0.0, service: object = 1.0, startup: float = 0.0
) -> Outlook:
    level = np.atleast_2d(np.asarray(quality, float))
    full = [np.broadcast_to(np.asarray(values, float), level.shape) for values in (cost, wait, service)]
    starts = np.full(level.shape[1], startup)
    return Outlook(level, level - half, level + half, np.zeros_like(level), full[0], full[1], full[2], starts, 1.0)


shares = st.floats(0, 1, allow_subnormal=False)
tables = st.tuples(st.integers(1, 12), st.integers(2, 6)).flatmap(
    lambda shape: st.tuples(*(arrays(float, shape, elements=shares) for _ in range(3)))
)


@given(table=tables, pay=st.lists(st.floats(1e-4, 1e4), min_size=2, max_size=6))
def test_quality_and_cost_do_not_fall_as_the_trade_off_rises(table: tuple[np.ndarray, ...], pay: list[float]) -> None:
    quality, cost, _ = table
    rows = np.arange(len(quality))
    chosen = [decide(TradeOff(value), outlook(quality, cost)).choice() for value in sorted(pay)]
    for less, more in pairwise(chosen):
        assert (quality[rows, more] >= quality[rows, less] - 1e-9).all()
        assert (cost[rows, more] >= cost[rows, less] - 1e-9).all()


@given(table=tables, floor=shares, half=st.floats(0, 0.3))
def test_a_floor_buys_the_cheapest_that_surely_reaches_it(
    table: tuple[np.ndarray, ...], floor: float, half: float
) -> None:
    quality, cost, _ = table
    seen = outlook(quality, cost, half=half)
    for row, arm in enumerate(decide(QualityFloor(floor), seen).choice()):
        enough = seen.lower[row] >= floor
        if enough.any():
            assert enough[arm]
            assert cost[row, arm] == cost[row][enough].min()
        else:
            assert seen.lower[row, arm] == seen.lower[row].max()


@given(table=tables, arm=st.integers(0, 5), waits=st.lists(st.floats(0, 100), min_size=2, max_size=6))
def test_an_llm_is_chosen_no_more_often_as_its_wait_rises(
    table: tuple[np.ndarray, ...], arm: int, waits: list[float]
) -> None:
    quality, cost, _ = table
    arm %= quality.shape[1]
    for deadline in (Deadline(10.0, 0.5), Deadline(10.0, 0.1, risk=0.05)):
        counts = []
        for wait in sorted(waits):
            seconds = np.full(quality.shape[1], 5.0)
            seconds[arm] = wait
            # Someone is always in time: where all are late, the least late are taken, and that may be anyone.
            seconds[(arm + 1) % len(seconds)] = 0.0
            verdict = decide(TradeOff(1.4), outlook(quality, cost, wait=seconds), deadline, 0.5)
            counts.append(int((verdict.choice() == arm).sum()))
        assert counts == sorted(counts, reverse=True)


@given(table=tables)
def test_every_query_has_an_admissible_llm_and_parts_add_up(table: tuple[np.ndarray, ...]) -> None:
    seen = outlook(table[0], table[1], half=0.2, wait=60 * table[2])
    for objective in (TradeOff(1.0), QualityFloor(0.8), Budget(0.3, price=0.4)):
        verdict = decide(objective, seen, Deadline(10.0, 0.1, risk=0.1), 0.5)
        assert verdict.admissible.any(axis=1).all()
        np.testing.assert_allclose(sum(verdict.parts.values()), verdict.total)
        assert np.isfinite(verdict.total).all()
        rows = np.arange(len(table[0]))
        assert verdict.admissible[rows, verdict.choice()].all()


def test_a_service_cycle_divides_worth_by_time() -> None:
    # Trade-off 1: half of the quality and half of what is saved, over 1 + T / 5.
    seen = outlook([0.9, 0.5], [0.3, 0.1], wait=[4.0, 0.0], service=[6.0, 5.0])
    verdict = decide(ServiceCycle(1.0, reference_s=5.0), seen)
    np.testing.assert_allclose(verdict.total, [[(0.45 + 0.35) / 3, (0.25 + 0.45) / 2]])
    assert verdict.choice().tolist() == [1]


@given(table=tables, pay=st.floats(1e-3, 1e3), time=st.floats(0, 60), reference=st.floats(1, 100))
def test_among_equally_fast_llms_a_service_cycle_is_the_trade_off(
    table: tuple[np.ndarray, ...], pay: float, time: float, reference: float
) -> None:
    seen = outlook(table[0], table[1], service=time)
    plain = decide(TradeOff(pay), seen).total
    chosen = decide(ServiceCycle(pay, reference), seen).choice()
    assert (plain[np.arange(len(plain)), chosen] >= plain.max(axis=1) - 1e-9).all()


def test_completion_counts_the_answer_and_the_hinge_its_excess() -> None:
    seen = outlook([0.9, 0.8], [0.1, 0.1], wait=[0.0, 4.0], service=[15.0, 2.0])
    np.testing.assert_array_equal(seen.completion_s, [[15.0, 6.0]])
    np.testing.assert_allclose(Deadline(10.0, 0.4).penalty(seen), [[0.4 * 5 / 10, 0.0]])
    assert decide(TradeOff(1.0), seen).choice().tolist() == [0]  # the bare wait would never refuse it
    assert decide(TradeOff(1.0), seen, Deadline(10.0, 0.4)).choice().tolist() == [1]


def test_chance_to_be_late_is_the_tail_of_a_log_normal_length() -> None:
    seen = outlook([0.9], [0.1], wait=2.0, service=7.0, startup=1.0)
    chance = Deadline(12.0).late(seen, np.array([0.6]))[0, 0]
    rng = np.random.default_rng(0)
    lengths = np.exp(0.6 * rng.standard_normal(400_000) - 0.18) * 6.0  # mean 6
    assert chance == pytest.approx((2 + 1 + lengths > 12).mean(), abs=0.003)
    assert chance == pytest.approx(1 - norm.cdf((np.log(9) - np.log(6) + 0.18) / 0.6))
    assert Deadline(12.0).late(seen, 0.0)[0, 0] == 0
    assert Deadline(2.5).late(seen, 0.5)[0, 0] == 1


def test_who_is_likely_late_is_refused_unless_all_are() -> None:
    seen = outlook([0.9, 0.5], [0.1, 0.1], wait=[11.0, 0.0])
    assert decide(TradeOff(100.0), seen, Deadline(10.0, 0.0, risk=0.05), 0.5).admissible.tolist() == [[False, True]]
    seen = outlook([0.9, 0.5], [0.1, 0.1], wait=[8.0, 8.5], service=4.0)
    assert decide(TradeOff(100.0), seen, Deadline(10.0, 0.0, risk=0.05), 0.5).admissible.tolist() == [[True, False]]


def test_a_floor_is_looked_for_among_those_in_time() -> None:
    # The only LLM above the floor is late: of the others that with the best bound.
    seen = outlook([0.9, 0.5, 0.6], [0.1, 0.1, 0.3], wait=[11.0, 0.0, 0.0])
    assert decide(QualityFloor(0.8), seen, Deadline(10.0, 0.0, risk=0.05), 0.5).choice().tolist() == [2]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_pacing_spends_the_budget(share: float) -> None:
    rng = np.random.default_rng(3)
    n = 6000
    quality = np.clip(np.array([0.45, 0.6, 0.7, 0.8]) + 0.15 * rng.standard_normal((n, 4)), 0, 1)
    cost = np.array([0.02, 0.1, 0.4, 2.0]) * np.exp(0.4 * rng.standard_normal((n, 4)))
    greedy = cost[np.arange(n), quality.argmax(axis=1)].mean()
    budget = Budget(share * greedy)
    spent = np.empty(n)
    for row in range(n):
        arm = int(decide(budget, outlook(quality[row], cost[row])).choice()[0])
        spent[row] = cost[row, arm]
        budget.charge(spent[row])
    assert 0.9 < spent[1000:].mean() / budget.usd_per_query < 1.1
    # Control: the same prices without pacing overspend.
    assert greedy > 1.5 * budget.usd_per_query


def test_the_price_of_money_stays_in_its_bounds_and_costs_are_corrected() -> None:
    budget = Budget(1.0)
    for _ in range(500):
        budget.charge(100.0)
    assert budget.price == 5.0
    for _ in range(3000):
        budget.charge(0.0)
    assert budget.price == 0.0
    fresh, told = Budget(2.0), Budget(2.0)
    fresh.charge(3.0)
    told.charge(1.0)
    told.correct(1.0, 3.0)
    assert told.spent == pytest.approx(fresh.spent)


@given(
    scores=arrays(float, st.integers(1, 8), elements=shares),
    most=st.integers(1, 8),
    refused=st.integers(0, 255),
    kind=st.sampled_from(["none", "epsilon", "softmax", "thompson"]),
)
def test_only_the_best_admissible_are_tried(scores: np.ndarray, most: int, refused: int, kind: Kind) -> None:
    admissible = np.array([not refused >> arm & 1 for arm in range(len(scores))])
    admissible[0] |= not admissible.any()
    chance = among_best(scores, np.full(len(scores), 0.2), admissible, most, kind, 0.3)
    assert chance.sum() == pytest.approx(1)
    assert (chance[~admissible] == 0).all()
    assert (chance > 0).sum() <= most
    out = scores[admissible & (chance == 0)]
    assert kind == "none" or not len(out) or out.max() <= scores[chance > 0].min() + 1e-12
