"""One call of an LLM: what is taken down of it, and what its end teaches."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import httpx

from symbiosis.gateway.config.schema import LlmConfig, UpstreamConfig
from symbiosis.gateway.upstreams.breaker import CircuitBreaker
from symbiosis.gateway.upstreams.events import AnswerReader
from symbiosis.gateway.upstreams.observed import Observed
from symbiosis.gateway.upstreams.usage import Usage, estimated

HINDERED = 0.1
"""Share of an answer's time that the client may take to read before the times say nothing of the upstream."""


@dataclass
class Connections:
    """The connections to one upstream."""

    client: httpx.AsyncClient
    completions: httpx.URL
    """Of chat completions."""
    in_use: int = 0


@dataclass
class Arm:
    """An LLM as it is asked."""

    upstream: UpstreamConfig
    llm: LlmConfig
    connections: Connections
    breaker: CircuitBreaker
    key: str | None = None
    drained: bool = False
    tells_usage: bool = True
    """Whether a stream may be asked for usage: an upstream that refuses `stream_options` is not asked again."""
    last_status: int | None = None
    """Of the last failure, if it was an answer."""


@dataclass
class Call:
    """One call of an LLM; complete once it is over.

    Parameters
    ----------
    llm, upstream
        Names.
    attempt
        1 for the first call of a request.
    at
        Seconds since the epoch when it was sent.
    streamed
        Whether a stream was asked for.
    status
        Of the upstream's answer, if there was one.
    error
        One line on how it failed: None for a whole answer, and for an error that is the client's own (4xx).
    first_token_s, total_s
        Seconds from sending to the first token (streams only) and to the end.
    usage, cost_usd
        None where nothing was generated.
    """

    llm: str
    upstream: str
    attempt: int
    at: float
    streamed: bool
    status: int | None = None
    error: str | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    usage: Usage | None = None
    cost_usd: float | None = None


Ending = Literal["answered", "failed", "left"]


@dataclass
class Tracker:
    """Follows one call to its end, which is told once: to the circuit, to what is observed, and to `on_call`.

    Parameters
    ----------
    arm
        The LLM that is called.
    observed
        What is seen of the LLMs.
    call
        To be filled in.
    prompt_characters
        For an upstream that does not say how many tokens it read.
    expected_tokens
        Length of the answer that the router expected.
    on_call
        Is given the call once it is over.
    """

    arm: Arm
    observed: Observed
    call: Call
    prompt_characters: int = 0
    expected_tokens: float | None = None
    on_call: Callable[[Call], None] | None = None
    over: bool = False
    opened: bool = False
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Count the call as one in flight."""
        self._begun = self.observed.begin(self.call.llm)
        self.arm.connections.in_use += 1

    @property
    def elapsed_s(self) -> float:
        """Seconds since it was sent."""
        return time.monotonic() - self._began

    def note_first_token(self) -> None:
        """Take down when the first token came."""
        if self.call.first_token_s is None:
            self.call.first_token_s = self.elapsed_s

    def answers(self) -> None:
        """Note that the LLM answers: its circuit need not wait for the end of a long stream."""
        self.opened = True
        self.arm.breaker.succeeded()

    def end(
        self,
        ending: Ending,
        *,
        error: str | None = None,
        reader: AnswerReader | None = None,
        retry_after_s: float | None = None,
        client_s: float = 0.0,
    ) -> None:
        """End the call; later calls of this do nothing.

        Parameters
        ----------
        ending
            The LLM answered, it failed, or the client left first.
        error
            One line.
        reader
            What was read of the answer.
        retry_after_s
            For how long the LLM should be left alone.
        client_s
            Seconds for which the client kept the upstream waiting.
        """
        if self.over:
            return
        self.over = True
        call, breaker = self.call, self.arm.breaker
        call.total_s, call.error = self.elapsed_s, error
        self.observed.end(call.llm, self._begun)
        self.arm.connections.in_use -= 1
        if ending == "failed":
            self.arm.last_status = call.status
            breaker.failed(retry_after_s)
        elif not self.opened:
            (breaker.succeeded if ending == "answered" else breaker.released)()
        if reader is not None:
            self._learn(reader, whole=ending == "answered", hindered=client_s > HINDERED * call.total_s)
        if self.on_call is not None:
            self.on_call(call)

    def _learn(self, reader: AnswerReader, *, whole: bool, hindered: bool) -> None:
        call = self.call
        call.usage = reader.usage or estimated(self.prompt_characters, reader.characters)
        call.cost_usd = call.usage.cost_usd(self.arm.llm)
        if not whole or call.total_s is None:
            return
        tokens = call.usage.response_tokens
        self.observed.answered(call.llm, call.total_s, call.first_token_s, tokens, hindered=hindered)
        if self.expected_tokens and not call.usage.estimated:
            self.observed.length(call.llm, tokens, self.expected_tokens)
