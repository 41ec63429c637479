"""Sends requests to upstreams over HTTP and returns answers that can be passed on."""

import os
import time
from collections.abc import Callable

import httpx

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import GatewayConfig, LimitsConfig, UpstreamConfig
from symbiosis.gateway.upstreams.answers import LEFT, UpstreamAnswer
from symbiosis.gateway.upstreams.breaker import CircuitBreaker
from symbiosis.gateway.upstreams.calls import Arm, Call, Connections, Tracker
from symbiosis.gateway.upstreams.failures import UpstreamError
from symbiosis.gateway.upstreams.headers import ClientHeaders
from symbiosis.gateway.upstreams.observed import Observed
from symbiosis.gateway.upstreams.opening import Opening, Request

KEEP_ALIVE = httpx.Limits(max_connections=None, max_keepalive_connections=128, keepalive_expiry=30)


class Upstreams:
    """All LLMs that can be asked, with their connections, circuits and what was seen of them.

    Parameters
    ----------
    config
        Its `upstreams`, `limits` and `breaker` are used.

    Raises
    ------
    InputError
        The environment variable of a key is not set.
    """

    def __init__(self, config: GatewayConfig) -> None:
        self.observed = Observed()
        self.arms: dict[str, Arm] = {}
        self._retired: list[Connections] = []
        self._limits: LimitsConfig = config.limits
        self._context = httpx.create_ssl_context()  # reading the certificates takes tens of milliseconds: once
        self.configure(config)

    def configure(self, config: GatewayConfig) -> None:
        """Take over a config: circuits, connections and what was seen of LLMs that stay are kept, calls go on.

        Raises
        ------
        InputError
            The environment variable of a key is not set; nothing is changed.
        """
        keys = {upstream.name: _key(upstream) for upstream in config.upstreams}
        before = {(arm.upstream.name, arm.upstream.base_url): arm.connections for arm in self.arms.values()}
        arms = {}
        for upstream in config.upstreams:
            connections = before.get((upstream.name, upstream.base_url)) or self._connect(upstream)
            for llm in upstream.llms:
                old = self.arms.get(llm.name)
                same = old and (old.upstream.base_url, old.llm.model) == (upstream.base_url, llm.model)
                breaker = old.breaker if old and same else CircuitBreaker(config.breaker)
                breaker.config = config.breaker
                arms[llm.name] = Arm(upstream, llm, connections, breaker, keys[upstream.name])
                if old and same:
                    arms[llm.name].drained, arms[llm.name].tells_usage = old.drained, old.tells_usage
        kept = {id(arm.connections) for arm in arms.values()}
        self._retired += [connections for connections in before.values() if id(connections) not in kept]
        self.arms, self._limits = arms, config.limits

    def _connect(self, upstream: UpstreamConfig) -> Connections:
        client = httpx.AsyncClient(
            verify=self._context,
            trust_env=not upstream.is_loopback,  # the environment's proxy must never catch loopback
            limits=KEEP_ALIVE,
            timeout=None,  # nosec B113: each call has limits of its own, see `limits` of the config
            follow_redirects=False,
        )
        return Connections(client, httpx.URL(upstream.base_url.rstrip("/") + "/chat/completions"))

    async def aclose(self) -> None:
        """Close all connections."""
        for connections in {id(arm.connections): arm.connections for arm in self.arms.values()}.values():
            await connections.client.aclose()
        await self.close_retired(force=True)

    async def close_retired(self, *, force: bool = False) -> None:
        """Close the connections to upstreams that are no longer configured, unless answers still come through them."""
        ready = [connections for connections in self._retired if force or not connections.in_use]
        self._retired = [connections for connections in self._retired if connections not in ready]
        for connections in ready:
            await connections.client.aclose()

    @property
    def attempts(self) -> int:
        """How many LLMs are asked for one request."""
        return self._limits.attempts

    def circuits(self) -> dict[str, str]:
        """Return each LLM's circuit: closed, open or half-open."""
        return {name: arm.breaker.state for name, arm in self.arms.items()}

    def drain(self, llm: str, drained: bool = True) -> None:
        """Send an LLM no more queries, or send them again; those under way go on.

        Raises
        ------
        InputError
            There is no such LLM.
        """
        if llm not in self.arms:
            raise InputError(f"there is no LLM {llm!r}: name one of {', '.join(self.arms)}")
        self.arms[llm].drained = drained

    async def open(
        self,
        llm: str,
        request: Request,
        headers: ClientHeaders = (),
        *,
        attempt: int = 1,
        expected_tokens: float | None = None,
        on_call: Callable[[Call], None] | None = None,
    ) -> UpstreamAnswer:
        """Send a request to an LLM and return once it answers: whole, or for a stream with its first chunk.

        The caller has asked `Arm.breaker.admit` before. If this is cancelled, the connection closes.

        Parameters
        ----------
        llm
            A name in `arms`.
        request, headers
            The client's.
        attempt
            1 for the first call of a request.
        expected_tokens
            Length of the answer that the router expects, for what is observed.
        on_call
            Is given the call once it is over, however it went.

        Raises
        ------
        UpstreamError
            It failed, and nothing of it was sent: another LLM may be asked. Errors of the client's making (4xx) are
            answers.
        """
        if self._retired:
            await self.close_retired()
        arm = self.arms[llm]
        call = Call(llm, arm.upstream.name, attempt, time.time(), request.stream)
        tracker = Tracker(arm, self.observed, call, request.prompt_characters, expected_tokens, on_call)
        try:
            return await Opening(arm, request, tracker, self._limits).answer(headers)
        except UpstreamError as error:
            error.call = call
            tracker.end("failed", error=str(error), retry_after_s=error.retry_after_s)
            raise
        except BaseException:
            tracker.end("left", error=LEFT)
            raise


def _key(upstream: UpstreamConfig) -> str | None:
    if upstream.key_env is None:
        return None
    key = os.environ.get(upstream.key_env, "").strip()
    if not key:
        raise InputError(
            f"`upstreams`: {upstream.name!r} wants its key in the environment variable {upstream.key_env}, which "
            "is not set: set it, or take `key_env` away"
        )
    return key
