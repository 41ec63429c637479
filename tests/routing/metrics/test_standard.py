"""Standard scores by hand, and where there is nothing to score."""

import numpy as np
import pytest

from symbiosis.routing.metrics.curves import summarise
from symbiosis.routing.metrics.standard import (
    arena_score,
    average_gap_recovered,
    call_threshold,
    gain_and_save,
    gap_recovered,
    mean_scores,
    standard_scores,
)


def test_the_arena_score_by_hand() -> None:
    # At the cheapest cost that counts C is 1: 1.1 * .5 / (.05 + 1).
    assert arena_score(0.5, 0.0044 / 1000) == pytest.approx(0.55 / 1.05)
    # Half the log range: $ sqrt(200 * .0044) for 1,000 queries, C = .5: 1.1 * .5 * .5 / (.05 + .5) = .5.
    assert arena_score(0.5, np.sqrt(200 * 0.0044) / 1000) == pytest.approx(0.5)
    # Perfect and dear, and free: beyond the ends the ends count.
    assert arena_score(1.0, 5.0) == 0.0
    assert arena_score(0.5, 0.0) == arena_score(0.5, 1e-9) == pytest.approx(0.55 / 1.05)
    assert arena_score(0.0, 0.2) == 0.0


def test_the_arena_score_of_a_published_row() -> None:
    # R2-Router on the leaderboard of RouterArena: accuracy 71.23 % at $.061 per 1,000 queries, score 71.60.
    assert arena_score(0.7123, 0.061 / 1000) == pytest.approx(0.7160, abs=5e-5)


def test_gaps_and_calls_by_hand() -> None:
    # Weak .4, strong .8. Half the calls recover three quarters of the gap.
    calls, quality = np.array([0.0, 0.5, 1.0]), np.array([0.4, 0.7, 0.8])
    assert gap_recovered(0.7, 0.4, 0.8) == pytest.approx(0.75)
    # Trapezoids: .5 * (0 + .75) / 2 + .5 * (.75 + 1) / 2 = .625.
    assert average_gap_recovered(calls, quality, 0.4, 0.8) == pytest.approx(0.625)
    # Half the gap is .6, two thirds of the way to the first point; 80 % is .72, a fifth of the way on from there.
    assert call_threshold(calls, quality, 0.5, 0.4, 0.8) == pytest.approx(1 / 3)
    assert call_threshold(calls, quality, 0.8, 0.4, 0.8) == pytest.approx(0.6)
    assert call_threshold(calls[:2], quality[:2], 0.8, 0.4, 0.8) is None
    assert call_threshold(calls, quality, 0.0, 0.4, 0.8) == 0.0


def test_without_a_gap_nothing_is_recovered() -> None:
    calls, quality = np.array([0.0, 1.0]), np.array([0.5, 0.5])
    assert gap_recovered(0.5, 0.5, 0.5) is None
    assert average_gap_recovered(calls, quality, 0.5, 0.5) is None
    assert average_gap_recovered(calls[:1], quality[:1], 0.4, 0.5) is None
    assert call_threshold(calls, quality, 0.5, 0.5, 0.5) is None


def test_gain_and_saving_by_hand() -> None:
    best = np.array([2.0, 0.8])
    points = np.array([[0.5, 0.7], [1.5, 0.8], [1.8, 0.88]])
    assert gain_and_save(points, best) == (pytest.approx(0.1), pytest.approx(0.25))
    assert gain_and_save(points[:1], best) == (pytest.approx(-0.125), None)
    assert gain_and_save(points, np.zeros(2)) == (None, None)
    # As good, but dearer: the saving is below 0.
    assert gain_and_save(np.array([[3.0, 0.9]]), best)[1] == pytest.approx(-0.5)


def test_all_scores_of_a_curve_by_hand() -> None:
    singles = np.array([[1.0, 0.4], [3.0, 0.8]])
    scores = standard_scores(np.array([[2.0, 0.7], [3.0, 0.8], [4.0, 0.82]]), singles)
    # The hull runs from (1, .4) over (2, .7) to (3, .8): the curve of the test above.
    assert scores["apgr"] == pytest.approx(0.625)
    assert scores["cpt_50"] == pytest.approx(1 / 3)
    assert scores["cpt_80"] == pytest.approx(0.6)
    assert scores["perf_gain"] == pytest.approx(0.025)
    assert scores["cost_save"] == pytest.approx(0.0)
    assert scores["arena"] == 0.0  # a dollar a query is $1,000 for 1,000


def test_apgr_is_aiq_on_the_scale_of_the_two_single_llms() -> None:
    rng = np.random.default_rng(0)
    singles = np.array([[0.1, 0.3], [0.9, 0.7]])
    points = np.column_stack([rng.uniform(0.1, 1.2, 30), rng.uniform(0.2, 0.9, 30)])
    expected = (summarise(points, singles).aiq - 0.3) / 0.4
    assert standard_scores(points, singles)["apgr"] == pytest.approx(expected)


def test_free_llms_and_a_best_that_is_cheapest_have_no_gap() -> None:
    free = standard_scores(np.array([[0.0, 0.5]]), np.array([[0.0, 0.4], [0.0, 0.5]]))
    assert free["apgr"] is free["cpt_50"] is free["cost_save"] is None
    assert free["arena"] == pytest.approx(0.55 / 1.05)
    alike = standard_scores(np.array([[1.0, 0.5]]), np.array([[1.0, 0.5], [1.0, 0.5]]))
    assert alike["apgr"] is None
    assert alike["cost_save"] == 0.0


def test_a_score_is_averaged_only_if_every_split_has_it() -> None:
    singles = np.array([[1.0, 0.4], [3.0, 0.8]])
    reached, missed = np.array([[2.0, 0.8]]), np.array([[2.0, 0.7]])
    means = mean_scores([reached, missed], [singles, singles])
    assert means["cost_save"] is None
    assert means["perf_gain"] == pytest.approx(-0.0625)
    assert mean_scores([reached], [singles])["cost_save"] == pytest.approx(0.333333)
