"""OpenAI's own client against a running gateway: completion, stream, tools, usage, models, errors, feedback."""

import json
import time
from typing import Any

import httpx
import openai
import pytest
from gateway_world import ADMIN_KEY, PATIENCE_S, RunningGateway

from symbiosis.gateway.simulation.server import QUALITY_HEADER, Simulation

QUESTION = "Explain a database index and when it matters."
PROMPT: Any = [{"role": "user", "content": QUESTION}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
DECISION, MODEL = "x-symbiosis-decision", "x-symbiosis-model"


def stored(web: httpx.Client, decision: str, *, calls: int = 1) -> dict[str, Any]:
    """A decision as it is stored: its calls are there before a client hears of the answer's end."""
    found: dict[str, Any] = web.get(f"/v1/decisions/{decision}").json()
    assert len(found["calls"]) == calls
    return found


def test_a_completion_is_routed_answered_and_explained(
    client: openai.OpenAI, web: httpx.Client, llms: Simulation
) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=PROMPT)
    answer, headers = raw.parse(), raw.headers
    assert answer.model == headers[MODEL]
    expected = llms.book.answer(answer.model, QUESTION)
    assert float(headers[QUALITY_HEADER]) == expected.quality  # the upstream's own headers survive
    assert headers["x-request-id"] == answer.id
    assert answer.usage is not None
    assert answer.usage.completion_tokens == expected.response_tokens
    assert "answer to: Explain a database index" in (answer.choices[0].message.content or "")
    assert 0 < float(headers["x-symbiosis-propensity"]) <= 1
    assert float(headers["x-symbiosis-expected-cost"]) > 0
    assert float(headers["x-symbiosis-overhead-ms"]) > 0
    assert headers["x-symbiosis-fallbacks"] == "0"
    told = stored(web, headers[DECISION])
    assert (told["llm"], told["served"], told["mode"]) == (answer.model, answer.model, "apply")
    assert {arm["llm"] for arm in told["decision"]["arms"]} == set(llms.llms)
    (call,) = told["calls"]
    llm = llms.llms[answer.model]
    usage = answer.usage.prompt_tokens, answer.usage.completion_tokens
    assert (call["prompt_tokens"], call["response_tokens"]) == usage
    cost = usage[0] * llm.price_prompt + usage[1] * llm.price_response  # nothing was cached: the first of its kind
    assert call["cost_usd"] == pytest.approx(cost, rel=1e-9)
    assert told["text"] is None  # prompts are not stored unless the config says so


def test_a_stream_brings_the_same_and_usage_only_if_asked_for(client: openai.OpenAI, web: httpx.Client) -> None:
    whole = client.chat.completions.create(model="sage-70b", messages=PROMPT)
    with client.chat.completions.with_streaming_response.create(
        model="sage-70b", messages=PROMPT, stream=True, stream_options={"include_usage": True}
    ) as raw:
        chunks = list(raw.parse())
        headers = raw.headers
    assert whole.choices[0].message.content == text_of(chunks)
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert headers["content-type"].startswith("text/event-stream")
    assert {DECISION, MODEL, "x-symbiosis-overhead-ms", "x-symbiosis-fallbacks"} <= set(headers)
    call = stored(web, headers[DECISION])["calls"][0]
    assert (call["streamed"], call["response_tokens"]) == (True, whole.usage.completion_tokens)
    # Without `include_usage` the client sees none, and the gateway learns it all the same.
    with client.chat.completions.with_streaming_response.create(
        model="auto", messages=PROMPT, max_tokens=3, stream=True
    ) as raw:
        chunks = list(raw.parse())
        decision = raw.headers[DECISION]
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert stored(web, decision)["calls"][0]["response_tokens"] == 3


def text_of(chunks: Any) -> str:
    """The text of a stream."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_tool_is_called_and_its_result_goes_to_the_llm_that_called_it(client: openai.OpenAI) -> None:
    for city in ("Paris", "Rome", "Athens"):
        messages: Any = [{"role": "user", "content": f"Use the weather tool for {city}"}]
        answer = client.chat.completions.create(model="auto", messages=messages, tools=[WEATHER])
        assert answer.model != "pocket-7b"  # it has no tools
        calls = answer.choices[0].message.tool_calls
        assert calls
        messages += [
            answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": calls[0].id, "content": "rain"},
        ]
        # Whatever the policy would choose now.
        for policy in ("auto:cheapest", "auto:floor=0.99"):
            told = client.chat.completions.create(model=policy, messages=messages, tools=[WEATHER])
            assert told.model == answer.model


def test_what_cannot_serve_is_not_asked(client: openai.OpenAI) -> None:
    seen: Any = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]
    assert client.chat.completions.create(model="auto:cheapest", messages=seen).model in ("grand-1t", "sage-70b")
    shaped = client.chat.completions.create(
        model="auto:cheapest", messages=PROMPT, response_format={"type": "json_object"}
    )
    assert shaped.model != "pocket-7b"
    assert set(json.loads(shaped.choices[0].message.content or "")) == {"answer", "right", "quality"}
    assert client.chat.completions.create(model="auto:cheapest", messages=PROMPT).model == "pocket-7b"
    long: Any = [{"role": "user", "content": "word " * 20_000}]  # 25,000 tokens: pocket-7b takes 16,000
    assert client.chat.completions.create(model="auto:cheapest", messages=long).model != "pocket-7b"
    with pytest.raises(openai.BadRequestError, match="vision"):
        client.chat.completions.create(model="pocket-7b", messages=seen)
    too_long: Any = [{"role": "user", "content": "word " * 200_000}]
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="auto", messages=too_long)


def test_models_and_policies_are_listed_and_taken(client: openai.OpenAI, llms: Simulation) -> None:
    listed = [model.id for model in client.models.list()]
    assert listed == ["auto", "auto:careful", "auto:quick", "auto:cheapest", *llms.llms]
    for model in ("auto:careful", "auto:quick", "auto:floor=0.5,deadline=20", "auto:budget=0.0005"):
        assert client.chat.completions.create(model=model, messages=PROMPT, max_tokens=2).model in llms.llms
    for model in llms.llms:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=PROMPT, max_tokens=2)
        assert (raw.headers[MODEL], raw.headers["x-symbiosis-mode"]) == (model, "explicit")
        assert raw.parse().model == model


def test_errors_are_those_that_the_client_knows(client: openai.OpenAI, web: httpx.Client) -> None:
    for model in ("unknown", "auto:unknown"):
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model=model, messages=PROMPT)
        assert missing.value.code == "model_not_found"
    for wrong in (
        {"model": "auto:floor=2", "messages": PROMPT},
        {"model": "auto", "messages": []},
        {"model": "auto", "messages": "text"},
        {"model": "auto", "messages": PROMPT, "stream": "yes"},
        {"model": 3, "messages": PROMPT},
        {},
    ):
        answer = web.post("/v1/chat/completions", json=wrong)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error"), wrong
    for body in (b"{", b"\xff", b"[1]", b"null", b"[" * 100_000):
        answer = web.post("/v1/chat/completions", content=body)
        assert answer.status_code == 400, answer.text
        assert "message" in answer.json()["error"]
    # An upstream's own refusal passes through as it is.
    refused: Any = {"model": "grand-1t", "messages": PROMPT, "tools": [WEATHER]}
    answer = web.post("/v1/chat/completions", json=refused | {"tool_choice": {"function": {"name": "other"}}})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tool_choice")
    assert answer.headers[MODEL] == "grand-1t"


def test_fields_that_nobody_knows_pass(client: openai.OpenAI, llms: Simulation) -> None:
    client.chat.completions.create(
        model="auto", messages=PROMPT, max_tokens=2, extra_body={"x_new": {"of": [1.50, "ü"]}, "seed": 7}
    )
    sent = llms.calls[-1].fields
    assert (sent["x_new"], sent["seed"]) == ({"of": [1.5, "ü"]}, 7)
    assert "stream_options" not in sent
    assert "authorization" not in llms.calls[-1].headers  # the client's key is the gateway's business


def test_feedback_is_taken_once_and_teaches(client: openai.OpenAI, web: httpx.Client, llms: Simulation) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=PROMPT)
    decision = raw.headers[DECISION]
    body = {"decision": decision, "quality": float(raw.headers[QUALITY_HEADER])}

    def tell(body: dict[str, Any], **headers: str) -> httpx.Response:
        return client.post(
            "/feedback", body=body, cast_to=httpx.Response, options={"headers": {"Idempotency-Key": "", **headers}}
        )

    assert web.post("/v1/feedback", json=body).json()["accepted"] == "new"
    assert web.post("/v1/feedback", json=body).json()["accepted"] == "repeated"
    with pytest.raises(openai.ConflictError):
        client.post("/feedback", body=body | {"quality": 0.3}, cast_to=httpx.Response)
    with pytest.raises(openai.NotFoundError):
        client.post("/feedback", body={"decision": "nothing", "quality": 1}, cast_to=httpx.Response)
    for wrong in (
        {"quality": 2},
        {},
        {"quality": 1, "satisfied": True},
        {"quality": "good"},
        {"quality": 1, "more": 1},
        {"quality": 1, "response_tokens": -1},
    ):
        with pytest.raises(openai.UnprocessableEntityError):
            client.post("/feedback", body={"decision": decision, **wrong}, cast_to=httpx.Response)
    told = stored(web, decision)
    assert told["feedback"]["quality"] == body["quality"]
    deadline = time.monotonic() + PATIENCE_S
    while web.get("/health/ready").json()["version"] < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert web.get("/health/ready").json()["version"] >= 1  # a version was saved: something was learned


def test_an_idempotency_key_makes_a_repetition_harmless(web: httpx.Client) -> None:
    first, second = (
        web.post("/v1/chat/completions", json={"model": "auto", "messages": PROMPT}).headers[DECISION] for _ in range(2)
    )
    key = {"idempotency-key": f"of {first}"}
    body = {"decision": first, "satisfied": True}
    assert web.post("/v1/feedback", json=body, headers=key).json()["accepted"] == "new"
    assert web.post("/v1/feedback", json=body, headers=key).json()["accepted"] == "repeated"
    assert web.post("/v1/feedback", json=body | {"decision": second}, headers=key).status_code == 409


def test_checks_teach_without_a_user(client: openai.OpenAI, web: httpx.Client) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="auto", messages=PROMPT, response_format={"type": "json_object"}
    )
    decision, deadline = raw.headers[DECISION], time.monotonic() + PATIENCE_S
    while stored(web, decision)["feedback"] is None and time.monotonic() < deadline:
        time.sleep(0.02)
    told = stored(web, decision)["feedback"]
    assert (told["quality"], told["source"]) == (1, "check:shape")


def test_a_decision_alone_calls_nobody(web: httpx.Client, llms: Simulation) -> None:
    before = len(llms.calls)
    answer = web.post("/v1/route", json={"model": "auto:careful", "messages": PROMPT}).json()
    assert len(llms.calls) == before
    assert answer["model"] == answer["decision"]["llm"]
    assert {arm["llm"] for arm in answer["decision"]["arms"]} == set(llms.llms)
    assert web.post("/v1/feedback", json={"decision": answer["id"], "quality": 1}).json()["accepted"] == "new"


def test_the_rest_of_the_door_opens(web: httpx.Client, door: RunningGateway) -> None:
    assert web.get("/health/live").status_code == 200
    web.post("/v1/chat/completions", json={"model": "auto", "messages": PROMPT})
    summed = web.get("/v1/summary")
    assert summed.status_code == 200, summed.text + door.log.read_text()
    assert summed.json()["queries"] > 0
    assert "symbiosis_" in web.get("/metrics").text
    assert "<html" in web.get("/").text
    assert web.get("/openapi.json").json()["openapi"].startswith("3.")
    assert web.get("/v1/decisions", params={"limit": 2}).json()["data"]
    drain = {"json": {"drained": True}, "headers": {"authorization": f"Bearer {ADMIN_KEY}"}}
    assert web.post("/admin/llms/grand-1t/drain", json={"drained": True}).status_code == 403
    assert web.post("/admin/llms/pocket-7b/drain", **drain).json()["drained"] == ["pocket-7b"]
    cheapest = {"model": "auto:cheapest", "messages": PROMPT}
    assert web.post("/v1/chat/completions", json=cheapest).headers[MODEL] != "pocket-7b"
    drain["json"] = {"drained": False}
    assert web.post("/admin/llms/pocket-7b/drain", **drain).json()["drained"] == []
    assert web.post("/v1/chat/completions", json=cheapest).headers[MODEL] == "pocket-7b"


def test_pages_of_other_origins_may_not_act(web: httpx.Client) -> None:
    body = {"model": "auto", "messages": PROMPT}
    for headers, status in (
        ({"origin": "http://evil.example"}, 403),
        ({"host": "evil.example"}, 421),
        ({"origin": str(web.base_url).rstrip("/")}, 200),
    ):
        assert web.post("/v1/chat/completions", json=body, headers=headers).status_code == status
