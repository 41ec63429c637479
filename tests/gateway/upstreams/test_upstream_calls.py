"""Calls of one LLM over real sockets: what passes, and what breaks."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from upstream_world import (
    DONE,
    STREAM,
    Exchange,
    FakeUpstream,
    chat,
    chunk,
    completion,
    config,
    open_and_read,
    usage_chunk,
)

from symbiosis.gateway.upstreams.client import Upstreams
from symbiosis.gateway.upstreams.failures import BrokenAnswer, UpstreamError

Use = Callable[[Upstreams, FakeUpstream], Awaitable[Any]]
WITH_USAGE = {"stream_options": {"include_usage": True}}


def against(*scripts: Any, use: Use, **blocks: Any) -> Any:
    """Run against an upstream that answers by these scripts."""

    async def run() -> Any:
        async with FakeUpstream(scripts) as fake:
            upstreams = Upstreams(config(fake.address, **blocks))
            try:
                return await use(upstreams, fake)
            finally:
                await upstreams.aclose()

    return asyncio.run(run())


async def whole(exchange: Exchange) -> None:
    await exchange.answer(completion())


async def streamed(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.stream(*STREAM)


def test_an_answer_passes_byte_for_byte_with_its_headers_and_usage() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(completion(), x_request_id="r1", openai_processing_ms="7", x_where="Zürich →", server="x")

    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(unknown={"kept": [1]}))
        assert got.body == completion()
        assert (got.status, dict(got.headers)) == (
            200,
            {
                "content-type": "application/json",
                "x-request-id": "r1",
                "openai-processing-ms": "7",
                "x-where": "Zürich →".encode().decode("latin-1"),  # servers write latin-1: the same bytes again
            },
        )
        sent = json.loads(fake.requests[0].body)
        assert (sent["model"], sent["unknown"]) == ("model-a", {"kept": [1]})
        (call,) = got.calls
        assert (call.llm, call.upstream, call.attempt, call.status, call.error) == ("a", "up-a", 1, 200, None)
        assert call.usage is not None
        assert (call.usage.prompt_tokens, call.usage.cached_tokens, call.usage.response_tokens) == (12, 4, 5)
        assert not call.usage.estimated
        assert call.cost_usd == pytest.approx((8 * 1 + 4 * 0.5 + 5 * 2) / 1e6)
        assert upstreams.observed.of("a").in_flight == 0

    against(answer, use=use)


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_passes_byte_for_byte_but_usage_only_if_asked(asked: bool) -> None:
    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True, **(WITH_USAGE if asked else {})))
        assert got.body == b"".join(part for part in STREAM if asked or part != usage_chunk())
        assert json.loads(fake.requests[0].body)["stream_options"] == {"include_usage": True}
        (call,) = got.calls
        assert call.usage is not None
        assert (call.usage.response_tokens, call.usage.estimated, call.error) == (5, False, None)
        assert call.first_token_s is not None
        assert call.total_s is not None
        assert 0 < call.first_token_s <= call.total_s

    against(streamed, use=use)


def test_each_event_passes_before_the_next_is_there() -> None:
    gate: list[asyncio.Event] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        for part in STREAM:
            await exchange.stream(part, end=False)
            await gate[0].wait()
            gate[0].clear()
        await exchange.stream()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        gate.append(asyncio.Event())
        seen = []
        async with await upstreams.open("a", chat(stream=True, **WITH_USAGE)) as passed:
            async for part in passed:
                seen.append(part)
                gate[0].set()
        assert seen == list(STREAM)
        assert passed.text == "Hello"
        assert passed.finished

    against(answer, use=use)


def test_without_usage_tokens_are_estimated_and_said_to_be() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(chunk("x" * 10), chunk(finish="stop"), DONE)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        (call,) = (await open_and_read(upstreams, chat(stream=True, content="y" * 9))).calls
        assert call.usage is not None
        assert (call.usage.prompt_tokens, call.usage.response_tokens, call.usage.estimated) == (3, 3, True)
        assert call.cost_usd == pytest.approx((3 * 1 + 3 * 2) / 1e6)

    against(answer, use=use)


def test_a_killed_stream_ends_with_an_error_event_and_without_done() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(chunk("Hel"), chunk("lo")[:20], end=False)
        await asyncio.sleep(0.02)
        exchange.kill()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True))
        assert got.body.startswith(chunk("Hel") + b'data: {"error": ')
        error = json.loads(got.body[len(chunk("Hel")) + 6 :])["error"]
        assert (error["code"], error["type"]) == ("upstream_broken", "upstream_error")
        (call,) = got.calls
        assert call.error is not None
        assert call.error.startswith("broken")
        assert call.usage is not None
        assert call.usage.estimated

    against(answer, use=use)


def test_a_stream_that_ends_without_its_end_is_broken_too() -> None:
    """A body without length or chunks ends when the connection closes: a crash looks like an end."""

    async def answer(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", chunk("Hel"))
        exchange.writer.close()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True))
        assert b"upstream_broken" in got.body
        assert DONE not in got.body

    against(answer, use=use)


def test_a_stream_that_breaks_after_done_was_whole() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(*STREAM, end=False)
        await asyncio.sleep(0.02)
        exchange.kill()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True, **WITH_USAGE))
        assert got.body == b"".join(STREAM)
        assert got.calls[0].error is None

    against(answer, use=use)


def test_a_trickle_of_bytes_is_no_progress() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(chunk("Hel"), end=False)
        for byte in b"data: " + b"x" * 100:
            await exchange.stream(bytes([byte]), end=False)
            await asyncio.sleep(0.05)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True))
        assert b"it stalled" in got.body
        assert DONE not in got.body

    against(answer, use=use)


@pytest.mark.parametrize("stream", [True, False])
def test_headers_that_trickle_are_too_late(stream: bool) -> None:
    async def answer(exchange: Exchange) -> None:
        for byte in b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n":
            await exchange.send(bytes([byte]))
            await asyncio.sleep(0.05)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        with pytest.raises(UpstreamError, match="no answer in time"):
            await open_and_read(upstreams, chat(stream=stream))

    against(answer, use=use)


def test_comments_that_keep_alive_are_not_the_first_byte() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        for _ in range(20):
            await exchange.stream(b": PROCESSING\n\n", end=False)
            await asyncio.sleep(0.05)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        with pytest.raises(UpstreamError, match="stalled"):
            await open_and_read(upstreams, chat(stream=True))

    against(answer, use=use)


GARBAGE = b'data: {"half\n\n\x00\xff\xfe no event\r\n\r\ndata: 7\n\nevent: x\n\ndata: {"choices": 1}\n\n' + b"end"


def test_garbage_passes_untouched_and_is_counted() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(*(GARBAGE[at : at + 3] for at in range(0, len(GARBAGE), 3)))

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        async with await upstreams.open("a", chat(stream=True)) as answered:
            assert b"".join([part async for part in answered]) == GARBAGE
        assert answered.reader.garbage == 4  # half, no event, 7, end
        assert answered.text is None

    against(answer, use=use)


def test_a_client_that_leaves_closes_the_connection_at_once() -> None:
    closed: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(chunk("Hel"), end=False)
        await exchange.until_closed()
        closed.append(True)

    async def iterating(upstreams: Upstreams, fake: FakeUpstream) -> None:
        calls: list[Any] = []
        answered = await upstreams.open("a", chat(stream=True), on_call=calls.append)
        assert await anext(answered) == chunk("Hel")
        waiting = asyncio.ensure_future(anext(answered))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await answered.aclose()
        await _until(closed)
        assert calls[0].error == "client: left before the end"
        assert upstreams.circuits() == {"a": "closed"}
        assert upstreams.observed.of("a").in_flight == 0

    async def before_iterating(upstreams: Upstreams, fake: FakeUpstream) -> None:
        await (await upstreams.open("a", chat(stream=True))).aclose()
        await _until(closed)
        assert upstreams.observed.of("a").in_flight == 0

    for use in (iterating, before_iterating):
        closed.clear()
        against(answer, use=use)


def test_a_client_that_leaves_while_it_waits_closes_the_connection_at_once() -> None:
    closed: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        await exchange.until_closed()
        closed.append(True)

    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        calls: list[Any] = []
        opening = asyncio.create_task(upstreams.open("a", chat(), on_call=calls.append))
        while not fake.requests:
            await asyncio.sleep(0.001)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await _until(closed)
        assert [call.error for call in calls] == ["client: left before the end"]
        assert upstreams.observed.of("a").in_flight == 0

    against(answer, use=use, limits={"answer_s": 30})


def test_a_cancelled_request_closes_its_connection_wherever_it_is() -> None:
    """Servers cancel by a scope in which every further wait is cancelled too, closing included."""
    closed: list[bool] = []

    async def answer(exchange: Exchange) -> None:
        if b"silent" not in exchange.body:
            await exchange.start()
            await exchange.stream(chunk("Hel"), end=False)
        await exchange.until_closed()
        closed.append(True)

    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        async def serve(word: str) -> None:
            async with await upstreams.open("a", chat(stream=True, content=word)) as answered:
                async for _ in answered:
                    if word == "sending":
                        await anyio.sleep_forever()

        for number, word in enumerate(("silent", "reading", "sending"), 1):
            async with anyio.create_task_group() as group:
                group.start_soon(serve, word)
                while len(fake.requests) < number:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.02)
                group.cancel_scope.cancel()
            await _until(closed)
            closed.clear()
            assert upstreams.observed.of("a").in_flight == 0

    against(answer, use=use)


def test_an_error_that_the_upstream_sends_midway_passes_and_counts() -> None:
    error = b'data: {"error": {"message": "overloaded", "code": 529}}\n\n'

    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(chunk("Hel"), error)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True))
        assert got.body == chunk("Hel") + error
        assert [call.error for call in got.calls] == ["error: overloaded"]
        assert upstreams.circuits() == {"a": "open"}

    against(answer, use=use, breaker={"failures": 1, "window_s": 9, "open_s": 9})


def test_a_stream_of_another_kind_passes_as_it_is_and_is_cut_off_if_it_breaks() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start(kind="application/x-ndjson")
        await exchange.stream(b'{"a": 1}\n', b'{"b"', end=False)
        await asyncio.sleep(0.02)
        exchange.kill()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        seen = []
        async with await upstreams.open("a", chat(stream=True)) as answered:
            with pytest.raises(BrokenAnswer, match="the answer of a broke: the connection broke"):  # noqa: PT012
                async for part in answered:
                    seen.append(part)  # noqa: PERF401 - kept although the last one fails
        assert b"".join(seen) == b'{"a": 1}\n{"b"'

    against(answer, use=use)


def test_a_json_answer_to_a_wish_for_a_stream_passes_whole() -> None:
    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True))
        assert got.body == completion()
        assert got.calls[0].usage is not None
        assert got.calls[0].usage.response_tokens == 5

    against(whole, use=use)


def test_a_call_as_a_whole_can_be_limited() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start()
        for _ in range(100):
            await exchange.stream(chunk("x"), end=False)
            await asyncio.sleep(0.02)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True))
        assert b"upstream_broken" in got.body
        assert got.body.count(b"choices") < 50

    against(answer, use=use, limits={"total_s": 0.2})


async def _until(happened: list[bool]) -> None:
    async with asyncio.timeout(5):
        while not happened:
            await asyncio.sleep(0.001)


def test_an_answer_cut_in_half_never_reaches_the_client() -> None:
    async def answer(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"
        await exchange.send(head, completion()[:50])
        await asyncio.sleep(0.02)
        exchange.kill()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        with pytest.raises(UpstreamError, match="broken: the connection broke"):
            await open_and_read(upstreams, chat())

    against(answer, use=use)


def test_an_answer_of_ten_megabytes_passes_as_it_comes_with_its_usage() -> None:
    long = completion("x" * (10 << 20))

    async def answer(exchange: Exchange) -> None:
        assert len(exchange.body) > 10 << 20
        await exchange.answer(long)

    async def cut(exchange: Exchange) -> None:
        await exchange.start(kind="application/json")
        await exchange.stream(long[: 9 << 20], end=False)
        await asyncio.sleep(0.02)
        exchange.kill()

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        request = chat(content="x" * (10 << 20))
        async with await upstreams.open("a", request) as answered:
            assert answered.streamed
            assert b"".join([part async for part in answered]) == long
        assert answered.call is not None
        assert answered.call.usage is not None
        assert (answered.call.usage.response_tokens, answered.call.usage.estimated) == (5, False)
        assert answered.text is None
        with pytest.raises(BrokenAnswer):
            await open_and_read(upstreams, chat())

    against(answer, cut, use=use, limits={"answer_s": 30, "idle_s": 30})


def _packed(data: bytes, coding: str) -> bytes:
    return gzip.compress(data) if coding == "gzip" else zlib.compress(data)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_an_upstream_packs_unasked_is_unpacked(coding: str) -> None:
    async def packed_stream(exchange: Exchange) -> None:
        assert exchange.headers["accept-encoding"] == "identity"
        packed = _packed(b"".join(STREAM), coding)
        await exchange.start(f"content-encoding: {coding}")
        await exchange.stream(*(packed[at : at + 7] for at in range(0, len(packed), 7)))

    async def packed_whole(exchange: Exchange) -> None:
        await exchange.answer(_packed(completion(), coding), content_encoding=coding)

    async def cut(exchange: Exchange) -> None:
        await exchange.answer(_packed(completion(), coding)[:-3], content_encoding=coding)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        got = await open_and_read(upstreams, chat(stream=True, **WITH_USAGE))
        assert got.body == b"".join(STREAM)
        assert "content-encoding" not in dict(got.headers)
        assert (await open_and_read(upstreams, chat())).body == completion()
        with pytest.raises(UpstreamError, match="compressed bytes end too early"):
            await open_and_read(upstreams, chat())

    against(packed_stream, packed_whole, cut, use=use)


def test_a_coding_that_is_not_known_passes_as_it_is() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(b"\x01\x02\x03\x04", content_encoding="br")

    async def stream(exchange: Exchange) -> None:
        await exchange.start("content-encoding: br")
        await exchange.stream(b"\x01\x02", b"\x03\x04")

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        for request in (chat(), chat(stream=True)):
            got = await open_and_read(upstreams, request)
            assert (got.body, dict(got.headers)["content-encoding"]) == (b"\x01\x02\x03\x04", "br")
            assert got.calls[0].usage is not None
            assert got.calls[0].usage.estimated

    against(answer, stream, use=use)


@pytest.mark.parametrize("in_the_race", [False, True])
def test_a_pooled_connection_that_the_upstream_closed_is_no_failure(in_the_race: bool) -> None:
    async def whole_then_close(exchange: Exchange) -> None:
        await exchange.answer(completion())
        if not in_the_race:
            exchange.writer.close()

    async def close_at_once(exchange: Exchange) -> None:
        if exchange.connection == 1:  # the request was sent already when the connection goes
            exchange.kill()
        else:
            await exchange.answer(completion())

    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        calls = (await open_and_read(upstreams, chat())).calls
        await asyncio.sleep(0.01)
        calls += (await open_and_read(upstreams, chat())).calls
        assert [call.error for call in calls] == [None, None]
        assert (fake.connections, len(fake.requests)) == (2, 3 if in_the_race else 2)

    against(whole_then_close, close_at_once, use=use)


def test_connections_are_used_again() -> None:
    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        for request in (chat(), chat(stream=True), chat()):
            await open_and_read(upstreams, request)
        assert fake.connections == 1

    against(whole, streamed, whole, use=use)


@pytest.mark.parametrize(
    ("body", "kind", "stream"),
    [
        (b"", "application/json", False),
        (b"  \n", "application/json", False),
        (b"", "text/event-stream", True),
        (DONE, "text/event-stream", True),
        (b": nothing\n\n", "text/event-stream", True),
        (b"<html>", "text/html", False),
        (b'{"error": {"message": "overloaded"}}', "application/json", False),
        (b'data: {"error": {"message": "overloaded"}}\n\n', "text/event-stream", True),
    ],
)
def test_a_success_with_nothing_in_it_is_a_failure(body: bytes, kind: str, stream: bool) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body, kind=kind)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        with pytest.raises(UpstreamError, match="nothing in it|no completion|overloaded"):
            await open_and_read(upstreams, chat(stream=stream))

    against(answer, use=use)


def test_headers_of_the_client_that_are_its_own_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UP_KEY", "sk-upstream")

    async def use(_: Upstreams, fake: FakeUpstream) -> None:
        given = config(fake.address)
        upstream = given.upstreams[0].model_copy(update={"key_env": "UP_KEY"})
        upstreams = Upstreams(given.with_upstreams([upstream]))
        client = {"Authorization": "Bearer sym-secret", "Cookie": "c", "OpenAI-Organization": "org", "X-Api-Key": "k"}
        await open_and_read(upstreams, chat(), headers=client | {"X-Request-ID": "r", "traceparent": "00-1", "Te": "x"})
        sent = fake.requests[-1].headers
        assert sent["authorization"] == "Bearer sk-upstream"
        assert (sent["x-request-id"], sent["traceparent"]) == ("r", "00-1")
        assert not {"cookie", "openai-organization", "x-api-key", "te"} & set(sent)
        await upstreams.aclose()

    against(whole, use=use)


def test_the_environments_proxy_never_catches_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    async def use(upstreams: Upstreams, _: FakeUpstream) -> None:
        assert (await open_and_read(upstreams, chat())).status == 200
        elsewhere = Upstreams(config("http://upstream.invalid/v1"))
        with pytest.raises(UpstreamError, match="no connection"):
            await open_and_read(elsewhere, chat())
        await elsewhere.aclose()

    against(whole, use=use)


def test_an_upstream_that_refuses_stream_options_is_not_asked_again() -> None:
    async def refuse(exchange: Exchange) -> None:
        assert b"stream_options" in exchange.body
        await exchange.answer(b'{"error": {"message": "unknown field stream_options"}}', "400 Bad Request")

    async def plain(exchange: Exchange) -> None:
        assert b"stream_options" not in exchange.body
        await streamed(exchange)

    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        for _ in range(2):
            got = await open_and_read(upstreams, chat(stream=True))
            assert [call.error for call in got.calls] == [None]
        assert len(fake.requests) == 3

    against(refuse, plain, use=use)
