"""A seeded, deterministic discrete-event simulation of queries waiting for LLMs.

Each LLM has a fixed number of workers and one first-in-first-out queue. The wait of a query is known when it arrives:
until the earliest worker is free. What the router sees of the waits may be older (MixLLM, arXiv 2502.18482: refreshed
every 10 s).
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


class Queues:
    """When each worker of each LLM will be free.

    Parameters
    ----------
    workers
        Number of workers of each LLM.
    """

    def __init__(self, workers: Sequence[int]) -> None:
        self._free = [[0.0] * n for n in workers]

    def waits(self, now: float) -> np.ndarray:
        """Seconds until a worker of each LLM is free, (L,)."""
        return np.maximum(np.array([free[0] for free in self._free]) - now, 0.0)

    def send(self, arm: int, now: float, service_s: float) -> float:
        """Give a query to an LLM; return when a worker starts on it."""
        start = max(now, self._free[arm][0])
        heapq.heapreplace(self._free[arm], start + service_s)
        return start

    def copy(self) -> "Queues":
        """Return queues that go on independently."""
        twin = Queues([])
        twin._free = [list(free) for free in self._free]
        return twin


class View:
    """What the router sees of the waits.

    Parameters
    ----------
    queues
        The true queues.
    refresh_s
        Seconds between looks; 0 sees the truth at every query.
    own_dispatches
        Between looks, reckon with the queries sent since, at their expected service time. Without it the waits stay
        as they were at the last look, and all queries until the next may run to the same LLM.
    """

    def __init__(self, queues: Queues, refresh_s: float, own_dispatches: bool) -> None:
        self._queues = queues
        self._refresh_s = refresh_s
        self._own_dispatches = own_dispatches
        self._period = -1.0
        self._seen = queues.copy()
        self._waits = queues.waits(0.0)

    def waits(self, now: float) -> np.ndarray:
        """Waits as the router sees them, (L,)."""
        if self._refresh_s <= 0:
            return self._queues.waits(now)
        period = now // self._refresh_s
        if period > self._period:
            self._period = period
            self._seen = self._queues.copy()
            self._waits = self._queues.waits(now)
        return self._seen.waits(now) if self._own_dispatches else self._waits

    def sent(self, arm: int, now: float, expected_s: float) -> None:
        """Take note of a query sent by the router itself."""
        if self._refresh_s > 0 and self._own_dispatches:
            self._seen.send(arm, now, expected_s)


@dataclass(frozen=True)
class Dispatch:
    """A decision of the router.

    Attributes
    ----------
    arm
        The LLM.
    expected_s
        Expected service time.
    """

    arm: int
    expected_s: float


@dataclass(frozen=True)
class Trace:
    """What became of each query.

    Attributes
    ----------
    arrival_s
        (N,).
    arm
        (N,), where it was sent.
    wait_s
        (N,), from arrival to the start of service; of a dropped query the wait it would have had.
    dropped
        (N,), whether the wait was above the limit.
    finish_s
        (N,), when it was answered, or when it gave up.
    """

    arrival_s: np.ndarray
    arm: np.ndarray
    wait_s: np.ndarray
    dropped: np.ndarray
    finish_s: np.ndarray

    @property
    def completion_s(self) -> np.ndarray:
        """Seconds from arrival to answer, of the answered queries only."""
        return (self.finish_s - self.arrival_s)[~self.dropped]


def arrivals(n: int, rate: float) -> np.ndarray:
    """Evenly paced arrival times, (n,): `rate` queries a second from time 0."""
    return np.arange(n) / rate


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
        A query that would wait longer is dropped: it is never started and holds no worker.
    refresh_s, own_dispatches
        See `View`.
    answered
        Called as ``answered(query, arm, wait_s, dropped)`` when a query is answered or gives up, in the order of these
        times and before any later query is decided; after the last arrival, for all that are left.

    Returns
    -------
    Trace
    """
    n = len(arrival_s)
    queues = Queues(workers)
    view = View(queues, refresh_s, own_dispatches)
    arms, waits = np.empty(n, dtype=np.int64), np.empty(n)
    dropped, finish = np.zeros(n, dtype=bool), np.empty(n)
    pending: list[tuple[float, int]] = []

    def report(until: float) -> None:
        while pending and pending[0][0] <= until:
            _, query = heapq.heappop(pending)
            if answered is not None:
                answered(query, int(arms[query]), float(waits[query]), bool(dropped[query]))

    for query, now in enumerate(arrival_s.tolist()):
        report(now)
        decision = choose(query, view.waits(now))
        arm = arms[query] = decision.arm
        waits[query] = queues.waits(now)[arm]
        if waits[query] > limit_s:
            dropped[query], finish[query] = True, now + limit_s
        else:
            finish[query] = queues.send(arm, now, service_s[query, arm]) + service_s[query, arm]
            view.sent(arm, now, decision.expected_s)
        heapq.heappush(pending, (float(finish[query]), query))
    report(np.inf)
    return Trace(arrival_s, arms, waits, dropped, finish)
