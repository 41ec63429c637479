"""What this process sees of the LLMs: queries in flight, speed, answers' lengths; waits follow from it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

MEMORY = 20
"""Observations after which a mean forgets: each new one then counts a twentieth."""
PSEUDO_OBSERVATIONS = 5.0
"""So many observations of what was expected stand against the observed speed."""
LENGTH_PSEUDO_OBSERVATIONS = 20.0
LENGTH_MEMORY = 500.0
UNKNOWN_SERVICE_S = 1.0
"""Duration of an answer of an LLM that has given none yet."""
FEWEST_TOKENS = 8
"""Answers below say nothing of the speed of writing."""


@dataclass
class Mean:
    """A mean that is plain at first and exponentially weighted later."""

    value: float = 0.0
    count: int = 0

    def add(self, x: float) -> None:
        """Take in one observation."""
        self.count = min(self.count + 1, MEMORY)
        self.value += (x - self.value) / self.count

    def shrunk(self, prior: float) -> float:
        """Return the mean with `PSEUDO_OBSERVATIONS` of what was expected."""
        return (self.value * self.count + prior * PSEUDO_OBSERVATIONS) / (self.count + PSEUDO_OBSERVATIONS)


@dataclass
class LlmObserved:
    """What was seen of one LLM."""

    in_flight: int = 0
    started: float = 0.0
    """Sum over the queries in flight of the time when each was sent."""
    service_s: Mean = field(default_factory=Mean)
    first_token_s: Mean = field(default_factory=Mean)
    token_s: Mean = field(default_factory=Mean)
    """Seconds per token after the first: these add up, rates do not."""
    observed_tokens: float = 0.0
    expected_tokens: float = 0.0
    lengths: float = 0.0

    def response_factor(self) -> float:
        """Return observed over expected length of the answers, shrunk to 1."""
        if not self.lengths:
            return 1.0
        pseudo = LENGTH_PSEUDO_OBSERVATIONS * self.expected_tokens / self.lengths
        return (self.observed_tokens + pseudo) / (self.expected_tokens + pseudo)


class Observed:
    """What this process sees of the LLMs; the other workers of a gateway see their own.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._llms: dict[str, LlmObserved] = {}

    def of(self, llm: str) -> LlmObserved:
        """Return what was seen of one LLM."""
        seen = self._llms.get(llm)
        if seen is None:
            seen = self._llms[llm] = LlmObserved()
        return seen

    def _seen(self, names: Sequence[str]) -> list[tuple[int, LlmObserved]]:
        """Return the place and what was seen of those LLMs of which anything was: of a thousand, mostly few."""
        llms = self._llms
        return [(place, llms[name]) for place, name in enumerate(names) if name in llms]

    def begin(self, llm: str) -> float:
        """Note that a query was sent; `end` wants the number that this returns."""
        now, seen = self._clock(), self.of(llm)
        seen.in_flight += 1
        seen.started += now
        return now

    def end(self, llm: str, began: float) -> None:
        """Note that a query is over, however it went."""
        seen = self.of(llm)
        seen.in_flight -= 1
        seen.started = seen.started - began if seen.in_flight else 0.0  # no rounding errors left behind

    def answered(
        self, llm: str, total_s: float, first_token_s: float | None, response_tokens: int, *, hindered: bool = False
    ) -> None:
        """Take in a whole answer's times.

        Parameters
        ----------
        llm
            Its name.
        total_s
            From sending to the last byte.
        first_token_s
            From sending to the first token; None for an answer that was not streamed.
        response_tokens
            Length of the answer, reported or estimated.
        hindered
            Whether the client read so slowly that the upstream had to wait: then only the first token tells of it.
        """
        seen = self.of(llm)
        if first_token_s is not None:
            seen.first_token_s.add(first_token_s)
        if hindered:
            return
        seen.service_s.add(total_s)
        if response_tokens >= FEWEST_TOKENS:
            startup = first_token_s
            if startup is None:
                startup = seen.first_token_s.value if seen.first_token_s.count else 0.0
            seen.token_s.add(max(total_s - startup, 0.0) / (response_tokens - (first_token_s is not None)))

    def length(self, llm: str, response_tokens: int, expected_tokens: float) -> None:
        """Take in a reported length of an answer and what had been expected."""
        if expected_tokens <= 0:
            return
        seen, keep = self.of(llm), 1 - 1 / LENGTH_MEMORY
        seen.observed_tokens = seen.observed_tokens * keep + response_tokens
        seen.expected_tokens = seen.expected_tokens * keep + expected_tokens
        seen.lengths = seen.lengths * keep + 1

    def in_flight(self, names: Sequence[str]) -> np.ndarray:
        """Return the queries under way at each LLM, (L,)."""
        counts = np.zeros(len(names), dtype=np.int64)
        for place, seen in self._seen(names):
            counts[place] = seen.in_flight
        return counts

    def startup_s(self, names: Sequence[str], prior: np.ndarray) -> np.ndarray:
        """Return seconds to the first token, (L,), shrunk to those that are expected, (L,)."""
        startup = np.array(prior, dtype=np.float64)
        for place, seen in self._seen(names):
            startup[place] = seen.first_token_s.shrunk(startup[place])
        return startup

    def tokens_per_s(self, names: Sequence[str], prior: np.ndarray) -> np.ndarray:
        """Return tokens per second after the first, (L,), shrunk to those that are expected, (L,)."""
        seconds = 1 / np.array(prior, dtype=np.float64)
        for place, seen in self._seen(names):
            seconds[place] = seen.token_s.shrunk(seconds[place])
        return 1 / np.maximum(seconds, 1e-9)

    def response_factor(self, names: Sequence[str]) -> np.ndarray:
        """Return by how much each LLM's answers are longer than expected, (L,), shrunk to 1."""
        factors = np.ones(len(names))
        for place, seen in self._seen(names):
            factors[place] = seen.response_factor()
        return factors

    def waits_s(self, names: Sequence[str], workers: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the seconds until each LLM has a free worker, (L,).

        With n queries in flight at w workers: 0 if n < w, else (n - w + 1) / w mean durations of an answer. An LLM that
        hangs has queries older than its mean duration: then their mean age counts instead.
        """
        now, waits = self._clock(), np.zeros(len(names))
        for i, seen in self._seen(names):
            n, free = seen.in_flight, workers[i]
            if n >= free:
                service = seen.service_s.value if seen.service_s.count else UNKNOWN_SERVICE_S
                waits[i] = (n - free + 1) / free * max(service, now - seen.started / n)
        return waits
