"""The queueing simulation: conservation, Little's law, textbook waits, what the router sees, and dropping."""

from math import factorial, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbiosis.routing.simulator import Dispatch, Queues, Trace, View, arrivals, simulate

FIRST = Dispatch(0, 0.0)


def one_queue(rate: float, service: np.ndarray, workers: int, seed: int) -> Trace:
    """Poisson arrivals at one LLM."""
    gaps = np.random.default_rng(seed).exponential(1 / rate, len(service))
    return simulate(np.cumsum(gaps), service[:, None], [workers], lambda *_: FIRST)


def erlang_c(load: float, servers: int) -> float:
    """Probability to wait in M/M/c, for an offered load in Erlang."""
    top = load**servers / factorial(servers) * servers / (servers - load)
    return top / (sum(load**k / factorial(k) for k in range(servers)) + top)


def exponential(n: int, mean: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed + 1000).exponential(mean, n)


@pytest.mark.parametrize(("load", "servers"), [(0.6, 1), (2.4, 4)])
def test_waits_with_exponential_service_match_erlang(load: float, servers: int) -> None:
    waits = [one_queue(load, exponential(60_000, 1.0, s), servers, s).wait_s[2000:].mean() for s in range(3)]
    assert np.mean(waits) == pytest.approx(erlang_c(load, servers) / (servers - load), rel=0.06)


@pytest.mark.parametrize(("load", "servers"), [(0.7, 1), (3.2, 4)])
def test_waits_with_constant_service_match_theory(load: float, servers: int) -> None:
    """M/D/1 by Pollaczek and Khinchine; M/D/c by Cosmetatos' approximation, good to about one per cent."""
    rho = load / servers
    exact = erlang_c(load, servers) / (servers - load) / 2
    expected = exact * (1 + (1 - rho) * (servers - 1) * (sqrt(4 + 5 * servers) - 2) / (16 * rho * servers))
    waits = [one_queue(load, np.ones(60_000), servers, s).wait_s[2000:].mean() for s in range(3)]
    assert np.mean(waits) == pytest.approx(expected, rel=0.06)


def test_littles_law() -> None:
    trace = one_queue(2.4, exponential(60_000, 1.0, 7), 4, 7)
    start, end = trace.arrival_s[2000], trace.arrival_s[-2000]
    # Counted on a grid of moments, not from the times that the other side of the law is made of.
    moments = np.linspace(start, end, 20_011)
    present = np.searchsorted(np.sort(trace.arrival_s), moments, "right") - np.searchsorted(
        np.sort(trace.finish_s), moments, "right"
    )
    inside = (trace.arrival_s >= start) & (trace.arrival_s < end)
    rate = inside.sum() / (end - start)
    assert present.mean() == pytest.approx(rate * trace.completion_s[inside].mean(), rel=0.05)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    workers=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    limit=st.floats(0.1, 20),
    refresh=st.sampled_from([0.0, 1.0, 10.0]),
    own=st.booleans(),
)
def test_every_query_is_served_or_dropped_once_and_no_worker_serves_two(
    seed: int, workers: list[int], limit: float, refresh: float, own: bool
) -> None:
    rng = np.random.default_rng(seed)
    n, n_llms = 80, len(workers)
    service = rng.exponential(1.0, (n, n_llms))
    told: list[tuple[int, bool]] = []
    trace = simulate(
        arrivals(n, 4.0),
        service,
        workers,
        lambda _, waits: Dispatch(int(waits.argmin()), 1.0),
        limit_s=limit,
        refresh_s=refresh,
        own_dispatches=own,
        answered=lambda query, _arm, _wait, dropped: told.append((query, dropped)),
    )
    assert sorted(query for query, _ in told) == list(range(n))
    assert sum(dropped for _, dropped in told) == trace.dropped.sum()
    assert len(trace.completion_s) == n - trace.dropped.sum()
    served = ~trace.dropped
    assert (trace.wait_s[served] <= limit).all()
    assert (trace.wait_s[trace.dropped] > limit).all()
    np.testing.assert_allclose(trace.finish_s[trace.dropped], trace.arrival_s[trace.dropped] + limit)
    for arm in range(n_llms):
        mine = np.flatnonzero(served & (trace.arm == arm))
        begin = (trace.arrival_s + trace.wait_s)[mine]
        np.testing.assert_allclose(trace.finish_s[mine], begin + service[mine, arm])
        assert (np.diff(begin) >= -1e-9).all()  # first in, first out
        for moment in begin:
            assert ((begin <= moment) & (trace.finish_s[mine] > moment + 1e-9)).sum() <= workers[arm]


def test_waits_by_hand() -> None:
    trace = simulate(np.array([0.0, 1.0, 2.0, 3.0]), np.full((4, 1), 5.0), [2], lambda *_: FIRST, limit_s=3.5)
    np.testing.assert_array_equal(trace.wait_s, [0, 0, 3, 3])
    np.testing.assert_array_equal(trace.finish_s, [5, 6, 10, 11])
    tight = simulate(np.array([0.0, 1.0, 2.0, 3.0]), np.full((4, 1), 5.0), [1], lambda *_: FIRST, limit_s=3.5)
    np.testing.assert_array_equal(tight.wait_s, [0, 4, 3, 7])
    np.testing.assert_array_equal(tight.dropped, [False, True, False, True])
    np.testing.assert_array_equal(tight.finish_s, [5, 4.5, 10, 6.5])


def test_feedback_comes_when_the_answer_is_there_and_before_the_next_decision() -> None:
    order: list[str] = []

    def choose(query: int, _: np.ndarray) -> Dispatch:
        order.append(f"ask {query}")
        return FIRST

    def answered(query: int, *_: object) -> None:
        order.append(f"answer {query}")

    service = np.array([[2.5], [0.5], [1.0]])
    simulate(np.array([0.0, 1.0, 2.0]), service, [3], choose, answered=answered)
    assert order == ["ask 0", "ask 1", "answer 1", "ask 2", "answer 0", "answer 2"]


def test_the_view_is_as_old_as_the_last_look() -> None:
    queues = Queues([1, 1])
    stale, live = View(queues, 10.0, own_dispatches=False), View(queues, 0.0, own_dispatches=False)
    counting = View(queues, 10.0, own_dispatches=True)
    for view in (stale, live, counting):
        assert view.waits(0.0).tolist() == [0.0, 0.0]
    queues.send(0, 0.0, 8.0)
    counting.sent(0, 0.0, 6.0)  # expected 6, truly 8
    assert stale.waits(1.0).tolist() == [0.0, 0.0]
    assert live.waits(1.0).tolist() == [7.0, 0.0]
    assert counting.waits(1.0).tolist() == [5.0, 0.0]
    queues.send(0, 9.0, 6.0)
    for view in (stale, live, counting):
        assert view.waits(10.0).tolist() == [5.0, 0.0]
    assert stale.waits(13.0).tolist() == [5.0, 0.0]
    assert counting.waits(13.0).tolist() == [2.0, 0.0]


def test_counting_own_dispatches_prevents_a_stampede() -> None:
    """Two like LLMs, waits seen every 10 s: whoever looks idle gets all queries until the next look."""
    n = 400
    service = np.full((n, 2), 1.0)

    def served(own: bool) -> float:
        trace = simulate(
            arrivals(n, 1.6),
            service,
            [1, 1],
            lambda _, waits: Dispatch(int(waits.argmin()), 1.0),
            refresh_s=10.0,
            own_dispatches=own,
        )
        return float(trace.wait_s.mean())

    assert served(own=False) > 2.0
    assert served(own=True) < 0.5


def test_arrivals_are_a_hundred_queries_in_ten_seconds() -> None:
    times = arrivals(201, 10.0)
    assert ((times >= 0) & (times < 10)).sum() == 100
    assert times[200] == 20.0
