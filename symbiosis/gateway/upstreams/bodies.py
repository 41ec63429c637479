"""Bytes of an answer with deadlines, and unpacked where an upstream packed them unasked."""

import asyncio
import math
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

import anyio
import httpx

PIECE = 1 << 18
"""Most bytes that are unpacked at once: a small packed answer can hold gigabytes."""
PROGRESS = 1 << 16
"""Bytes of a body that is no stream which must come within each idle time; a trickle is no progress."""
UNPACKED = ("gzip", "x-gzip", "deflate")


class CutOffError(Exception):
    """A body ended before its end, or too slowly (`late`); the message says how."""

    def __init__(self, message: str, *, late: bool = False) -> None:
        super().__init__(message)
        self.late = late


async def unpacked(packed: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Unpack gzip or deflate, piece by piece.

    Raises
    ------
    CutOffError
        It is neither, or ends before its end.
    """
    unpack = zlib.decompressobj(wbits=47)  # 32: gzip or zlib by its first bytes
    async for chunk in packed:
        while chunk:
            if unpack.eof:  # gzip may consist of several members
                unpack = zlib.decompressobj(wbits=47)
            try:
                piece = unpack.decompress(chunk, PIECE)
            except zlib.error as error:
                raise CutOffError("its compressed bytes are damaged") from error
            if piece:
                yield piece
            chunk = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
    if not unpack.eof:
        raise CutOffError("its compressed bytes end too early")


class Body:
    """The bytes of an answer; each read has to be done by a deadline.

    A timer for the whole body closes the connection under a read that is too late. A timeout around every read would
    take a quarter of the time that a stream's event costs here.

    Parameters
    ----------
    response
        Opened as a stream, nothing of it read.
    ends_at
        Time of the event loop at which the call must be over, if ever.
    """

    def __init__(self, response: httpx.Response, ends_at: float | None) -> None:
        self._response, self._ends_at = response, math.inf if ends_at is None else ends_at
        self.coding = response.headers.get("content-encoding", "identity").strip().lower()
        self.decoded = self.decodes(response)
        self.readable = self.decoded or self.coding in ("identity", "")
        """Whether the bytes that come out are those of the document; else they pass, but are not looked at."""
        raw = response.aiter_raw()
        self._chunks = unpacked(raw) if self.decoded else raw
        self._loop = asyncio.get_running_loop()
        self._deadline, self._late = math.inf, False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    @staticmethod
    def decodes(response: httpx.Response) -> bool:
        """Say whether the body is unpacked here."""
        return response.headers.get("content-encoding", "").strip().lower() in UNPACKED

    async def next(self, deadline: float) -> bytes:
        """Return the next bytes, none at the end.

        Parameters
        ----------
        deadline
            Time of the event loop.

        Raises
        ------
        CutOffError
            The connection broke, or nothing came in time.
        """
        self._deadline = min(deadline, self._ends_at)
        if self._timer is None or self._timer.when() > self._deadline:
            self._watch()
        try:
            chunk = await anext(self._chunks, b"")
        except (httpx.HTTPError, httpx.StreamError) as error:
            if not self._late:
                raise CutOffError(f"the connection broke ({type(error).__name__})") from error
            chunk = b""
        finally:
            self._deadline = math.inf  # while the client reads, nobody is late
        if self._late:
            raise CutOffError("it stalled", late=True)
        return chunk

    def _watch(self) -> None:
        """Look again when the present read is due; the timer of a read before may still run and is used then."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline:
            self._watch()
            return
        self._late = True
        self._closing = self._loop.create_task(self._response.extensions["network_stream"].aclose())

    async def read(self, limit: int, idle_s: float) -> tuple[bytes, bool]:
        """Read the whole body, or at least so many bytes of it.

        Returns
        -------
        bytes, bool
            What was read, and whether it is all.

        Raises
        ------
        CutOffError
            See `next`; also where less than `PROGRESS` bytes come within `idle_s`.
        """
        parts: list[bytes] = []
        size, due, deadline = 0, 0, 0.0
        while size <= limit:
            if size >= due:
                due, deadline = size + PROGRESS, self._loop.time() + idle_s
            chunk = await self.next(deadline)
            if not chunk:
                return b"".join(parts), True
            parts.append(chunk)
            size += len(chunk)
        return b"".join(parts), False

    async def aclose(self) -> None:
        """Close the connection if the body was not read to its end, also while the request is being cancelled."""
        if self._timer is not None:
            self._timer.cancel()
        with anyio.CancelScope(shield=True):
            if self._closing is not None:
                await self._closing
            await self._response.aclose()
