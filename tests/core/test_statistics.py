"""Bootstrap intervals: their coverage, pairing, and draws."""

from typing import get_args

import numpy as np
import pytest

from symbiosis.core import statistics
from symbiosis.core.statistics import Draw, bounds, interval, means_with_intervals, resample, resampled_means


@pytest.mark.parametrize("draw", get_args(Draw))
def test_intervals_cover_the_truth_as_often_as_they_say(draw: Draw) -> None:
    rng = np.random.default_rng(5)
    truth, repeats = 0.3, 400
    covered = 0
    for seed in range(repeats):
        low, high = bounds(resampled_means((rng.random((150, 1)) < truth).astype(float), 200, seed, draw))
        covered += int(low[0] <= truth <= high[0])
    assert 0.92 < covered / repeats < 0.98


@pytest.mark.parametrize("draw", get_args(Draw))
def test_intervals_agree_with_the_normal_approximation(draw: Draw) -> None:
    values = np.random.default_rng(2).gamma(2, size=(5000, 1))
    low, high = bounds(resampled_means(values, 2000, 0, draw))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert [low[0], high[0]] == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)


def test_a_difference_is_paired() -> None:
    rng = np.random.default_rng(3)
    common = rng.random(1000)
    first, second = common + 0.01 * rng.random(1000), common
    difference, one, _ = means_with_intervals(np.stack([first - second, first, second], axis=1), 500, seed=1)
    assert difference["low"] > 0
    assert difference["high"] - difference["low"] < 0.05 * (one["high"] - one["low"])


@pytest.mark.parametrize("draw", get_args(Draw))
def test_samples_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch, draw: Draw) -> None:
    values = np.random.default_rng(0).random((33, 2))
    whole = resampled_means(values, 100, 7, draw)
    monkeypatch.setattr(statistics, "DRAWN_AT_ONCE", 33 * 7)
    np.testing.assert_allclose(resampled_means(values, 100, 7, draw), whole, rtol=1e-12)


def test_weights_give_the_means_of_the_same_draws() -> None:
    values = np.random.default_rng(0).random((21, 3))
    weights = resample(21, 50, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(weights @ values, resampled_means(values, 50, 4, "counts"), rtol=1e-12)


def test_one_observation_has_an_interval_of_no_width() -> None:
    assert means_with_intervals(np.array([[0.25]]), 100, 0) == [{"mean": 0.25, "low": 0.25, "high": 0.25}]
    assert interval(resample(1, 100, 0)[:, 0]) == {"low": 1.0, "high": 1.0}


def test_bounds_leave_out_the_tails() -> None:
    samples = np.arange(101.0)
    assert interval(samples) == {"low": 2.5, "high": 97.5}
    assert [float(bound) for bound in bounds(samples, 0.8)] == pytest.approx([10.0, 90.0])
