"""Targets of the gateway: its config, what clients send, what upstreams answer, and its door as a whole."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from bench.fuzzing.trying import Target, use_test_worlds

CHAT: dict[str, Any] = {
    "model": "auto",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}],
    "stream": True,
    "stream_options": {"include_usage": False},
    "max_tokens": 5,
    "n": 1,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "response_format": {"type": "json_object"},
}
PARTS: dict[str, Any] = {
    "model": "auto:cheapest",
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": ""}}]},
        {"role": "tool", "content": "7", "tool_call_id": "1"},
    ],
}
RECOMMEND: dict[str, Any] = {
    "user": "Ann",
    "session": ["B1"],
    "text": "glove",
    "text_weight": 2.0,
    "count": 3,
    "allowed": ["B0", "B1"],
    "excluded": ["B2"],
    "brands": ["x"],
    "categories": ["Garden"],
    "price_from": 0,
    "price_to": 9.5,
    "repeat_purchases": True,
    "per_brand_limit": 1,
}
COMPLETION = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
}
LLM = {"name": "m", "price_prompt": 1.0, "price_response": 2.0}
CONFIG: dict[str, Any] = {
    "listen": {"port": 8080, "workers": 1},
    "mode": "apply",
    "share": 0.5,
    "default": "m",
    "upstreams": [{"name": "u", "base_url": "http://127.0.0.1:9/v1", "key_env": "KEY", "llms": [LLM]}],
    "policies": {"cheapest": {"trade_off": 0}, "quick": {"deadline_s": 5}},
    "checks": [{"name": "c", "kind": "regex", "pattern": "^a+$"}, {"name": "d", "kind": "json_schema", "schema": {}}],
    "keys": {"required": False},
    "limits": {"attempts": 2},
    "store": "sqlite:///x.db",
}


def config(folder: Path) -> Target:
    """Read gateway.yaml, check it, and compile what it names."""
    import yaml

    from symbiosis.gateway.config import reading
    from symbiosis.gateway.requests.checks import Checks
    from symbiosis.gateway.requests.policies import Policies

    def read(content: bytes) -> None:
        path = folder / "gateway.yaml"
        path.write_bytes(content)
        found = reading.load(path)
        reading.check(found, ["m", "other"], {})
        Policies(found.policies)
        checks = Checks(found.checks)
        for _, judge in checks._checks:
            judge("aaaaaaaaaaaaaaaaaaaaaaaa!")
            judge('{"a": 1}')

    text = yaml.safe_dump(CONFIG)
    schema = {"type": "object", "properties": {"a": {"pattern": "^x"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}}
    checks = [{"name": "e", "kind": "json_schema", "schema": schema, "when": {"policy": "cheapest"}}]
    seeds = [json.dumps(CONFIG).encode(), text.encode(), json.dumps({"checks": checks, "share": 1}).encode()]
    return Target(read, seeds, "json")


def requests(folder: Path) -> Target:
    """Read bodies of chat completions, feedback and recommendations, as the endpoints do."""
    from pydantic import ValidationError

    from symbiosis.gateway.recommending.body import RecommendationBody
    from symbiosis.gateway.requests.chat import BadRequest, ChatRequest
    from symbiosis.gateway.service.endpoints import FeedbackBody
    from symbiosis.routing.serving.inputs import checked

    del folder

    def read(content: bytes) -> None:
        first, _, body = content.partition(b"\n")
        if first == b"chat":
            _read_chat(ChatRequest.parse(body))
            return
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return
        if first == b"feedback":
            told = FeedbackBody.model_validate(document)
            checked(told.decision, told.quality, told.response_tokens, told.satisfied)
        else:
            RecommendationBody.model_validate(document).request()

    def _read_chat(chat: ChatRequest) -> None:
        chat.text.encode()
        _ = chat.needs, chat.responses, chat.maximum_tokens, chat.inside_tool_loop
        for header in (None, "talk\udcff"):
            chat.conversation(header, "key")
        for include in (False, True):
            json.loads(chat.for_upstream("other", include))

    bodies = [("chat", CHAT), ("chat", PARTS), ("recommendations", RECOMMEND)]
    bodies += [("feedback", {"decision": "d", "quality": 0.5, "response_tokens": 3.0})]
    bodies += [("feedback", {"decision": "d", "satisfied": True})]
    seeds = [f"{name}\n{json.dumps(body)}".encode() for name, body in bodies]
    return Target(read, seeds, "named", refuses=(BadRequest, ValidationError), several_lines=True)


class _Bytes(httpx.AsyncByteStream):
    """A body that comes in pieces."""

    def __init__(self, content: bytes, piece: int) -> None:
        self.content, self.piece = content, piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.content), self.piece):
            yield self.content[start : start + self.piece]


def answer_of(content: bytes) -> httpx.Response:
    """Return what an upstream answers: a line with the status and headers between ``|``, then the body."""
    first, _, body = content.partition(b"\n")
    told, *lines = first.split(b"|")
    status = int(told) if told.isdigit() and 200 <= int(told) <= 599 else 200
    headers = [(name.strip(), value.strip()) for name, _, value in (line.partition(b":") for line in lines) if name]
    return httpx.Response(status, headers=headers, stream=_Bytes(body, 7 if len(body) < 4_000 else 1_000))


def _stream(*documents: object, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in documents) + end


ANSWERS = (
    b"200|content-type: application/json\n" + json.dumps(COMPLETION).encode(),
    b"200|content-type: text/event-stream\n: hello\n\n"
    + _stream(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "H"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]},
        {"choices": [{"index": 0, "delta": {"reasoning": "r"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2.0, "prompt_cache_hit_tokens": 1}},
    ),
    b"429|retry-after: Wed, 21 Oct 2026 07:28:00 GMT|connection: close\n" + b'{"error": {"message": "m"}}',
    b"503|retry-after-ms: 20\n",
    b"400|content-type: application/json|x-a: b\n" + b'{"error": "stream_options"}',
    b"200|content-encoding: gzip\n\x1f\x8b\x08\x00",
    b'200|content-type: text/event-stream\nevent: error\r\ndata: {"error": {"message": "m", "code": 7}}\r\n\r\n',
)


def upstreams(folder: Path) -> Target:
    """Read answers of upstreams: statuses, headers, JSON, streams of events, usage, errors; a second LLM is asked."""
    from symbiosis.gateway.config.schema import GatewayConfig
    from symbiosis.gateway.requests.chat import ChatRequest
    from symbiosis.gateway.upstreams.breaker import CircuitBreaker
    from symbiosis.gateway.upstreams.client import Upstreams
    from symbiosis.gateway.upstreams.failures import BrokenAnswer
    from symbiosis.gateway.upstreams.fallback import ask

    del folder
    limits = dict.fromkeys(("connect_s", "first_byte_s", "answer_s", "idle_s"), 2)
    other = {**LLM, "name": "n"}
    upstream = {"name": "u", "base_url": "http://127.0.0.1:9/v1", "llms": [LLM, other]}
    given = {"upstreams": [upstream], "default": "m", "limits": limits, "breaker": {"failures": 10**9}}
    read_config = GatewayConfig.model_validate(given)
    chats = [ChatRequest.parse(json.dumps({**CHAT, "stream": stream}).encode()) for stream in (False, True)]
    loop = asyncio.new_event_loop()

    found = Upstreams(read_config)
    present = [b""]
    for arm in found.arms.values():
        arm.connections.client = httpx.AsyncClient(transport=httpx.MockTransport(lambda _: answer_of(present[0])))

    async def passed(content: bytes, chat: ChatRequest) -> None:
        present[0] = content
        for arm in found.arms.values():
            arm.tells_usage, arm.breaker = True, CircuitBreaker(read_config.breaker)
        try:
            served = await ask(found, ["m", "n"], chat, [("x-request-id", "1")], on_call=lambda _: None)
            async with served.answer as answer:
                size = len(b"".join([part async for part in answer]))
                assert answer.content is None or size == len(answer.content)
                _ = answer.text, answer.finished
                for name, value in answer.headers:
                    name.encode("latin-1"), value.encode("latin-1")
        except BrokenAnswer:
            pass

    def read(content: bytes) -> None:
        for chat in chats:
            loop.run_until_complete(passed(content, chat))

    def close() -> None:
        loop.run_until_complete(found.aclose())
        loop.close()

    return Target(read, ANSWERS, "named", close=close)


class FaultOfGateway(Exception):  # noqa: N818
    """The gateway answered with something else than a result or a problem in our form."""


PATHS = {
    "chat": "/v1/chat/completions",
    "route": "/v1/route",
    "feedback": "/v1/feedback",
    "recommendations": "/v1/recommendations",
    "admin": "/admin/keys",
}


def door(folder: Path) -> Target:
    """Send any bytes to the endpoints of a gateway in this process, whose upstream answers at once.

    An input's first line says whereto, and may add a query and headers: ``feedback?a=b|idempotency-key: 7``.
    """
    from starlette.testclient import TestClient

    use_test_worlds()
    import gateway_world
    from recommender_world import write_recommender

    from symbiosis.gateway.config.reading import load
    from symbiosis.gateway.service.app import application

    project = gateway_world.write_folder(folder / "gateway")
    write_recommender(project / "bundle")
    written = gateway_world.write_config(
        project,
        "http://127.0.0.1:9/v1",
        policies={"cheapest": {"trade_off": 0}, "quick": {"deadline_s": 5}},
        recommender={"folder": str(project / "bundle")},
        state=str(project / ".router"),
        breaker={"failures": 10**9},
    )
    app = application(load(written))
    client = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False, follow_redirects=False)
    with contextlib.chdir(project):  # where the router is looked for
        client.__enter__()
        gateway = app.state.gateway
        while not gateway.recommending.described()["ready"]:
            time.sleep(0.05)
    transport = httpx.MockTransport(lambda _: answer_of(ANSWERS[0]))
    for arm in gateway.upstreams.arms.values():
        arm.connections.client = httpx.AsyncClient(transport=transport)

    def read(content: bytes) -> None:
        first, _, body = content.partition(b"\n")
        whereto, *lines = first.decode("latin-1").split("|")
        name, _, query = whereto.partition("?")
        path = PATHS.get(name, f"/v1/{quote(name[:200])}")
        headers = {"content-type": "application/json"}
        headers |= {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        try:
            answer = client.post(path, params=quote(query, "=&") or None, headers=headers, content=body)
        except UnicodeError:
            return  # a header that no client can send
        if answer.status_code < 400:
            return
        if not 400 <= answer.status_code < 500:
            raise FaultOfGateway(f"{name}: status {answer.status_code}: {answer.text[:200]}")
        try:
            message = answer.json()["error"]["message"]
        except (ValueError, KeyError, TypeError):
            raise FaultOfGateway(f"{name}: status {answer.status_code} is no problem: {answer.text[:200]}") from None
        if not isinstance(message, str) or "\n" in message or len(message) > 5_000:
            raise FaultOfGateway(f"{name}: message {message!r:.200}")

    bodies = [("chat", CHAT), ("chat", PARTS), ("route", {**CHAT, "store": False}), ("recommendations", RECOMMEND)]
    bodies += [("feedback|idempotency-key: 7", {"decision": "d", "quality": 0.5}), ("recommendations", {"text": "tea"})]
    seeds = [f"{name}\n{json.dumps(body)}".encode() for name, body in bodies]
    return Target(read, seeds, "named", close=lambda: client.__exit__(None, None, None))
