"""The queueing simulation: conservation, Little's law, textbook waits, what the router sees, and dropping."""

from math import factorial, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routing_world import LLMS, draw, replay_params

from symbiosis.core.errors import InputError
from symbiosis.routing.simulation.queues import WINDOW_S, Capacities, Queues, RateLimit, View
from symbiosis.routing.simulation.replay import Choose, dispatch, run
from symbiosis.routing.simulation.simulator import Dispatch, Trace, arrivals, drawn_failures, jittered, simulate

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


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), workers=st.sampled_from([1, 2, 1000]), limit=st.sampled_from([1.0, 4.0, np.inf]))
def test_a_cascade_is_answered_once_by_all_its_llms_or_dropped_on_its_way(
    seed: int, workers: int, limit: float
) -> None:
    rng = np.random.default_rng(seed)
    n, n_llms = 60, 3
    service = rng.exponential(1.0, (n, n_llms))
    plans = [rng.permutation(n_llms)[: rng.integers(1, n_llms + 1)].tolist() for _ in range(n)]
    told: list[tuple[int, int, bool]] = []
    trace = simulate(
        arrivals(n, 2.0),
        service,
        [workers] * n_llms,
        lambda query, _: Dispatch(plans[query][0], 1.0, then=tuple(Dispatch(arm, 1.0) for arm in plans[query][1:])),
        limit_s=limit,
        answered=lambda query, arm, _wait, lost: told.append((query, arm, lost)),
    )
    assert sorted(query for query, _, _ in told) == list(range(n))
    length = np.array([len(plan) for plan in plans])
    np.testing.assert_array_equal(trace.attempts, trace.answers)
    np.testing.assert_array_equal(trace.answers[trace.served], length[trace.served])
    assert (trace.answers[trace.dropped] < length[trace.dropped]).all()
    for query, arm, lost in told:
        assert lost == trace.dropped[query]
        assert arm == plans[query][min(trace.answers[query], length[query] - 1)]
    busy = np.array([service[query, plan].sum() for query, plan in enumerate(plans)])
    assert (trace.completion_s >= busy[trace.served] - 1e-9).all()
    before = np.array([service[query, plan[:-1]].sum() for query, plan in enumerate(plans)])
    if workers == 1000:  # nobody waits for others, only for the earlier LLMs of their own cascade
        np.testing.assert_allclose(trace.completion_s, busy[trace.served])
        np.testing.assert_array_equal(trace.dropped, before > limit)


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


# ---------------------------------------------------------------- rate limits


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    requests=st.sampled_from([1.0, 3.0, 20.0, np.inf]),
    tokens=st.sampled_from([100.0, 350.0, np.inf]),
    workers=st.integers(1, 3),
)
def test_no_minute_holds_more_than_the_limit_and_none_waits_without_need(
    seed: int, requests: float, tokens: float, workers: int
) -> None:
    rng = np.random.default_rng(seed)
    queues = Queues([workers], [RateLimit(requests, tokens)])
    now, starts = np.cumsum(rng.exponential(4.0, 60)), []
    sizes, service = rng.integers(1, 101, 60).astype(float), rng.exponential(10.0, 60)
    for moment, size, seconds in zip(now.tolist(), sizes.tolist(), service.tolist(), strict=True):
        expected = queues.start(0, moment, size)
        starts.append(queues.send(0, moment, seconds, size))
        assert starts[-1] == expected >= moment
    begin = np.array(starts)
    assert (np.diff(begin) >= 0).all()  # first in, first out
    for start in begin:  # every fullest window begins with a start
        inside = (begin >= start) & (begin < start + WINDOW_S)
        assert inside.sum() <= requests
        assert sizes[inside].sum() <= tokens
    ends = begin + service
    for query in range(60):  # who waits does so for a worker, for the one before, or for room in the minute
        start = begin[query]
        free = start == now[query] or np.isclose(start, ends[:query]).any() or start == begin[query - 1]
        assert free or np.isclose(start - WINDOW_S, begin[:query]).any()


def test_rate_limits_by_hand() -> None:
    queues = Queues([9, 9], [RateLimit(requests_per_minute=2), RateLimit(tokens_per_minute=100)])
    assert [queues.send(0, now, 1.0) for now in (0.0, 10.0, 20.0, 21.0)] == [0, 10, 60, 70]
    sent = ((0.0, 60.0), (5.0, 40.0), (6.0, 30.0), (7.0, 80.0))
    # The third waits until the 60 tokens are a minute old, the fourth until 40 and 30 are.
    assert [queues.send(1, now, 1.0, size) for now, size in sent] == [0, 5, 60, 120]
    # What is seen is the wait of a query as large as the last one: 80 tokens once the 80 are gone.
    assert queues.waits(130.0).tolist() == [0.0, 50.0]


def test_a_copy_of_the_queues_goes_its_own_way() -> None:
    queues = Queues([1], [RateLimit(requests_per_minute=1)])
    twin = queues.copy()
    twin.send(0, 0.0, 1.0)
    assert queues.waits(0.0).tolist() == [0.0]
    assert twin.waits(0.0).tolist() == [60.0]


def test_a_query_above_the_limit_by_itself_is_refused_and_falls_back() -> None:
    both = Dispatch(0, 1.0, (Dispatch(1, 1.0),))
    tokens = np.array([[500.0, 500.0], [50.0, 50.0]])
    limits = [RateLimit(tokens_per_minute=100), RateLimit()]
    again = np.zeros((2, 2, 2), dtype=bool)
    trace = simulate(
        np.array([0.0, 1.0]), np.ones((2, 2)), [1, 1], lambda *_: both, limits=limits, tokens=tokens, failures=again
    )
    assert trace.arm.tolist() == [1, 0]
    assert trace.attempts.tolist() == [2, 1]
    assert trace.served.all()
    single = simulate(np.array([0.0, 1.0]), np.ones((2, 2)), [1, 1], lambda *_: both, limits=limits, tokens=tokens)
    assert single.failed.tolist() == [True, False]
    assert single.finish_s.tolist() == [0.0, 2.0]


# ---------------------------------------------------------------- failures


def test_failures_by_hand() -> None:
    """The first attempt of query 0 fails after 2 s; then it stands behind query 1, or with the other LLM."""
    failures = np.zeros((2, 2, 2), dtype=bool)
    failures[0, 0, 0] = True
    service, at = np.array([[2.0, 3.0], [4.0, 9.0]]), np.array([0.0, 1.0])
    told: list[tuple[int, int, float, bool]] = []
    same = simulate(
        at, service, [1, 1], lambda *_: FIRST, failures=failures, answered=lambda *event: told.append(event)
    )
    assert same.finish_s.tolist() == [8.0, 6.0]
    assert same.wait_s.tolist() == [6.0, 1.0]
    assert same.attempts.tolist() == [2, 1]
    assert told == [(1, 0, 1.0, False), (0, 0, 6.0, False)]
    other = simulate(at, service, [1, 1], lambda *_: Dispatch(0, 0.0, (Dispatch(1, 0.0),)), failures=failures)
    assert other.arm.tolist() == [1, 0]
    assert other.finish_s.tolist() == [5.0, 6.0]
    late = simulate(at, service, [1, 1], lambda *_: FIRST, failures=failures, limit_s=1.5)
    assert late.dropped.tolist() == [True, False]
    assert late.finish_s.tolist() == [2.0, 6.0]  # gave up when it would have been sent again


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), attempts=st.integers(1, 3), fall_back=st.booleans(), limit=st.floats(0.5, 40))
def test_arrived_is_served_dropped_or_failed(seed: int, attempts: int, fall_back: bool, limit: float) -> None:
    rng = np.random.default_rng(seed)
    n, order = 80, (Dispatch(1, 1.0), Dispatch(2, 1.0)) if fall_back else ()
    told: list[tuple[float, int, bool]] = []
    trace = simulate(
        arrivals(n, 4.0, "poisson", rng),
        rng.exponential(0.5, (n, 3)),
        [1, 2, 1],
        lambda *_: Dispatch(0, 1.0, order),
        limit_s=limit,
        refresh_s=2.0,
        own_dispatches=True,
        answered=lambda query, _arm, wait, lost: told.append((wait, query, lost)),
        limits=[RateLimit(60.0, 1500.0), RateLimit(), RateLimit(tokens_per_minute=40.0)],
        tokens=rng.integers(1, 60, (n, 3)).astype(float),
        failures=drawn_failures(attempts, n, np.array([0.5, 0.2, 0.0]), rng),
    )
    assert trace.served.sum() + trace.dropped.sum() + trace.failed.sum() == n
    assert sorted(query for _, query, _ in told) == list(range(n))
    assert {query for _, query, lost in told if lost} == set(np.flatnonzero(~trace.served).tolist())
    assert (np.diff([trace.finish_s[query] for _, query, _ in told]) >= 0).all()  # in the order of time
    assert (trace.attempts[trace.failed] == attempts).all()
    assert (trace.attempts <= attempts).all()
    assert (trace.wait_s[~trace.dropped] <= limit).all()
    assert (trace.wait_s[trace.dropped] > limit).all()


def test_each_llm_fails_as_often_as_it_should() -> None:
    failure = np.array([0.0, 0.1, 1.0])
    drawn = drawn_failures(2, 20_000, failure, np.random.default_rng(3)).mean(axis=(0, 1))
    np.testing.assert_allclose(drawn, failure, atol=4 * np.sqrt(0.1 * 0.9 / 40_000))
    assert drawn[[0, 2]].tolist() == [0.0, 1.0]


# ---------------------------------------------------------------- jitter, pace, params


def test_jitter_keeps_the_mean_and_leaves_steady_llms_alone() -> None:
    service = np.full((50_000, 2), 3.0)
    noisy = jittered(service, np.array([0.0, 0.6]), np.random.default_rng(5))
    np.testing.assert_array_equal(noisy[:, 0], 3.0)
    assert noisy[:, 1].mean() == pytest.approx(3.0, rel=0.02)
    assert np.log(noisy[:, 1]).std() == pytest.approx(0.6, rel=0.02)


def test_poisson_arrivals_have_exponential_gaps() -> None:
    gaps = np.diff(arrivals(50_000, 10.0, "poisson", np.random.default_rng(2)))
    assert gaps.mean() == pytest.approx(0.1, rel=0.02)
    assert gaps.std() == pytest.approx(0.1, rel=0.02)
    with pytest.raises(ValueError, match="generator"):
        arrivals(3, 1.0, "poisson")


def test_littles_law_with_failures_and_fallback() -> None:
    rng = np.random.default_rng(11)
    n = 40_000
    both = Dispatch(0, 1.0, (Dispatch(1, 1.0),))
    trace = simulate(
        arrivals(n, 1.2, "poisson", rng),
        rng.exponential(1.0, (n, 2)),
        [2, 1],
        lambda *_: both,
        failures=drawn_failures(2, n, np.array([0.2, 0.2]), rng),
    )
    start, end = trace.arrival_s[2000], trace.arrival_s[-2000]
    moments = np.linspace(start, end, 20_011)
    came, left = np.sort(trace.arrival_s), np.sort(trace.finish_s)
    present = np.searchsorted(came, moments, "right") - np.searchsorted(left, moments, "right")
    inside = (trace.arrival_s >= start) & (trace.arrival_s < end)
    stay = (trace.finish_s - trace.arrival_s)[inside].mean()
    assert present.mean() == pytest.approx(inside.sum() / (end - start) * stay, rel=0.05)
    assert trace.failed.mean() == pytest.approx(0.04, abs=0.005)


def test_capacities_of_each_llm() -> None:
    own = {"bio-mid": {"workers": 2, "requests_per_minute": 5.0, "jitter": 0.0}, "dear-all": {"tokens_per_minute": 9.0}}
    stream = replay_params(stream={"workers": 7, "failure": 0.1, "jitter": 0.3, "llms": own}).stream
    capacities = Capacities.of(stream, LLMS.names)
    assert capacities.workers == (7, 2, 7, 7)
    assert capacities.limits == (RateLimit(), RateLimit(5.0), RateLimit(tokens_per_minute=9.0), RateLimit())
    assert capacities.jitter.tolist() == [0.3, 0.0, 0.3, 0.3]
    assert capacities.failure.tolist() == [0.1] * 4
    with pytest.raises(InputError, match="names the LLM 'gpt-9'"):
        Capacities.of(replay_params(stream={"llms": {"gpt-9": {}}}).stream, LLMS.names)


def test_a_run_has_the_same_noise_for_every_policy_and_the_same_bytes_again() -> None:
    outcomes, _, _ = draw(60, seed=4)
    rough = {"arrivals": "poisson", "jitter": 0.5, "failure": 0.3, "attempts": 3, "workers": 1, "limit_s": 200}
    stream = replay_params(stream=rough).stream

    def times(choose: Choose, seed: int = 1) -> bytes:
        trace = run(outcomes, LLMS, stream, choose, seed=seed).trace
        return b"".join(array.tobytes() for array in (trace.arrival_s, trace.wait_s, trace.finish_s, trace.attempts))

    first = times(lambda *_: FIRST)
    assert times(lambda *_: FIRST) == first
    assert times(lambda *_: FIRST, seed=2) != first
    one = run(outcomes, LLMS, stream, lambda *_: FIRST, seed=1).trace
    two = run(outcomes, LLMS, stream, lambda *_: Dispatch(1, 0.0), seed=1).trace
    np.testing.assert_array_equal(one.arrival_s, two.arrival_s)


def test_what_failed_scores_and_costs_nothing_and_fallback_saves_it() -> None:
    outcomes, _, _ = draw(40, seed=6)
    scores, expected = np.array([4.0, 1.0, 2.0, 3.0]), LLMS.startup_s
    broken = {"llms": {"alge-mid": {"failure": 1.0}}, "attempts": 2, "workers": 40}
    assert [d.arm for d in dispatch(0, scores, expected).fallback] == [3, 2]
    assert dispatch(0, scores, expected).fallback[0].expected_s == expected[3]

    def went(on_failure: str) -> Trace:
        stream = replay_params(stream={**broken, "on_failure": on_failure}).stream
        log = run(outcomes, LLMS, stream, lambda *_: dispatch(0, scores, expected))
        rows = np.arange(40)
        np.testing.assert_array_equal(log.cost_usd, outcomes.cost_usd[rows, log.trace.arm] * log.trace.served)
        np.testing.assert_array_equal(log.quality, outcomes.quality[rows, log.trace.arm] * log.trace.served)
        return log.trace

    assert went("retry").failed.all()
    assert (went("fallback").arm == 3).all()
    assert went("fallback").served.all()
