"""An upstream's answer on its way to the client: whole, or bytes that pass as they come.

What a client sees of a stream:

- Bytes pass as the upstream wrote them, in whole events: the beginning of an event is held until its end is there (a
  client can use it no sooner), so that an upstream which breaks leaves no half event before the error.
- The last chunk with `usage` and `choices: []` is left out if the client did not ask for it. Usage is asked for in
  every stream, since costs and lengths are learned from it, and clients that read `chunk.choices[0]` would fail on a
  chunk they never wanted. So does LiteLLM (pull request 35290). Usage inside other chunks passes.
- A stream that breaks ends with an error event and without `[DONE]`.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from types import TracebackType

from symbiosis.gateway.upstreams.bodies import PROGRESS, Body, CutOffError
from symbiosis.gateway.upstreams.calls import Call, Tracker
from symbiosis.gateway.upstreams.events import LONGEST_EVENT, TAIL, AnswerReader, EventSplitter
from symbiosis.gateway.upstreams.failures import BrokenAnswer, error_event
from symbiosis.gateway.upstreams.headers import Headers

AFTER_DONE_S = 1.0
"""How long the upstream's end is waited for after `[DONE]`, so that the connection can be used again."""
LEFT = "client: left before the end"


class Passage:
    """Bytes of a body that is not held: read once, looked at, passed on.

    Parameters
    ----------
    body, reader, tracker
        What is passed, who looks at it, and the call.
    idle_s
        Longest time without progress.
    drop_usage
        Whether a chunk with nothing but usage is left out.
    events
        Whether it consists of server-sent events; else the bytes are only passed.
    held
        What was read before.
    """

    def __init__(
        self,
        body: Body,
        reader: AnswerReader,
        tracker: Tracker,
        idle_s: float,
        *,
        drop_usage: bool = False,
        events: bool = True,
        held: bytes = b"",
    ) -> None:
        self._body, self._reader, self._tracker = body, reader, tracker
        self._idle_s, self._drop_usage = idle_s, drop_usage
        self._splitter = EventSplitter() if events else None
        self._held, self._tail, self._size = held, held[-TAIL:], len(held)
        self._ended = False

    async def open(self, deadline: float) -> bool:
        """Read up to the first chunk of the answer; comments that keep a connection alive are none.

        Returns
        -------
        bool
            Whether there is one.

        Raises
        ------
        CutOffError
            The connection broke, or nothing came until the deadline (time of the event loop).
        """
        reader = self._reader
        while not (reader.chunks or reader.garbage or reader.error or self._ended):
            self._held += (await self._next(deadline))[0]
            if self._held and (self._splitter is None or len(self._held) > LONGEST_EVENT):
                return True
        return bool(reader.chunks or reader.garbage or reader.error)

    async def _next(self, deadline: float) -> tuple[bytes, bool]:
        """Return what passes on of the next bytes, and whether there was progress."""
        chunk = await self._body.next(deadline)
        self._ended = not chunk
        if self._splitter is None:
            before = self._size // PROGRESS
            self._size += len(chunk)
            self._tail = (self._tail + chunk)[-TAIL:]
            return chunk, self._size // PROGRESS > before
        events = self._splitter.feed(chunk)
        if self._ended and self._splitter.rest:
            events.append(self._splitter.rest)
        kept = [event for event in events if not (self._reader.see_event(event) and self._drop_usage)]
        if self._reader.characters:
            self._tracker.note_first_token()
        return b"".join(kept), bool(events)

    async def bytes(self) -> AsyncGenerator[bytes, None]:
        """Pass the bytes on; closing this closes the connection to the upstream.

        Raises
        ------
        BrokenAnswer
            The upstream broke, and the body has no place for an error.
        """
        reader, tracker, loop, client_s = self._reader, self._tracker, asyncio.get_running_loop(), 0.0
        passed, self._held = self._held, b""
        deadline = loop.time() + self._idle_s
        try:
            while True:
                if passed:
                    given = time.monotonic()
                    yield passed
                    client_s += time.monotonic() - given
                    deadline = loop.time() + self._idle_s
                if self._ended:
                    break
                if reader.done:
                    deadline = min(deadline, loop.time() + AFTER_DONE_S)
                passed, progress = await self._next(deadline)
                if progress:
                    deadline = loop.time() + self._idle_s
            if reader.chunks and not (reader.ended or reader.error):
                raise CutOffError("it ended without an end")
            self._over(client_s)
        except CutOffError as error:
            if reader.done:
                self._over(client_s)
                return
            message = f"the answer of {tracker.call.llm} broke: {error}"
            tracker.end("failed", error=f"broken: {error}", reader=self._looked_at(), client_s=client_s)
            if self._splitter is None:
                raise BrokenAnswer(message) from error
            yield error_event(message, "upstream_broken")
        finally:
            tracker.end("left", error=LEFT, reader=self._looked_at(), client_s=client_s)
            await self._body.aclose()

    async def abandon(self) -> None:
        """Close the connection without having passed anything on."""
        self._tracker.end("left", error=LEFT, reader=self._looked_at())
        await self._body.aclose()

    def _over(self, client_s: float) -> None:
        error = self._reader.error
        ending, line = ("answered", None) if error is None else ("failed", f"error: {error}")
        self._tracker.end(ending, error=line, reader=self._looked_at(), client_s=client_s)  # type: ignore[arg-type]

    def _looked_at(self) -> AnswerReader:
        if self._splitter is None and not self._tracker.over:
            self._reader.see_tail(self._tail if self._body.readable else b"", self._size)
        return self._reader


class UpstreamAnswer:
    """An answer for the client. Whoever takes it iterates over it and closes it in any case.

    Parameters
    ----------
    status, headers
        For the client.
    content
        The whole body, if it is there.
    passage
        Else, the bytes that are to come.
    call
        What is taken down of the call; complete once the answer's end is reached.
    reader
        What was read of it.
    """

    def __init__(
        self,
        status: int,
        headers: Headers,
        call: Call | None = None,
        reader: AnswerReader | None = None,
        *,
        content: bytes | None = None,
        passage: Passage | None = None,
    ) -> None:
        self.status, self.headers, self.call, self.content = status, headers, call, content
        self.reader = reader or AnswerReader()
        self._passage = passage
        self._bytes = passage.bytes() if passage else _once(content or b"")
        self._begun = False

    @property
    def streamed(self) -> bool:
        """Whether the body comes bit by bit."""
        return self._passage is not None

    @property
    def text(self) -> str | None:
        """The answer's text for checks, None if it was too long to be kept or nothing was read."""
        return self.reader.text if self.reader.chunks and self.reader.text_whole else None

    @property
    def finished(self) -> bool:
        """Whether the whole of it came."""
        return self.status < 300 and self.call is not None and self.call.total_s is not None and not self.call.error

    def __aiter__(self) -> "UpstreamAnswer":
        """Return itself: the bytes come once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes."""
        self._begun = True
        return await anext(self._bytes)

    async def aclose(self) -> None:
        """End the call: the connection to the upstream closes at once if there is more to come."""
        if not self._begun and self._passage:
            await self._passage.abandon()
        await self._bytes.aclose()

    async def __aenter__(self) -> "UpstreamAnswer":
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self.aclose()


async def _once(content: bytes) -> AsyncGenerator[bytes, None]:
    if content:
        yield content
