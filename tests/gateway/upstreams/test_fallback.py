"""One LLM after the other until one answers, against scripted upstreams on real sockets."""

import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from email.utils import formatdate
from typing import Any

import pytest
from upstream_world import DONE, STREAM, Exchange, FakeUpstream, chat, chunk, completion, config

from symbiosis.core.errors import InputError
from symbiosis.gateway.upstreams.calls import Call
from symbiosis.gateway.upstreams.client import Upstreams
from symbiosis.gateway.upstreams.fallback import Served, ask

Script = Callable[[Exchange], Awaitable[None]]


def against(scripts: list[Any], use: Callable[..., Awaitable[Any]], **blocks: Any) -> Any:
    """Run against one upstream per entry: a script, or None where nobody listens."""

    async def run() -> Any:
        async with AsyncExitStack() as stack:
            fakes, addresses = [], []
            for script in scripts:
                if script is None:
                    free = stack.enter_context(socket.socket())
                    free.bind(("127.0.0.1", 0))  # bound and not listening: refused
                    addresses.append(f"http://127.0.0.1:{free.getsockname()[1]}/v1")
                    continue
                fakes.append(await stack.enter_async_context(FakeUpstream([script])))
                addresses.append(fakes[-1].address)
            upstreams = Upstreams(config(*addresses, **blocks))
            stack.push_async_callback(upstreams.aclose)
            return await use(upstreams, *fakes)

    return asyncio.run(run())


async def read(served: Served) -> bytes:
    async with served.answer as answer:
        return b"".join([part async for part in answer])


async def good(exchange: Exchange) -> None:
    if json.loads(exchange.body)["stream"]:
        await exchange.start()
        await exchange.stream(*STREAM)
    else:
        await exchange.answer(completion())


def status(line: str, body: bytes = b'{"error": {"message": "no"}}', **headers: str) -> Script:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body, line, **headers)

    return answer


async def hangs(exchange: Exchange) -> None:
    await asyncio.sleep(60)


async def dies(exchange: Exchange) -> None:
    exchange.kill()


async def dies_after_headers(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.stream(b": hello\n\n", chunk("x")[:9], end=False)
    await asyncio.sleep(0.02)
    exchange.kill()


FAILING = {
    "429": status("429 Too Many Requests"),
    "408": status("408 Request Timeout"),
    "500": status("500 Internal Server Error"),
    "503 without a body": status("503 Service Unavailable", b""),
    "the gateway's key": status("401 Unauthorized"),
    "redirect": status("307 Temporary Redirect", location="http://127.0.0.1:1/"),
    "refused": None,
    "hangs": hangs,
    "dies": dies,
    "empty": status("200 OK", b""),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failing", FAILING.values(), ids=FAILING)
def test_the_next_llm_answers(failing: Script | None, stream: bool) -> None:
    async def use(upstreams: Upstreams, *_: FakeUpstream) -> None:
        calls: list[Call] = []
        served = await ask(upstreams, ["a", "b"], chat(stream=stream), on_call=calls.append)
        body = await read(served)
        assert body == (b"".join(part for part in STREAM if b"usage" not in part) if stream else completion())
        assert served.llm == "b"
        assert [(call.llm, call.attempt) for call in calls] == [("a", 1), ("b", 2)]
        assert served.failed == calls[:1]
        assert calls[0].error
        assert calls[0].cost_usd is None
        assert calls[1].error is None
        assert calls[1].cost_usd
        assert [upstreams.observed.of(name).in_flight for name in "ab"] == [0, 0]

    against([failing, good], use)


def test_a_stream_that_dies_before_its_first_chunk_falls_back() -> None:
    async def use(upstreams: Upstreams, *_: FakeUpstream) -> None:
        served = await ask(upstreams, ["a", "b"], chat(stream=True))
        assert (await read(served)).endswith(DONE)
        assert served.llm == "b"

    against([dies_after_headers, good], use)


@pytest.mark.parametrize("line", ["400 Bad Request", "403 Forbidden", "404 Not Found", "422 Unprocessable Content"])
def test_errors_of_the_client_pass_untouched(line: str) -> None:
    body = b'{"error":  {"message": "too long", "code": "context_length_exceeded"}}'

    async def use(upstreams: Upstreams, _: FakeUpstream, other: FakeUpstream) -> None:
        for stream in (False, True):
            calls: list[Call] = []
            served = await ask(upstreams, ["a", "b"], chat(stream=stream), on_call=calls.append)
            assert (await read(served), served.llm, served.failed) == (body, "a", [])
            assert served.answer.status == int(line[:3])
            assert not served.answer.finished
            assert ("x-request-id", "r") in served.answer.headers
            assert [(call.error, call.usage) for call in calls] == [(None, None)]
        assert not other.requests
        assert upstreams.circuits()["a"] == "closed"

    against([status(line, body, x_request_id="r"), good], use)


def test_attempts_are_bounded_and_the_last_error_passes() -> None:
    async def use(upstreams: Upstreams, *fakes: FakeUpstream) -> None:
        served = await ask(upstreams, iter("abc"), chat())
        assert (served.llm, served.answer.status) == (None, 502)
        assert await read(served) == b"from b"
        assert [call.llm for call in served.failed] == ["a", "b"]
        assert not fakes[2].requests

    scripts = [status("500 Oops"), status("502 Bad Gateway", b"from b"), good]
    against(scripts, use, limits={"attempts": 2})


@pytest.mark.parametrize(
    ("failing", "expected", "says"),
    [
        (hangs, 504, "timeout"),
        (dies, 502, "broken"),
        (None, 502, "connection"),
        (status("401 Unauthorized", b'{"error": {"message": "wrong key sk-ab***cd"}}'), 502, "key was refused"),
    ],
)
def test_without_an_error_of_an_upstream_the_gateway_says_it(failing: Script | None, expected: int, says: str) -> None:
    async def use(upstreams: Upstreams, *_: FakeUpstream) -> None:
        served = await ask(upstreams, ["a"], chat())
        error = json.loads(await read(served))["error"]
        assert (served.answer.status, error["code"], error["type"]) == (expected, "upstream_failed", "upstream_error")
        assert says in error["message"]
        assert "sk-" not in error["message"]
        assert dict(served.answer.headers)["content-type"] == "application/json"

    against([failing], use)


@pytest.mark.parametrize("as_date", [False, True])
def test_an_llm_is_left_alone_for_as_long_as_it_asks(as_date: bool) -> None:
    pause = formatdate(time.time() + 90, usegmt=True) if as_date else "90"

    async def use(upstreams: Upstreams, storm: FakeUpstream, other: FakeUpstream) -> None:
        for _ in range(4):
            assert (await ask(upstreams, ["a", "b"], chat())).llm == "b"
        assert (len(storm.requests), len(other.requests)) == (1, 4)
        assert upstreams.circuits() == {"a": "open", "b": "closed"}
        served = await ask(upstreams, ["a"], chat())
        assert (served.answer.status, served.skipped) == (429, {"a": "circuit open"})
        assert 80 <= int(dict(served.answer.headers)["retry-after"]) <= 90
        assert json.loads(await read(served))["error"]["type"] == "rate_limit_error"

    against([status("429 Too Many Requests", retry_after=pause), good], use)


def test_the_pause_that_the_last_upstream_asks_for_reaches_the_client() -> None:
    async def use(upstreams: Upstreams, *_: FakeUpstream) -> None:
        served = await ask(upstreams, ["a"], chat())
        assert (served.answer.status, dict(served.answer.headers)["retry-after"]) == (429, "7")

    against([status("429 Too Many Requests", retry_after="7")], use)


def test_an_llm_that_keeps_failing_is_not_asked_until_one_query_shows_that_it_answers() -> None:
    healthy: list[bool] = []

    async def script(exchange: Exchange) -> None:
        await (good if healthy else status("500 Oops"))(exchange)

    async def use(upstreams: Upstreams, fake: FakeUpstream, _: FakeUpstream) -> None:
        for _ in range(5):
            assert (await ask(upstreams, ["a", "b"], chat())).llm == "b"
        assert len(fake.requests) == 3
        served = await ask(upstreams, ["a"], chat())
        assert (served.answer.status, json.loads(await read(served))["error"]["code"]) == (503, "circuit_open")
        assert "retry-after" in dict(served.answer.headers)
        healthy.append(True)
        await asyncio.sleep(0.11)
        probes = await asyncio.gather(*(ask(upstreams, ["a", "b"], chat()) for _ in range(5)))
        assert sorted(str(served.llm) for served in probes) == ["a", "b", "b", "b", "b"]
        assert upstreams.circuits()["a"] == "closed"

    against([script, good], use, breaker={"failures": 3, "window_s": 30, "open_s": 0.1})


def test_a_probe_that_the_client_leaves_lets_the_next_one_through() -> None:
    async def use(upstreams: Upstreams, fake: FakeUpstream) -> None:
        arm = upstreams.arms["a"]
        arm.breaker.failed()
        await asyncio.sleep(0.02)
        asking = asyncio.create_task(ask(upstreams, ["a"], chat()))
        while not fake.requests:
            await asyncio.sleep(0.001)
        assert not arm.breaker.available
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert arm.breaker.available

    against([hangs], use, breaker={"failures": 1, "window_s": 30, "open_s": 0.01})


def test_drained_and_unknown_llms_are_passed_over() -> None:
    async def use(upstreams: Upstreams, drained: FakeUpstream, _: FakeUpstream) -> None:
        upstreams.drain("a")
        served = await ask(upstreams, ["gone", "a", "b"], chat())
        assert (served.llm, served.skipped) == ("b", {"gone": "unknown", "a": "drained"})
        served = await ask(upstreams, ["a"], chat())
        assert (served.answer.status, json.loads(await read(served))["error"]["code"]) == (503, "no_llm")
        upstreams.drain("a", False)
        assert (await ask(upstreams, ["a"], chat())).llm == "a"
        with pytest.raises(InputError, match="there is no LLM 'gone'"):
            upstreams.drain("gone")

    against([good, good], use)


def test_a_new_config_keeps_circuits_and_calls_under_way() -> None:
    closed: list[bool] = []

    async def slow(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.stream(chunk("Hel"), end=False)
        await asyncio.sleep(0.05)
        await exchange.stream(chunk(finish="stop"), DONE)
        await exchange.until_closed()
        closed.append(True)

    async def use(upstreams: Upstreams, first: FakeUpstream, second: FakeUpstream) -> None:
        given = config(first.address, second.address, default="b")
        upstreams.arms["b"].breaker.failed(90)
        async with await upstreams.open("a", chat(stream=True)) as answer:
            upstreams.configure(given.with_upstreams(given.upstreams[1:]))
            await upstreams.close_retired()
            assert (await anext(answer), list(upstreams.arms)) == (chunk("Hel"), ["b"])
            assert b"".join([part async for part in answer]) == chunk(finish="stop") + DONE
        assert upstreams.circuits() == {"b": "open"}
        await upstreams.open("b", chat())
        assert closed

    against([slow, good], use, default="b")


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UP_KEY", raising=False)
    given = config("http://127.0.0.1:1/v1")
    wanting = given.with_upstreams([given.upstreams[0].model_copy(update={"key_env": "UP_KEY"})])
    with pytest.raises(InputError, match="'up-a' wants its key in the environment variable UP_KEY, which is not set"):
        Upstreams(wanting)
