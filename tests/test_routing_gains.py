"""Gains of routing by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.routing import gains

CALLS, QUALITY = np.array([0.5, 0.25]), np.array([0.8, 0.5])  # weak 0.4, strong 0.8


def test_gap_recovered() -> None:
    np.testing.assert_allclose(gains.gap_recovered(np.array([0.4, 0.5, 0.8, 0.9]), 0.4, 0.8), [0, 0.25, 1, 1.25])


def test_average_gap_recovered() -> None:
    # 0 to 1/4 over the first quarter of the calls, to 1 at half of them, then level.
    expected = 0.25 * 0.25 / 2 + 0.25 * (0.25 + 1) / 2 + 0.5
    assert gains.average_gap_recovered(CALLS, QUALITY, 0.4, 0.8) == pytest.approx(expected)
    # Chance: half of the gap for half of the calls.
    assert gains.average_gap_recovered(np.array([0.3]), np.array([0.4 + 0.3 * 0.4]), 0.4, 0.8) == pytest.approx(0.5)


def test_calls_for() -> None:
    assert gains.calls_for(0.25, CALLS, QUALITY, 0.4, 0.8) == pytest.approx(0.25)
    assert gains.calls_for(0.5, CALLS, QUALITY, 0.4, 0.8) == pytest.approx(0.25 + 0.25 * (0.25 / 0.75))
    assert gains.calls_for(1.0, CALLS, QUALITY, 0.4, 0.8) == pytest.approx(0.5)
    assert gains.calls_for(0.0, CALLS, QUALITY, 0.4, 0.8) == 0
    # A curve that rises, falls and rises: the first crossing.
    uneven = np.array([0.2, 0.4]), np.array([0.7, 0.5])
    assert gains.calls_for(0.5, *uneven, 0.4, 0.8) == pytest.approx(0.2 * 0.5 / 0.75)


def test_gain_and_saving() -> None:
    points, best = np.array([[1.0, 0.5], [2.0, 0.9]]), np.array([4.0, 0.8])
    assert gains.performance_gain(points, best) == pytest.approx(0.9 / 0.8 - 1)
    assert gains.cost_save(points, best) == pytest.approx(1 - 1.75 / 4)
    assert gains.cost_save(points[:1], best) is None
    assert gains.cost_save(np.array([[6.0, 0.8]]), best) == pytest.approx(-0.5)


def test_undominated_and_distance() -> None:
    points = np.array([[2.0, 0.6], [1.0, 0.2], [3.0, 0.5], [2.0, 0.4], [5.0, 1.0]])
    np.testing.assert_array_equal(gains.undominated(points), [[1, 0.2], [2, 0.6], [5, 1.0]])
    others = np.array([[1.0, 0.2], [5.0, 1.0]])
    assert gains.pareto_distance(others, np.array([[3.0, 0.1]])) == 0
    # Spans of the frontier: cost 4, quality 0.8. (3, 0.6) is beaten by (2, 0.6), a quarter away.
    router = np.array([[3.0, 0.6]])
    assert gains.pareto_distance(router, np.vstack([others, [[2.0, 0.6]]])) == pytest.approx(0.25)


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), min_size=1, max_size=20))
def test_nobody_beats_the_undominated(rows: list[tuple[float, float]]) -> None:
    points = np.array(rows)
    kept = gains.undominated(points)
    for cost, quality in kept:
        assert not ((points[:, 0] <= cost) & (points[:, 1] > quality)).any()
    for cost, quality in points:
        assert ((kept[:, 0] <= cost) & (kept[:, 1] >= quality)).any()


def test_share_of_dearest() -> None:
    cost = np.array([[1.0, 9.0, 2.0], [5.0, 3.0, 2.0]])
    np.testing.assert_array_equal(gains.share_of_dearest(np.array([[1, 0], [1, 1], [2, 0]]), cost), [0.5, 1.0, 0.0])
