"""Numbers of quality-cost curves, by hand."""

import numpy as np
import pytest

from symbiosis.core.rounding import all_rounded
from symbiosis.routing.metrics.curves import summarise
from symbiosis.routing.metrics.metrics import aiq, hull, log_aiq


def test_aiq_over_log_cost_by_hand() -> None:
    # Quality is the cost itself: the mean of c over ln c from 1 to e is (e - 1) / 1.
    line = np.array([[1.0, 1.0], [np.e, np.e]])
    assert log_aiq(line, 1.0, float(np.e)) == pytest.approx(np.e - 1)
    # A level hull has its level, on either axis.
    level = np.array([[1.0, 0.7]])
    assert log_aiq(level, 1.0, 100.0) == pytest.approx(0.7)
    # Half the log axis at .2, then level at .6 from cost 10 on, reached straight from (9.999999, .2).
    step = np.array([[1.0, 0.2], [9.999999, 0.2 + 1e-9], [10.0, 0.6]])
    assert log_aiq(step, 1.0, 100.0) == pytest.approx(0.4, abs=1e-6)


def test_aiq_over_log_cost_is_the_integral_of_the_hull() -> None:
    rng = np.random.default_rng(0)
    corners = hull(rng.uniform(1, 9, 40), rng.random(40))
    low, high = 0.5, 12.0
    logs = np.linspace(np.log(low), np.log(high), 200_001)
    numeric = np.interp(np.exp(logs), corners[:, 0], corners[:, 1]).mean()
    assert log_aiq(corners, low, high) == pytest.approx(numeric, abs=1e-5)
    assert log_aiq(corners, low, high) < aiq(corners, low, high)  # cheap points weigh more


def test_without_a_range_of_cost_there_is_one_quality_and_from_nothing_no_log_axis() -> None:
    corners = np.array([[1.0, 0.4], [3.0, 0.8]])
    assert log_aiq(corners, 2.0, 2.0) == pytest.approx(0.6)
    assert np.isnan(log_aiq(corners, 0.0, 3.0))
    points = np.array([[1.0, 0.4], [3.0, 0.8]])
    assert summarise(points, points).aiq_log == pytest.approx(log_aiq(corners, 1.0, 3.0))


def test_only_fractions_are_rounded() -> None:
    values = {"a": 0.12345678, "b": [1, np.float64(2.00000001)], "c": {"d": None, "e": "text", "f": True}}
    assert all_rounded(values) == {"a": 0.123457, "b": [1, 2.0], "c": {"d": None, "e": "text", "f": True}}
