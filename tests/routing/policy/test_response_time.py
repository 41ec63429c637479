"""The interval of the time to an answer."""

import numpy as np

from symbiosis.routing.policy.response_time import completion_interval


def test_nothing_uncertain_leaves_the_expected_time() -> None:
    low, high = completion_interval(2.0, 0.5, np.array([0.5, 3.5]), 0.0, 0.0)
    np.testing.assert_allclose(low, [2.5, 5.5])
    np.testing.assert_allclose(high, low)


def test_only_what_depends_on_the_length_is_uncertain_by_it() -> None:
    low, high = completion_interval(0.0, np.array([4.0, 2.0, 0.0]), np.full(3, 4.0), 0.8, 0.0)
    np.testing.assert_allclose([low[0], high[0]], 4.0)  # all of it is start-up
    assert (np.diff(high - low) > 0).all()


def test_it_holds_nine_of_ten_answers() -> None:
    rng = np.random.default_rng(3)
    startup, expected, of_length, jitter = 0.4, 3.0, 0.5, 0.25
    lengths = (expected - startup) * np.exp(of_length * rng.standard_normal(40_000) - of_length**2 / 2)
    taken = 1.0 + (startup + lengths) * np.exp(jitter * rng.standard_normal(40_000) - jitter**2 / 2)
    low, high = completion_interval(1.0, startup, np.array([expected]), of_length, jitter)
    assert 0.88 < ((taken >= low) & (taken <= high)).mean() < 0.93


def test_the_wait_moves_both_ends() -> None:
    idle = np.array(completion_interval(0.0, 0.5, np.array([2.0]), 0.5))
    np.testing.assert_allclose(np.array(completion_interval(7.0, 0.5, np.array([2.0]), 0.5)), idle + 7.0)
