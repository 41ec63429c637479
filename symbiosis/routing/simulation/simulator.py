"""A seeded, deterministic discrete-event simulation of queries waiting for LLMs.

The wait of a query is known when it is sent: until a worker is free and the rate limits allow it. What the router sees
of the waits may be older (MixLLM, arXiv 2502.18482: refreshed every 10 s).
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from symbiosis.routing.simulation.queues import Queues, RateLimit, View

Pace = Literal["even", "poisson"]


@dataclass(frozen=True)
class Dispatch:
    """A decision of the router.

    Attributes
    ----------
    arm
        The LLM.
    expected_s
        Expected service time.
    fallback
        What to do if the LLM fails, one decision per further attempt; empty: ask the same again.
    then
        Who is asked after this LLM has answered, one after another, as a cascade does; empty: nobody. The query
        queues anew at each of them.
    """

    arm: int
    expected_s: float
    fallback: tuple["Dispatch", ...] = ()
    then: tuple["Dispatch", ...] = ()


@dataclass(frozen=True)
class Trace:
    """What became of each query: it was served, dropped, or failed.

    Attributes
    ----------
    arrival_s
        (N,).
    arm
        (N,), where it was sent last.
    wait_s
        (N,), from arrival to the start of the last attempt; of a dropped query the wait it would have had. What
        earlier attempts and the earlier LLMs of a cascade took is part of it.
    dropped
        (N,), whether the wait was above the limit.
    failed
        (N,), whether every attempt failed.
    attempts
        (N,), how often an LLM was asked.
    finish_s
        (N,), when it was answered, or when it gave up.
    answers
        (N,), how many LLMs answered: one, or none, or several of a cascade; the last may be missing.
    """

    arrival_s: np.ndarray
    arm: np.ndarray
    wait_s: np.ndarray
    dropped: np.ndarray
    failed: np.ndarray
    attempts: np.ndarray
    finish_s: np.ndarray
    answers: np.ndarray

    @property
    def served(self) -> np.ndarray:
        """Whether each query was answered, (N,)."""
        return ~(self.dropped | self.failed)

    @property
    def completion_s(self) -> np.ndarray:
        """Seconds from arrival to answer, of the answered queries only."""
        return (self.finish_s - self.arrival_s)[self.served]


def arrivals(n: int, rate: float, pace: Pace = "even", rng: np.random.Generator | None = None) -> np.ndarray:
    """Arrival times, (n,): `rate` queries a second.

    Parameters
    ----------
    n, rate
        Number of queries, and queries a second.
    pace
        ``even``: the first at time 0; ``poisson``: independent exponential gaps.
    rng
        For the gaps.
    """
    if pace == "even":
        return np.arange(n) / rate
    if rng is None:
        raise ValueError("Poisson arrivals need a generator")
    return np.cumsum(rng.exponential(1 / rate, n))


def jittered(service_s: np.ndarray, jitter: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Multiply service times by log-normal noise of mean 1.

    Parameters
    ----------
    service_s
        (N, L).
    jitter
        (L,), standard deviation of the logarithm; 0 leaves an LLM as it is.
    rng
        One draw for every query and LLM, so that two policies meet the same noise.
    """
    noise = rng.standard_normal(service_s.shape)
    return service_s * np.exp(jitter * noise - jitter**2 / 2)


def drawn_failures(attempts: int, n: int, failure: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Whether each attempt of each query fails with each LLM, (attempts, N, L); `failure` (L,) is its probability."""
    return rng.random((attempts, n, len(failure))) < failure


def simulate(
    arrival_s: np.ndarray,
    service_s: np.ndarray,
    workers: Sequence[int],
    choose: Callable[[int, np.ndarray], Dispatch],
    *,
    limit_s: float = np.inf,
    refresh_s: float = 0.0,
    own_dispatches: bool = False,
    answered: Callable[[int, int, float, bool], None] | None = None,
    limits: Sequence[RateLimit] = (),
    tokens: np.ndarray | None = None,
    failures: np.ndarray | None = None,
) -> Trace:
    """Run the stream.

    Parameters
    ----------
    arrival_s
        (N,), not decreasing.
    service_s
        (N, L), true service time of each query with each LLM.
    workers
        (L,), queries that each LLM serves at once.
    choose
        From the query's number and the waits that the router sees, (L,), to its decision.
    limit_s
        A query that would wait longer is dropped: it is never started and holds no worker. In a cascade the time
        spent on earlier LLMs counts as waiting; a query dropped on its way has held their workers.
    refresh_s, own_dispatches
        See `View`.
    answered
        Called as ``answered(query, arm, wait_s, lost)`` when a query is answered or gives up, in the order of these
        times and before any later query is decided; after the last arrival, for all that are left.
    limits
        Rate limit of each LLM; empty: none.
    tokens
        (N, L), that count against the limits; by default none. A query that is above the limit by itself is refused
        at once, which is a failed attempt.
    failures
        (attempts, N, L), whether an LLM fails at each attempt; by default there is one attempt and it succeeds. A
        failed attempt holds its worker as long as an answer would. Each LLM of a cascade has so many attempts.

    Returns
    -------
    Trace
    """
    n = len(arrival_s)
    queues = Queues(workers, limits)
    view = View(queues, refresh_s, own_dispatches)
    sizes = np.zeros_like(service_s) if tokens is None else tokens
    failing = np.zeros((1, 1, 1), dtype=bool) if failures is None else failures
    failing = np.broadcast_to(failing, (len(failing), *service_s.shape))
    arms, waits, finish = np.empty(n, dtype=np.int64), np.empty(n), np.empty(n)
    dropped, failed, attempts = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool), np.zeros(n, dtype=np.int64)
    tries, answers = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    pending: list[tuple[float, int]] = []
    again: list[tuple[float, int, Dispatch]] = []

    def report(until: float) -> None:
        while pending and pending[0][0] <= until:
            _, query = heapq.heappop(pending)
            if answered is not None:
                answered(query, int(arms[query]), float(waits[query]), bool(dropped[query] or failed[query]))

    def send(query: int, now: float, decision: Dispatch) -> None:
        attempt, arm = int(tries[query]), decision.arm
        service, size, before = float(service_s[query, arm]), float(sizes[query, arm]), now - float(arrival_s[query])
        arms[query] = arm
        refused = bool(limits) and size > limits[arm].tokens_per_minute
        waits[query] = before + (0.0 if refused else queues.start(arm, now, size) - now)
        if waits[query] > limit_s:
            dropped[query], finish[query] = True, max(float(arrival_s[query]) + limit_s, now)
        else:
            attempts[query] += 1
            tries[query] += 1
            if refused:
                finish[query] = now
            else:
                finish[query] = queues.send(arm, now, service, size) + service
                view.sent(arm, now, decision.expected_s)
            if refused or failing[attempt, query, arm]:
                if attempt + 1 < len(failing):
                    following = (*decision.fallback, decision)[0]
                    rest = Dispatch(following.arm, following.expected_s, decision.fallback[1:], decision.then)
                    heapq.heappush(again, (float(finish[query]), query, rest))
                    return
                failed[query] = True
            else:
                answers[query] += 1
                if decision.then:
                    tries[query] = 0
                    following, *rest_of_cascade = decision.then
                    onwards = replace(following, then=tuple(rest_of_cascade))
                    heapq.heappush(again, (float(finish[query]), query, onwards))
                    return
        heapq.heappush(pending, (float(finish[query]), query))

    def resend(until: float) -> None:
        while again and again[0][0] <= until:
            now, query, decision = heapq.heappop(again)
            report(now)
            send(query, now, decision)

    for query, now in enumerate(arrival_s.tolist()):
        resend(now)
        report(now)
        send(query, now, choose(query, view.waits(now)))
    resend(np.inf)
    report(np.inf)
    return Trace(arrival_s, arms, waits, dropped, failed, attempts, finish, answers)
