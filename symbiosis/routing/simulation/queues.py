"""Workers and rate limits of every LLM: when can a query start?

How many queries each LLM can bear, how steady it is and how often it fails, from the stream's params.
"""

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.simulation.params import CapacityParams, StreamParams

WINDOW_S = 60.0


@dataclass(frozen=True)
class RateLimit:
    """What a provider allows in any minute.

    Attributes
    ----------
    requests_per_minute
        Requests started.
    tokens_per_minute
        Their tokens, prompt and response together.
    """

    requests_per_minute: float = np.inf
    tokens_per_minute: float = np.inf


class Window:
    """The requests that an LLM started within the last minute.

    Parameters
    ----------
    limit
        Of the LLM. A window is half open: what started at s no longer counts at s + 60.
    """

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._started: deque[tuple[float, float]] = deque()
        self._tokens = 0.0
        self._last = 0.0
        self._usual = 0.0

    def earliest(self, ready: float, tokens: float | None) -> float:
        """Return when a request may start; tokens None: as many as the last one had. `ready` never decreases."""
        start = max(ready, self._last)
        while self._started and self._started[0][0] + WINDOW_S <= start:
            self._tokens -= self._started.popleft()[1]
        requests, used = len(self._started) + 1, self._tokens + (self._usual if tokens is None else tokens)
        for moment, size in self._started:
            if requests <= self._limit.requests_per_minute and used <= self._limit.tokens_per_minute:
                break
            start = moment + WINDOW_S
            requests, used = requests - 1, used - size
        return start

    def take(self, start: float, tokens: float | None) -> None:
        """Start a request."""
        self._usual = self._usual if tokens is None else tokens
        self._started.append((start, self._usual))
        self._tokens += self._usual
        self._last = start

    def copy(self) -> "Window":
        """Return a window that goes on independently."""
        twin = Window(self._limit)
        twin._started, twin._tokens = self._started.copy(), self._tokens
        twin._last, twin._usual = self._last, self._usual
        return twin


class Queues:
    """One first-in-first-out queue per LLM, and when each of its workers will be free.

    Parameters
    ----------
    workers
        Number of workers of each LLM.
    limits
        Rate limit of each LLM; empty: none has one.
    """

    def __init__(self, workers: Sequence[int], limits: Sequence[RateLimit] = ()) -> None:
        self._free = [[0.0] * n for n in workers]
        free = RateLimit()
        self._windows = [None if limit == free else Window(limit) for limit in limits or [free] * len(workers)]

    def start(self, arm: int, now: float, tokens: float | None = None) -> float:
        """Return when an LLM could start on a query; tokens None: as many as the last one had."""
        ready = max(now, self._free[arm][0])
        window = self._windows[arm]
        return ready if window is None else window.earliest(ready, tokens)

    def waits(self, now: float) -> np.ndarray:
        """Seconds until each LLM could start on a query of the usual size, (L,)."""
        return np.array([self.start(arm, now) for arm in range(len(self._free))]) - now

    def send(self, arm: int, now: float, service_s: float, tokens: float | None = None) -> float:
        """Give a query to an LLM; return when a worker starts on it."""
        start = self.start(arm, now, tokens)
        heapq.heapreplace(self._free[arm], start + service_s)
        window = self._windows[arm]
        if window is not None:
            window.take(start, tokens)
        return start

    def copy(self) -> "Queues":
        """Return queues that go on independently."""
        twin = Queues([])
        twin._free = [list(free) for free in self._free]
        twin._windows = [None if window is None else window.copy() for window in self._windows]
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
class Capacities:
    """Of every LLM.

    Attributes
    ----------
    workers
        Queries served at once.
    limits
        Rate limits.
    failure
        (L,), probability that an attempt fails.
    jitter
        (L,), standard deviation of the logarithm of the service time around its expectation.
    """

    workers: tuple[int, ...]
    limits: tuple[RateLimit, ...]
    failure: np.ndarray
    jitter: np.ndarray

    @classmethod
    def of(cls, stream: StreamParams, names: Sequence[str], block: str = "online_replay") -> "Capacities":
        """Read the params of a block's stream.

        Raises
        ------
        InputError
            They name an LLM that is not there.
        """
        unknown = sorted(set(stream.llms) - set(names))
        if unknown:
            raise InputError(
                f"params.yaml: `{block}.stream.llms` names the LLM {unknown[0]!r}, which the router does not have"
            )
        own = [stream.llms.get(name, CapacityParams()) for name in names]
        return cls(
            tuple(stream.workers if llm.workers is None else llm.workers for llm in own),
            tuple(RateLimit(llm.requests_per_minute or np.inf, llm.tokens_per_minute or np.inf) for llm in own),
            np.array([stream.failure if llm.failure is None else llm.failure for llm in own]),
            np.array([stream.jitter if llm.jitter is None else llm.jitter for llm in own]),
        )
