"""A chat completion from request to answer: admitted, decided, asked, passed on, recorded."""

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from symbiosis.core.errors import InputError
from symbiosis.gateway.monitoring.traces import RequestTrace
from symbiosis.gateway.requests.chat import ChatRequest
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.planning import Plan, plan
from symbiosis.gateway.service.problems import Problem
from symbiosis.gateway.upstreams.answers import UpstreamAnswer
from symbiosis.gateway.upstreams.calls import Call
from symbiosis.gateway.upstreams.failures import BrokenAnswer
from symbiosis.gateway.upstreams.fallback import Served, ask
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import CallEntry, StoreEntry

LOG = logging.getLogger("symbiosis.gateway")
CONVERSATION = "x-symbiosis-conversation"
"""Header by which a client may name its conversation."""
PATIENCE_S = 0.02
"""For which what a call cost that no client waits for may wait for other entries, to share their transaction."""
END_S = 0.05
"""For which a stream's `[DONE]` is held until the call's cost is in the store: so long its upstream may take to end."""
RECORDED_S = 2.0
"""In which a decision is in the store, or its answer goes out without it: a locked store holds nobody up."""


async def complete(gateway: Gateway, request: Request) -> Response:
    """Answer ``POST /v1/chat/completions``."""
    began, at = time.perf_counter(), time.time()
    key = gateway.admit(request)
    chat = ChatRequest.parse(await gateway.body(request))
    trace = gateway.traces.request(request.headers, chat.model, stream=chat.stream)
    calls: list[Call] = []
    try:
        whom = await plan(gateway, chat, key, request.headers.get(CONVERSATION), began)
        _trace_decision(trace, whom, at)
        asking = ask(
            gateway.upstreams,
            whom.candidates,
            chat,
            list(request.headers.items()),
            expected_tokens=whom.expected_tokens,
            on_call=calls.append,
        )
        served = await _unless_gone(request, asking)
    except BaseException as error:
        trace.end(getattr(error, "status", 500), error=str(error) or type(error).__name__)
        if calls:  # upstreams were asked, and may bill it
            gateway.later(_abandoned(gateway, whom, calls))
        raise
    whom.fallbacks = len(served.failed)
    if served.llm is None and whom.mode != "explicit" and whom.fallbacks:
        whom.notice = whom.notice or "no LLM answered"
    return Passing(gateway, chat, whom, served, calls, trace)


def _trace_decision(trace: RequestTrace, whom: Plan, at: float) -> None:
    decision = whom.decision
    known: dict[str, float] = {}
    if decision is not None:
        known = {"propensity": decision.propensity, "expected_cost_usd": float(decision.cost_usd[decision.arm])}
    trace.decided(at, whom.id, whom.candidates[0], mode=whom.mode, policy=whom.policy, **known)
    if trace.id is not None:
        whom.entry.details = {**(whom.entry.details or {}), "trace": trace.id}


async def _unless_gone(request: Request, asking: Any) -> Served:
    """Wait for an upstream unless the client leaves first; then the call of the upstream ends, too.

    Raises
    ------
    Problem
        The client has left.
    """
    task = asyncio.ensure_future(asking)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Problem(499, "the client has left", "client_gone")
        served: Served = task.result()
        return served
    except BaseException:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await (await task).answer.aclose()
        raise
    finally:
        leaving.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class Passing(Response):
    """An upstream's answer on its way to the client, who hears of its end when what it cost is in the store.

    Parameters
    ----------
    gateway
        Records.
    request, whom, served, calls
        What was asked, whom, who answered, and the calls that are over so far.
    trace
        Of the request; it ends with the answer.
    """

    def __init__(
        self,
        gateway: Gateway,
        request: ChatRequest,
        whom: Plan,
        served: Served,
        calls: list[Call],
        trace: RequestTrace,
    ) -> None:
        super().__init__()
        self._gateway, self._request, self._plan, self._served, self._calls = gateway, request, whom, served, calls
        self._trace = trace
        self._written, self._store_failed = 0, False
        self.status_code = served.answer.status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the answer on."""
        gateway, whom, served = self._gateway, self._plan, self._served
        answer = served.answer
        try:
            # Nothing is acknowledged that is not in the store; a store that fails does not fail the answer.
            headers = await self._recorded()
            own = {name for name, _ in headers}
            passed = [(name, value) for name, value in _raw(answer.headers) if name not in own]
            if answer.content is not None and b"content-length" not in dict(passed):
                headers.append((b"content-length", str(len(answer.content)).encode()))
            await send({"type": "http.response.start", "status": answer.status, "headers": [*passed, *headers]})
            if answer.content is not None:
                await send({"type": "http.response.body", "body": answer.content})
            else:
                await self._stream(answer, receive, send)
        except BrokenAnswer as error:
            # The connection closes without a proper end: half an answer must not pass for a whole one.
            LOG.warning("%s", error)
        finally:
            gateway.leave()
            await answer.aclose()
            gateway.metrics.answered(answer.status)
            self._end_trace()
            gateway.later(_settled(gateway, self._request, whom, served, self._calls, self._written))

    def _end_trace(self) -> None:
        trace, answer = self._trace, self._served.answer
        if trace.id is None:
            return
        for call in self._calls:
            upstream, llm = self._gateway.llms[call.llm]
            span = trace.call(call.llm, llm.model, upstream.base_url, stream=call.streamed, began=call.at)
            span.end(_entry(self._plan, call), model=None)
        error = None if answer.call is None else answer.call.error
        trace.end(answer.status, error=error, prompt=self._request.text, answer=answer.text or "")

    async def _recorded(self) -> list[tuple[bytes, bytes]]:
        whom, served = self._plan, self._served
        # A refusal of the request itself is no answer that feedback could be about.
        whom.entry.served = served.llm if served.answer.status < 300 else None
        whom.entry.overhead_ms = whom.overhead_ms
        if not await self._record([whom.entry]):
            whom.notice = "the decision could not be recorded: it takes no feedback"
            headers = whom.headers(served.llm)
            return [(name, value) for name, value in headers if name != b"x-symbiosis-decision"]
        return whom.headers(served.llm)

    async def _record(self, entries: Sequence[StoreEntry] = ()) -> bool:
        """Write entries and the calls that are over, unless the store has failed for this answer; tell whether."""
        calls = self._calls[self._written :]
        if self._store_failed or not (entries or calls):
            return not self._store_failed
        try:
            async with asyncio.timeout(RECORDED_S):
                await self._gateway.record([*entries, *(_entry(self._plan, call) for call in calls)])
        except (InputError, TimeoutError):
            self._store_failed = True
            return False
        self._written += len(calls)
        return True

    async def _stream(self, answer: UpstreamAnswer, receive: Receive, send: Send) -> None:
        # Side by side: an upstream that has fallen silent must not hide that the client has left.
        pumping = asyncio.ensure_future(self._pump(answer, send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({pumping, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if pumping.done():
                pumping.result()
        finally:
            leaving.cancel()
            pumping.cancel()
            await asyncio.gather(pumping, return_exceptions=True)

    async def _pump(self, answer: UpstreamAnswer, send: Send) -> None:
        """Pass the parts on; the client hears of the end once the store has what the call cost, or cannot take it."""
        async for part in answer:
            if not answer.reader.done:
                await send({"type": "http.response.body", "body": part, "more_body": True})
                continue
            ending = asyncio.ensure_future(_rest(answer))
            try:
                await asyncio.wait([ending], timeout=END_S)
                await self._record()
                await send({"type": "http.response.body", "body": part, "more_body": True})
                rest = await ending
            finally:
                ending.cancel()
                await asyncio.gather(ending, return_exceptions=True)
            if rest:
                await send({"type": "http.response.body", "body": rest, "more_body": True})
        await self._record()
        await send({"type": "http.response.body", "body": b""})


async def _rest(answer: UpstreamAnswer) -> bytes:
    return b"".join([part async for part in answer])


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _raw(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]


async def _abandoned(gateway: Gateway, whom: Plan, calls: list[Call]) -> None:
    """Record a decision whose client left before an LLM had answered, with the calls that were made for it."""
    entries = [_entry(whom, call) for call in calls]
    for entry in entries:
        gateway.metrics.called(entry)
    whom.entry.overhead_ms = whom.overhead_ms
    await gateway.record([whom.entry, *entries])


async def _settled(
    gateway: Gateway, request: ChatRequest, whom: Plan, served: Served, calls: list[Call], written: int
) -> None:
    """Record what the calls cost, the first `written` of them aside, and learn what can be learned without a user."""
    entries = [_entry(whom, call) for call in calls]
    for entry in entries:
        gateway.metrics.called(entry)
    await gateway.record(entries[written:], patience_s=PATIENCE_S)
    for call in served.failed:
        gateway.metrics.fell_back(call.llm)
    gateway.metrics.decided(served.llm or "", whom.policy, whom.mode, whom.overhead_ms / 1e3)
    last = served.answer.call
    if served.llm is None or last is None or last.usage is None:
        return
    if last.cost_usd is not None and whom.entry.baseline_usd is not None and whom.mode == "apply":
        gateway.metrics.saved(last.cost_usd, whom.entry.baseline_usd)
    if whom.budget is not None and last.cost_usd is not None and whom.mode == "apply":
        whom.budget.correct(whom.entry.record.cost_usd, last.cost_usd)
    if served.answer.finished and whom.conversation is not None:
        gateway.conversations.remember(
            whom.conversation, served.llm, last.usage.prompt_tokens + last.usage.response_tokens
        )
    verdict = None
    # A thread is woken only where there is something to judge: that takes longer than the decision.
    if served.answer.finished and whom.decision is not None and gateway.checks.apply_to(request, whom.policy):
        text = served.answer.text or None  # a call of tools has none
        verdict = await asyncio.to_thread(gateway.checks.verdict, request, text, whom.policy)
    if verdict is not None:
        tokens = None if last.usage.estimated else float(last.usage.response_tokens)
        await gateway.feedback(whom.id, Feedback(verdict.quality, tokens, None), source=f"check:{verdict.check}")


def _entry(whom: Plan, call: Call) -> CallEntry:
    usage = call.usage
    return CallEntry(
        whom.id,
        call.attempt,
        call.llm,
        call.upstream,
        call.at,
        status=call.status,
        error=call.error,
        first_token_s=call.first_token_s,
        total_s=call.total_s,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        cached_tokens=None if usage is None else usage.cached_tokens,
        response_tokens=None if usage is None else usage.response_tokens,
        cost_usd=call.cost_usd,
        streamed=call.streamed,
        api_key=whom.entry.api_key,
    )
