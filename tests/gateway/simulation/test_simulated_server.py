"""The simulated upstreams over HTTP: OpenAI's own client, and every fault as it reaches a client."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from symbiosis.core.errors import InputError
from symbiosis.gateway.simulation import running
from symbiosis.gateway.simulation.server import QUALITY_HEADER, Simulation

PROMPT: Any = [{"role": "user", "content": "Reverse a list in Python"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation.open(Path("no/data/here"), speed=float("inf"))


@pytest.fixture(scope="module")
def address(simulation: Simulation) -> Iterator[str]:
    with running.in_thread(simulation) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(scope="module")
def web(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=PATIENCE_S) as client:
        yield client


def ask(web: httpx.Client, fault: str = "", **changes: Any) -> httpx.Response:
    body = {"model": "forge-34b", "messages": PROMPT} | changes
    return web.post("chat/completions", json=body, headers={"x-simulate-fault": fault} if fault else {})


def test_a_completion_tells_its_quality_and_usage(client: openai.OpenAI, simulation: Simulation) -> None:
    for model in simulation.llms:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=PROMPT)
        expected = simulation.book.answer(model, "Reverse a list in Python")
        assert float(raw.headers[QUALITY_HEADER]) == expected.quality
        answer = raw.parse()
        text = answer.choices[0].message.content
        assert text is not None
        verdict = "A right answer" if expected.quality else "A wrong answer"
        assert text.startswith(f"{verdict} to: Reverse a list in Python")
        assert answer.usage is not None
        assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, expected.response_tokens)
        assert len(text.split()) == expected.response_tokens
        assert (answer.model, answer.choices[0].finish_reason) == (model, "stop")


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="swift-13b", messages=PROMPT, max_tokens=20)
    with client.chat.completions.create(
        model="swift-13b", messages=PROMPT, max_tokens=20, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "length"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20
    with client.chat.completions.create(model="swift-13b", messages=PROMPT, max_tokens=2, stream=True) as stream:
        assert all(chunk.usage is None for chunk in stream)


def test_tools_are_called_when_asked_for(client: openai.OpenAI) -> None:
    asked: Any = [{"role": "user", "content": "Use the weather tool for Paris"}]
    answer = client.chat.completions.create(model="forge-34b", messages=asked, tools=[WEATHER])
    (call,) = answer.choices[0].message.tool_calls or ()
    assert call.type == "function"
    assert (call.function.name, answer.choices[0].finish_reason) == ("weather", "tool_calls")
    assert set(json.loads(call.function.arguments)) == {"city"}
    with client.chat.completions.create(model="forge-34b", messages=asked, tools=[WEATHER], stream=True) as stream:
        deltas = [chunk.choices[0].delta.tool_calls for chunk in stream]
    parts = [part for delta in deltas for part in delta or () if part.function]
    streamed = "".join(part.function.arguments or "" for part in parts if part.function)
    assert streamed == call.function.arguments
    follow_up: Any = [
        *asked,
        answer.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    told = client.chat.completions.create(model="forge-34b", messages=follow_up, tools=[WEATHER])
    assert "answer" in (told.choices[0].message.content or "")
    # Without being asked for, no tool is called.
    plain = client.chat.completions.create(model="forge-34b", messages=PROMPT, tools=[WEATHER])
    assert plain.choices[0].message.tool_calls is None
    forced = client.chat.completions.create(model="forge-34b", messages=PROMPT, tools=[WEATHER], tool_choice="required")
    assert forced.choices[0].finish_reason == "tool_calls"


def test_json_is_answered_as_the_schema_says(client: openai.OpenAI) -> None:
    plain = client.chat.completions.create(model="forge-34b", messages=PROMPT, response_format={"type": "json_object"})
    assert set(json.loads(plain.choices[0].message.content or "")) == {"answer", "right", "quality"}
    schema: Any = {"type": "object", "properties": {"steps": {"type": "array", "items": {"type": "string"}}}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "steps", "schema": schema}}
    shaped = client.chat.completions.create(model="forge-34b", messages=PROMPT, response_format=form)
    assert json.loads(shaped.choices[0].message.content or "") == {"steps": ["Reverse a list in Python"]}


def test_what_an_llm_cannot_serve_is_refused(client: openai.OpenAI, web: httpx.Client) -> None:
    with pytest.raises(openai.NotFoundError, match="grand-1t"):
        client.chat.completions.create(model="unknown", messages=PROMPT)
    seen: Any = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]
    assert client.chat.completions.create(model="grand-1t", messages=seen).usage.prompt_tokens > 85
    for body, param in (
        ({"messages": seen}, "messages"),
        ({"model": "pocket-7b", "tools": [WEATHER]}, "tools"),
        ({"model": "pocket-7b", "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "user", "content": "word " * 200_000}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [WEATHER], "tool_choice": {"function": {"name": "other"}}}, "tool_choice"),
    ):
        answer = ask(web, **body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert web.post("chat/completions", content=b"{").status_code == 400
    assert web.post("chat/completions", content=b"[]").status_code == 400


def test_models_are_listed(client: openai.OpenAI, simulation: Simulation) -> None:
    assert [model.id for model in client.models.list()] == list(simulation.llms)
    assert client.models.retrieve("sage-70b").id == "sage-70b"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("unknown")


def test_a_conversation_that_goes_on_is_cached_with_the_llm_that_had_it(client: openai.OpenAI) -> None:
    first: Any = [{"role": "user", "content": "Tell me of the spice trade. " * 10}]
    answer = client.chat.completions.create(model="quill-34b", messages=first)
    more: Any = [*first, {"role": "assistant", "content": answer.choices[0].message.content}, PROMPT[0]]

    def cached(model: str) -> int:
        usage = client.chat.completions.create(model=model, messages=more).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens is not None
        assert usage.prompt_tokens_details.cached_tokens <= usage.prompt_tokens
        return usage.prompt_tokens_details.cached_tokens

    assert cached("swift-13b") == 0
    beginning = cached("quill-34b")
    assert 60 < beginning < cached("quill-34b")


def test_statuses_and_retry_after(web: httpx.Client) -> None:
    answer = ask(web, "status=429,retry-after=2")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert ask(web, "status=503", stream=True).status_code == 503
    assert ask(web, "nonsense").status_code == 400


def test_ordered_faults_come_in_turn(web: httpx.Client) -> None:
    url = str(web.base_url).replace("/v1/", "/simulate/faults")
    assert web.post(url, json={"fault": "status=500", "times": 2}).status_code == 200
    assert [ask(web).status_code for _ in range(3)] == [500, 500, 200]
    web.post(url, json={"fault": "status=500", "llm": "forge-34b"})
    assert [ask(web, model=name).status_code for name in ("forge-34b", "sage-70b", "forge-34b")] == [500, 200, 500]
    assert web.delete(url).status_code == 200
    assert ask(web).status_code == 200
    for wrong in (b"{", b"{}", b'{"fault": "what"}', b"[]"):
        assert web.post(url, content=wrong).status_code == 400


@pytest.mark.parametrize("stream", [True, False])
def test_connections_break(web: httpx.Client, simulation: Simulation, stream: bool) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="without sending a response"):
        ask(web, "disconnect", stream=stream)
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete|peer closed"):
        ask(web, "disconnect-after=3", stream=stream)
    assert simulation.calls[-1].ended == "cut"


def test_streams_go_wrong(web: httpx.Client, client: openai.OpenAI) -> None:
    events = ask(web, "error-after=2", stream=True).text.split("\n\n")
    assert "error" in json.loads(events[2].removeprefix("data: "))
    assert "[DONE]" not in events[-2]
    assert b"<html>" in ask(web, "garbage", stream=True).content
    assert b"<html>" in ask(web, "garbage").content
    assert "usage" not in ask(web, "no-usage").json()
    dripped = ask(web, "drip=0", stream=True, max_tokens=2)
    assert dripped.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("fault", ["hang", "hang-after=3", "drip=10"])
def test_a_client_that_leaves_ends_the_answer(web: httpx.Client, simulation: Simulation, fault: str) -> None:
    with pytest.raises(httpx.ReadTimeout):
        web.post(
            "chat/completions",
            json={"model": "forge-34b", "messages": PROMPT, "stream": True},
            headers={"x-simulate-fault": fault},
            timeout=0.2,
        )
    deadline = time.monotonic() + PATIENCE_S
    while simulation.calls[-1].ended is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert simulation.calls[-1].ended == "client gone"
    told = web.get(str(web.base_url).replace("/v1/", "/simulate/calls")).json()
    assert told["in_flight"] == 0
    assert told["calls"][-1]["ended"] == "client gone"


def test_answers_take_the_llms_time_and_wait_for_a_worker() -> None:
    slow = Simulation.open(Path("no/data/here"), speed=20.0)
    slow.slots["grand-1t"]._value = 1
    with running.in_thread(slow) as base_url, httpx.Client(timeout=PATIENCE_S) as web:
        begun = time.monotonic()
        with web.stream(
            "POST",
            f"{base_url}/chat/completions",
            json={"model": "grand-1t", "messages": PROMPT, "max_tokens": 20, "stream": True},
        ) as answer:
            events = [line for line in answer.iter_lines() if line.startswith("data")]
        took = time.monotonic() - begun
    assert len(events) == 20 + 3
    # 0.6 s to the first token and 20 tokens at 25 a second, 20 times as fast, less the spread: never much sooner.
    assert took > 0.5 * (0.6 + 20 / 25) / 20


def test_a_process_of_its_own_serves_and_ends_with_the_block() -> None:
    with running.in_process(speed=1000) as base_url, httpx.Client(timeout=PATIENCE_S) as web:
        assert web.get(f"{base_url}/models").json()["data"]
    with httpx.Client() as web, pytest.raises(httpx.ConnectError):
        web.get(f"{base_url}/models")
    with pytest.raises(InputError, match="did not start: --failures 2"), running.in_process(failures=2):
        raise AssertionError("it must not start")
