"""A circuit breaker: an LLM that keeps failing is left alone for a while, then tried with one query."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from symbiosis.gateway.config.schema import BreakerConfig

State = Literal["closed", "open", "half-open"]
LONGEST_CLOSURE_S = 3600.0
"""An upstream that asks for a longer pause gets this one."""


class CircuitBreaker:
    """Says whether an LLM may be asked, from how its last calls went.

    It opens when `failures` calls within `window_s` seconds failed and they are at least half of all: a busy LLM with a
    few failures among thousands stays. After `open_s` one query is let through (half-open): its success closes the
    circuit, its failure opens it again. A `Retry-After` opens it at once, for as long as the upstream asks.

    Parameters
    ----------
    config
        `failures`, `window_s` and `open_s`.
    clock
        Seconds, monotonic.
    """

    def __init__(self, config: BreakerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.config, self._clock = config, clock
        self._seconds: deque[list[float]] = deque()  # [second, failures, calls]: bounded by the window, not by the load
        self._until: float | None = None  # open or half-open if not None
        self._probing = False

    @property
    def state(self) -> State:
        """Closed (asked as usual), open (not asked) or half-open (one query at a time)."""
        if self._until is None:
            return "closed"
        return "open" if self._clock() < self._until else "half-open"

    @property
    def remaining_s(self) -> float:
        """Seconds until a query may be let through; 0 unless it is open."""
        return 0.0 if self._until is None else max(self._until - self._clock(), 0.0)

    @property
    def available(self) -> bool:
        """Whether `admit` would say yes; claims nothing."""
        state = self.state
        return state == "closed" or (state == "half-open" and not self._probing)

    def admit(self) -> bool:
        """Say whether a query may be sent; of a half-open circuit only one may until it is known how that went."""
        if not self.available:
            return False
        self._probing = self._until is not None
        return True

    def succeeded(self) -> None:
        """Note that the LLM answered."""
        self._count(0)
        if self._probing:
            self._until, self._probing = None, False
            self._seconds.clear()

    def failed(self, retry_after_s: float | None = None) -> None:
        """Note that the LLM failed, and how long it asked to be left alone."""
        self._count(1)
        now, probed, self._probing = self._clock(), self._probing, False
        if retry_after_s:
            self._open(now + min(retry_after_s, LONGEST_CLOSURE_S))
        failures = sum(failed for _, failed, _ in self._seconds)
        calls = sum(called for _, _, called in self._seconds)
        if probed or (failures >= self.config.failures and 2 * failures >= calls):
            self._open(now + self.config.open_s)

    def released(self) -> None:
        """Note that a query ended without telling anything of the LLM: the client left first."""
        self._probing = False

    def _open(self, until: float) -> None:
        self._until = max(until, self._until or 0.0)

    def _count(self, failures: int) -> None:
        now = self._clock()
        while self._seconds and self._seconds[0][0] <= now - self.config.window_s:
            self._seconds.popleft()
        if not self._seconds or self._seconds[-1][0] != int(now):
            self._seconds.append([int(now), 0, 0])
        self._seconds[-1][1] += failures
        self._seconds[-1][2] += 1
