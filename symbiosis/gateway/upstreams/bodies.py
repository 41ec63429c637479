"""Bytes of an answer with deadlines, and unpacked where an upstream packed them unasked."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator

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

    Parameters
    ----------
    response
        Opened as a stream, nothing of it read.
    ends_at
        Time of the event loop at which the call must be over, if ever.
    """

    def __init__(self, response: httpx.Response, ends_at: float | None) -> None:
        self._response, self._ends_at = response, ends_at
        self.coding = response.headers.get("content-encoding", "identity").strip().lower()
        self.decoded = self.decodes(response)
        self.readable = self.decoded or self.coding in ("identity", "")
        """Whether the bytes that come out are those of the document; else they pass, but are not looked at."""
        raw = response.aiter_raw()
        self._chunks = unpacked(raw) if self.decoded else raw

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
        if self._ends_at is not None:
            deadline = min(deadline, self._ends_at)
        try:
            async with asyncio.timeout_at(deadline):
                return await anext(self._chunks, b"")
        except TimeoutError as error:
            raise CutOffError("it stalled", late=True) from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise CutOffError(f"the connection broke ({type(error).__name__})") from error

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
        loop = asyncio.get_running_loop()
        parts: list[bytes] = []
        size, due, deadline = 0, 0, 0.0
        while size <= limit:
            if size >= due:
                due, deadline = size + PROGRESS, loop.time() + idle_s
            chunk = await self.next(deadline)
            if not chunk:
                return b"".join(parts), True
            parts.append(chunk)
            size += len(chunk)
        return b"".join(parts), False

    async def aclose(self) -> None:
        """Close the connection if the body was not read to its end."""
        await self._response.aclose()
