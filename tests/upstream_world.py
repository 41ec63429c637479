"""A scripted upstream on a real socket, for tests of calls and fallbacks."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.requests.chat import ChatRequest
from symbiosis.gateway.upstreams.calls import Call
from symbiosis.gateway.upstreams.client import Upstreams

USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}
LIMITS = {"connect_s": 1, "first_byte_s": 0.3, "answer_s": 0.3, "idle_s": 0.2}


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """An event of a stream as OpenAI writes it."""
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": choices} | more).encode() + b"\n\n"


def usage_chunk(usage: dict[str, Any] = USAGE) -> bytes:
    """The event with nothing but usage."""
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [], "usage": usage}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
STREAM = (chunk("Hel"), chunk("lo"), chunk(finish="stop"), usage_chunk(), DONE)


def completion(text: str = "Hello", **more: Any) -> bytes:
    """A whole answer, spaced as no serialiser of ours would."""
    message = {"role": "assistant", "content": text}
    document = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE} | more
    return json.dumps(document, indent=3).encode()


@dataclass
class Exchange:
    """One request that came in, and the connection to answer on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: dict[str, str]
    body: bytes
    connection: int

    async def send(self, *parts: bytes) -> None:
        """Write bytes as they are."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self, body: bytes, status: str = "200 OK", kind: str = "application/json", **headers: str) -> None:
        """Write a whole answer with its length."""
        lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = [f"HTTP/1.1 {status}", f"content-type: {kind}", f"content-length: {len(body)}", *lines]
        await self.send("\r\n".join([*head, "", ""]).encode() + body)

    async def start(self, *headers: str, kind: str = "text/event-stream") -> None:
        """Begin a chunked answer."""
        head = ["HTTP/1.1 200 OK", f"content-type: {kind}", "transfer-encoding: chunked", *headers]
        await self.send("\r\n".join([*head, "", ""]).encode())

    async def stream(self, *parts: bytes, end: bool = True) -> None:
        """Write parts of a chunked answer, each flushed by itself."""
        for part in parts:
            await self.send(b"%x\r\n%s\r\n" % (len(part), part))
            await asyncio.sleep(0)
        if end:
            await self.send(b"0\r\n\r\n")

    def kill(self) -> None:
        """Cut the connection off."""
        self.writer.transport.abort()

    async def until_closed(self) -> None:
        """Wait until the other side closes."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class FakeUpstream:
    """A server that answers each request with the next script, the last one again and again."""

    scripts: Sequence[Script]
    requests: list[Exchange] = field(default_factory=list)
    connections: int = 0
    address: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        self.address = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening and end what is under way."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        number = self.connections
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode().split("\r\n")[1:-2]
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                exchange = Exchange(reader, writer, headers, body, number)
                self.requests.append(exchange)
                await self.scripts[min(len(self.requests), len(self.scripts)) - 1](exchange)
                if writer.transport.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)


def config(*addresses: str, **blocks: Any) -> GatewayConfig:
    """One upstream and LLM per address: a, b, c ... of 1 USD per million prompt tokens, .5 cached, 2 of the answer."""
    names = "abcdefgh"[: len(addresses)]
    prices = {"price_prompt": 1, "price_cached": 0.5, "price_response": 2}
    upstreams = [
        {"name": f"up-{name}", "base_url": address, "llms": [{"name": name, "model": f"model-{name}", **prices}]}
        for name, address in zip(names, addresses, strict=True)
    ]
    given = {"default": "a", "upstreams": upstreams, "limits": LIMITS} | blocks
    return GatewayConfig.model_validate(given)


def chat(*, stream: bool = False, content: str = "Say hello", **more: Any) -> ChatRequest:
    """A request as a client sends it."""
    body = {"model": "auto", "messages": [{"role": "user", "content": content}], "stream": stream} | more
    return ChatRequest.parse(json.dumps(body).encode())


@dataclass
class Asked:
    """Everything that a client got, and the calls that were taken down."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    calls: list[Call]


async def open_and_read(upstreams: Upstreams, request: ChatRequest, llm: str = "a", headers: Any = ()) -> Asked:
    """Open an answer and read it to its end."""
    calls: list[Call] = []
    assert upstreams.arms[llm].breaker.admit()
    async with await upstreams.open(llm, request, headers, on_call=calls.append) as answer:
        body = b"".join([part async for part in answer])
    return Asked(answer.status, answer.headers, body, calls)
