"""The benchmark of the gateway runs at a tiny size; how long anything takes is not asserted."""

import asyncio
import json

import pytest

from bench import gateway_load
from bench.gateway_load import POOL, Job, requests_of, texts


def test_texts_that_were_seen_come_again_and_new_ones_never() -> None:
    seen = list(texts(Job("http://h/v1", ["a"], requests=2 * POOL)))
    assert seen[:POOL] == seen[POOL:]
    assert seen == list(texts(Job("http://h/v1", ["a"], requests=2 * POOL, seed=5)))
    new = list(texts(Job("http://h/v1", ["a"], seen=False, requests=100, seed=1)))
    assert len(set(new)) == 100
    assert not set(new) & set(texts(Job("http://h/v1", ["a"], seen=False, requests=100, seed=2)))
    assert {len(text.split()) for text in [*seen, *new]} == {gateway_load.WORDS}


def test_models_are_asked_in_turn() -> None:
    job = Job("http://127.0.0.1:1/v1/chat/completions", ["a", "b"], stream=True, requests=3)
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in requests_of(job)]
    assert [body["model"] for body in bodies] == ["a", "b", "a"]
    assert all(body["stream"] for body in bodies)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (b'HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{"choices":[]}', 0),
        (b'HTTP/1.1 503 No\r\ncontent-length: 14\r\n\r\n{"choices":[]}', 4),
        (b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\n{"choices":[]}\r\n0\r\n\r\n', 0),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 4),
    ],
)
def test_answers_are_read_to_their_end_and_failures_counted(answer: bytes, failed: int) -> None:
    async def measured() -> gateway_load.Times:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()

        async def until_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await serve(reader, writer)
            except asyncio.IncompleteReadError:
                writer.close()

        server = await asyncio.start_server(until_gone, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            job = Job(f"http://127.0.0.1:{port}/v1/chat/completions", ["a"], requests=4, concurrency=2, words=3)
            return await gateway_load.asked(job)

    times = asyncio.run(measured())
    assert times.failed == failed
    assert 0 < times.first_p50_ms <= times.p50_ms <= times.p99_ms
