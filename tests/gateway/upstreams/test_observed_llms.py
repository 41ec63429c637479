"""What is seen of the LLMs: waits, speed, lengths."""

import numpy as np
import pytest

from symbiosis.gateway.upstreams.observed import MEMORY, Mean, Observed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_waits_follow_from_queries_in_flight() -> None:
    clock = Clock()
    observed = Observed(clock)
    observed.answered("a", 3.0, 1.0, 10)
    began = [observed.begin("a") for _ in range(5)]
    workers = [8, 5, 4, 1]
    assert [observed.waits_s(["a"], [w])[0] for w in workers] == pytest.approx([0, 1 / 5 * 3, 2 / 4 * 3, 5 * 3])
    assert observed.waits_s(["a", "b"], [5, 1]).tolist() == pytest.approx([0.6, 0])
    for start in began:
        observed.end("a", start)
    assert observed.waits_s(["a"], [1]).tolist() == [0]
    assert observed.in_flight(["a", "b"]).tolist() == [0, 0]


def test_an_llm_that_hangs_has_waits_that_grow() -> None:
    clock = Clock()
    observed = Observed(clock)
    for clock.now in (0.0, 2.0):
        observed.begin("a")
    assert observed.waits_s(["a"], [1]).tolist() == [2.0]  # nothing known: 1 s each
    clock.now = 11.0
    assert observed.waits_s(["a"], [1]).tolist() == [2 * 10.0]  # mean age of 11 and 9


def test_times_are_shrunk_to_what_is_expected() -> None:
    observed = Observed(Clock())
    priors = np.array([2.0]), np.array([10.0])
    assert observed.startup_s(["a"], priors[0]).tolist() == [2.0]
    assert observed.tokens_per_s(["a"], priors[1]).tolist() == pytest.approx([10.0])
    for _ in range(5):
        observed.answered("a", total_s=1.0 + 4.0, first_token_s=1.0, response_tokens=11)
    assert observed.startup_s(["a"], priors[0]).tolist() == pytest.approx([1.5])  # five of five pseudo-observations
    assert observed.tokens_per_s(["a"], priors[1]).tolist() == pytest.approx([1 / ((0.4 + 0.1) / 2)])


def test_answers_that_were_not_streamed_tell_their_speed_too() -> None:
    observed = Observed(Clock())
    observed.answered("a", total_s=4.0, first_token_s=None, response_tokens=10)
    assert observed.of("a").token_s.value == pytest.approx(0.4)
    observed.answered("b", total_s=5.0, first_token_s=1.0, response_tokens=2)  # too short to tell
    assert observed.of("b").token_s.count == 0
    observed.answered("b", total_s=5.0, first_token_s=None, response_tokens=10)
    assert observed.of("b").token_s.value == pytest.approx(0.4)


def test_a_slow_client_says_nothing_of_the_upstream() -> None:
    observed = Observed(Clock())
    observed.answered("a", 100.0, 1.0, 50, hindered=True)
    seen = observed.of("a")
    assert (seen.first_token_s.count, seen.service_s.count, seen.token_s.count) == (1, 0, 0)


def test_lengths_are_shrunk_to_one() -> None:
    observed = Observed(Clock())
    assert observed.response_factor(["a"]).tolist() == [1.0]
    observed.length("a", 300, 100.0)
    assert observed.response_factor(["a"]).tolist() == pytest.approx([(300 + 20 * 100) / (21 * 100)])
    observed.length("b", 300, 0.0)
    assert observed.response_factor(["b"]).tolist() == [1.0]
    for _ in range(5000):
        observed.length("a", 300, 100.0)
    assert observed.response_factor(["a"])[0] == pytest.approx((500 * 3 + 20) / 520, rel=1e-3)


def test_a_mean_is_plain_first_and_forgets_later() -> None:
    mean = Mean()
    for x in (1.0, 2.0, 6.0):
        mean.add(x)
    assert mean.value == pytest.approx(3.0)
    for _ in range(20 * MEMORY):
        mean.add(10.0)
    assert mean.value == pytest.approx(10.0, abs=1e-6)
