"""Sends one request and judges what comes back before anything of it reaches the client."""

import asyncio
from typing import Any, Literal, Protocol

import httpx

from symbiosis.gateway.config.schema import LimitsConfig
from symbiosis.gateway.upstreams.answers import Passage, UpstreamAnswer
from symbiosis.gateway.upstreams.bodies import Body, CutOffError
from symbiosis.gateway.upstreams.calls import Arm, Tracker
from symbiosis.gateway.upstreams.events import AnswerReader
from symbiosis.gateway.upstreams.failures import UpstreamError
from symbiosis.gateway.upstreams.headers import ClientHeaders, Headers, retry_after_s, to_client, to_upstream

HELD = 8 << 20
"""Bytes of an answer that is not streamed which are held until it is whole; a longer one passes as it comes."""
HELD_ERROR = 1 << 20
"""Bytes of an error that are read; what is beyond is cut."""
STALE_TRIALS = 3
"""How often a request is sent if each time the upstream had just closed the pooled connection."""
PASSING = (408, 429)
"""Statuses below 500 for which another LLM is asked."""
KEY_REFUSED = (401, 402)
"""Statuses that speak of the gateway's own key or account: another LLM is asked, and the client is not told."""


class Request(Protocol):
    """What is used of a `symbiosis.gateway.requests.chat.ChatRequest`."""

    @property
    def stream(self) -> bool:
        """Whether a stream is asked for."""

    @property
    def prompt_characters(self) -> int:
        """Characters of all messages."""

    @property
    def wants_usage(self) -> bool:
        """Whether the client asked for the usage of a stream."""

    def for_upstream(self, model: str, include_usage: bool) -> bytes:
        """Return the body."""


class Opening:
    """One request to one LLM, up to its answer.

    Parameters
    ----------
    arm, request, tracker
        Who is asked what, and the call.
    limits
        Its times.
    """

    def __init__(self, arm: Arm, request: Request, tracker: Tracker, limits: LimitsConfig) -> None:
        now = asyncio.get_running_loop().time()
        self._arm, self._request, self._tracker, self._limits = arm, request, tracker, limits
        self._deadline = now + (limits.first_byte_s if request.stream else limits.answer_s)
        self._ends_at = None if limits.total_s is None else now + limits.total_s

    async def answer(self, headers: ClientHeaders) -> UpstreamAnswer:
        """Send the request and return the answer.

        Raises
        ------
        UpstreamError
            See `symbiosis.gateway.upstreams.client.Upstreams.open`.
        """
        arm, request = self._arm, self._request
        sent = to_upstream(headers, arm.key)
        asks_usage = request.stream and arm.tells_usage
        response = await self._send(request.for_upstream(arm.llm.model, asks_usage), sent)
        if asks_usage and not request.wants_usage and response.status_code in (400, 422):
            content = await self._error(response)
            if b"stream_options" not in content:
                return self._refused(response, content)
            arm.tells_usage = False
            response = await self._send(request.for_upstream(arm.llm.model, False), sent)
        if not response.is_success:
            return self._refused(response, await self._error(response))
        return await self._accepted(response)

    async def _send(self, content: bytes, headers: dict[str, str]) -> httpx.Response:
        """Send the body and return the answer's status and headers, its body unread."""
        client = self._arm.connections.client
        url = self._arm.upstream.base_url.rstrip("/") + "/chat/completions"
        timeout = httpx.Timeout(None, connect=self._limits.connect_s)
        for trial in range(STALE_TRIALS):
            fresh = False

            async def trace(event: str, info: dict[str, Any]) -> None:
                nonlocal fresh
                fresh = fresh or event.startswith("connection.connect")

            request = client.build_request(
                "POST", url, content=content, headers=headers, timeout=timeout, extensions={"trace": trace}
            )
            try:
                async with asyncio.timeout_at(self._deadline):
                    return await client.send(request, stream=True)
            except (TimeoutError, httpx.TimeoutException) as error:
                raise UpstreamError("timeout", "no answer in time") from error
            except httpx.ConnectError as error:
                raise UpstreamError("connection", "no connection could be made") from error
            except httpx.HTTPError as error:
                # The upstream may close an idle connection at the moment when it is used again: no failure of its.
                stale = isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError) and not fresh
                if not stale or trial + 1 == STALE_TRIALS:
                    raise UpstreamError("broken", f"the connection broke ({type(error).__name__})") from error
        raise AssertionError("unreachable")

    async def _error(self, response: httpx.Response) -> bytes:
        """Read the body of an error and close; what breaks in between counts as its end."""
        body = Body(response, self._ends_at)
        try:
            return (await body.read(HELD_ERROR, self._limits.idle_s))[0]
        except CutOffError:
            return b""
        finally:
            await body.aclose()

    def _refused(self, response: httpx.Response, content: bytes) -> UpstreamAnswer:
        """Return an error of the client's making as an answer; raise any other."""
        status = self._tracker.call.status = response.status_code
        headers = to_client(_headers(response), decoded=Body.decodes(response))
        if status in KEY_REFUSED:
            raise UpstreamError("key", f"the gateway's key was refused with status {status}", status)
        if status < 400:
            raise UpstreamError("broken", f"it redirects with status {status}: correct its base_url", status)
        if status >= 500 or status in PASSING:
            pause = retry_after_s(_headers(response))
            raise UpstreamError("status", f"status {status}", status, headers, content, pause)
        self._tracker.end("answered")
        return UpstreamAnswer(status, headers, self._tracker.call, content=content)

    async def _accepted(self, response: httpx.Response) -> UpstreamAnswer:
        """Return an answer that has begun: a stream, or a whole body."""
        status = self._tracker.call.status = response.status_code
        body, passed = Body(response, self._ends_at), False
        headers = to_client(_headers(response), decoded=body.decoded)
        kind = response.headers.get("content-type", "text/event-stream").partition(";")[0].strip().lower()
        reader = AnswerReader()
        try:
            if self._request.stream and kind != "application/json":
                events = kind == "text/event-stream" and body.readable
                passage = self._passage(body, reader, events=events)
                if not await passage.open(self._deadline):
                    raise UpstreamError("empty", "a stream with nothing in it", status)
            else:
                content, whole = await body.read(HELD, self._limits.idle_s)
                if whole:
                    return self._whole(headers, body, content, reader)
                passage = self._passage(body, reader, events=False, held=content)
            if reader.error and not reader.chunks:
                raise _error_inside(reader, status)
            passed = True
            self._tracker.answers()
            return UpstreamAnswer(status, headers, self._tracker.call, reader, passage=passage)
        except CutOffError as error:
            late: Literal["timeout", "broken"] = "timeout" if error.late else "broken"
            raise UpstreamError(late, str(error), status) from error
        finally:
            if not passed:
                await body.aclose()

    def _passage(self, body: Body, reader: AnswerReader, *, events: bool, held: bytes = b"") -> Passage:
        drop = not self._request.wants_usage
        return Passage(body, reader, self._tracker, self._limits.idle_s, drop_usage=drop, events=events, held=held)

    def _whole(self, headers: Headers, body: Body, content: bytes, reader: AnswerReader) -> UpstreamAnswer:
        status = self._tracker.call.status or 200
        if not content.strip():
            raise UpstreamError("empty", f"status {status} with nothing in it", status)
        if body.readable:
            reader.see(content)
            if reader.error and not reader.chunks:
                raise _error_inside(reader, status)
            if not reader.chunks:
                raise UpstreamError("unreadable", f"status {status}, but no completion", status)
        else:
            reader.see_tail(b"", len(content))
        self._tracker.end("answered", reader=reader)
        return UpstreamAnswer(status, headers, self._tracker.call, reader, content=content)


def _headers(response: httpx.Response) -> Headers:
    """Return the headers as they came: httpx guesses an encoding, latin-1 gives each byte back."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.headers.raw]


def _error_inside(reader: AnswerReader, status: int) -> UpstreamError:
    """Return the error that came with a status of success; it may name a status of its own."""
    return UpstreamError("error", reader.error or "", status)
