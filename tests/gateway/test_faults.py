"""A running gateway when upstreams, clients, its disk or its store go wrong: each fault is tried through the door."""

import asyncio
import json
import resource
import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

import httpx
import openai
import pytest
from gateway_world import PATIENCE_S, RunningGateway, eventually

from symbiosis.gateway.simulation.faults import Fault
from symbiosis.gateway.simulation.server import Call, Simulation

PROMPT: Any = [{"role": "user", "content": "Explain a database index and when it matters."}]
DECISION, MODEL, FALLBACKS = "x-symbiosis-decision", "x-symbiosis-model", "x-symbiosis-fallbacks"
CHEAPEST = "pocket-7b"
MEGABYTE = 1_000_000


def ask(web: httpx.Client, model: str = "auto", **changes: Any) -> httpx.Response:
    return web.post("/v1/chat/completions", json={"model": model, "messages": PROMPT} | changes)


def events_of(text: str) -> list[str]:
    return [event.removeprefix("data: ") for event in text.strip().split("\n\n")]


def works(web: httpx.Client) -> None:
    """The gateway answers as if nothing had been."""
    eventually(lambda: ask(web, "auto:cheapest", max_tokens=2).headers.get(MODEL) == CHEAPEST, "that all are asked")
    answer = ask(web, max_tokens=2)
    assert (answer.status_code, answer.headers[FALLBACKS]) == (200, "0")


@pytest.mark.parametrize(
    "fault", ["disconnect", "status=500", "status=503,retry-after=1", "status=429", "hang", "drip=5"]
)
@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_byte_another_llm_answers(
    web: httpx.Client, llms: Simulation, fault: str, stream: bool
) -> None:
    works(web)
    # A connection that was used before and breaks may have been idle for too long: the same LLM is asked again.
    llms.faults.order(Fault.parse(fault), CHEAPEST)
    answer = ask(web, "auto:cheapest", stream=stream, max_tokens=4)
    assert (answer.status_code, answer.headers[FALLBACKS]) == (200, "1")
    failed, served = list(llms.calls)[-2:]
    assert failed.llm != served.llm == answer.headers[MODEL]
    assert "error" not in answer.text
    if stream:
        assert answer.text.endswith("data: [DONE]\n\n")
    eventually(lambda: failed.ended is not None, "the end of the call that failed")
    eventually(lambda: len(web.get(f"/v1/decisions/{answer.headers[DECISION]}").json()["calls"]) == 2, "two calls")
    first, second = web.get(f"/v1/decisions/{answer.headers[DECISION]}").json()["calls"]
    assert (first["llm"], second["llm"]) == (failed.llm, served.llm)
    assert first["error"]
    assert second["error"] is None


def test_so_many_attempts_and_no_more(web: httpx.Client, llms: Simulation, client: openai.OpenAI) -> None:
    llms.faults.order(Fault(status=500))
    before = len(llms.calls)
    answer = ask(web)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "simulated")
    assert len(llms.calls) - before == 3
    assert len({call.llm for call in list(llms.calls)[before:]}) == 3
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="auto", messages=PROMPT)
    # The named LLM and no other.
    before = len(llms.calls)
    assert ask(web, "grand-1t").status_code == 500
    assert len(llms.calls) - before == 1
    llms.faults.clear()
    works(web)


def test_an_upstream_killed_in_the_middle_of_a_stream_is_told_of(
    web: httpx.Client, client: openai.OpenAI, llms: Simulation
) -> None:
    for fault in ("disconnect-after=4", "hang-after=4"):
        llms.faults.order(Fault.parse(fault), times=1)
        answer = ask(web, stream=True)
        assert answer.status_code == 200
        *passed, last = events_of(answer.text)
        assert len(passed) == 4
        assert all("choices" in json.loads(event) for event in passed)
        assert json.loads(last)["error"]["code"] == "upstream_broken"
        assert "[DONE]" not in answer.text
        shown = f"/v1/decisions/{answer.headers[DECISION]}"
        eventually(lambda shown=shown: bool(web.get(shown).json()["calls"]), "the call")  # type: ignore[misc]
        assert web.get(shown).json()["calls"][0]["error"].startswith("broken")
    llms.faults.order(Fault(disconnect_after=4), times=1)
    with (
        client.chat.completions.create(model="auto", messages=PROMPT, stream=True) as stream,
        pytest.raises(openai.APIError, match="broke"),
    ):
        list(stream)
    # In the middle of a whole answer nothing has gone to the client yet: another LLM answers.
    llms.faults.order(Fault(disconnect_after=4), times=1)
    answer = ask(web)
    assert (answer.status_code, answer.headers[FALLBACKS]) == (200, "1")
    works(web)


def test_an_error_of_the_upstream_in_its_stream_passes(web: httpx.Client, llms: Simulation) -> None:
    llms.faults.order(Fault(error_after=3), times=1)
    answer = ask(web, stream=True)
    *_, last = events_of(answer.text)
    assert json.loads(last)["error"]["code"] == "simulated"
    assert "[DONE]" not in answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_garbage_is_no_fault_of_the_gateway(web: httpx.Client, llms: Simulation, stream: bool) -> None:
    llms.faults.order(Fault(garbage=True), times=1)
    answer = ask(web, stream=stream)
    assert answer.status_code in (200, 502)
    if answer.headers[FALLBACKS] == "0":  # it is passed on as it came, or named
        assert b"<html>" in answer.content or "error" in answer.text
    works(web)


def test_a_storm_of_429_leaves_the_llm_alone_for_as_long_as_it_asks(web: httpx.Client, llms: Simulation) -> None:
    works(web)
    chosen = CHEAPEST
    llms.faults.order(Fault(status=429, retry_after=2), chosen)
    begun, before = time.monotonic(), len(llms.calls)
    answers = [ask(web, "auto:cheapest", max_tokens=2) for _ in range(10)]
    asked = [call.llm for call in list(llms.calls)[before:]]
    assert all(answer.status_code == 200 for answer in answers)
    if time.monotonic() - begun < 2:
        assert asked.count(chosen) == 1
        assert web.get("/v1/summary").json()
    llms.faults.clear()
    eventually(lambda: ask(web, "auto:cheapest", max_tokens=2).headers[MODEL] == chosen, "that it is asked again")


def test_if_all_are_busy_the_client_hears_when_to_come_again(
    web: httpx.Client, client: openai.OpenAI, llms: Simulation
) -> None:
    llms.faults.order(Fault(status=429, retry_after=1))
    for _ in range(4):
        answer = ask(web)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="auto", messages=PROMPT)
    llms.faults.clear()
    patient = client.with_options(max_retries=5)
    assert patient.chat.completions.create(model="auto", messages=PROMPT).choices


@pytest.mark.parametrize("fault", ["hang", "hang-after=3", "drip=0.3"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_the_call(
    web: httpx.Client, llms: Simulation, door: RunningGateway, fault: str, stream: bool
) -> None:
    llms.faults.order(Fault.parse(fault))
    before = len(llms.calls)
    body = {"model": "auto", "messages": PROMPT, "stream": stream}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{door.api}/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.3))
    calls = list(llms.calls)[before:]
    assert calls
    left = time.monotonic()
    eventually(lambda: all(call.ended for call in calls), "the end of the upstream's calls")
    assert len(llms.calls) - before == len(calls)  # and nobody else was asked for one who has gone
    # At once, not when the upstream has been silent for too long.
    assert time.monotonic() - left < 1
    llms.faults.clear()
    works(web)
    eventually(lambda: in_flight(web) == 0, "that nothing is in flight")


def test_what_a_client_left_is_recorded_with_its_calls(
    web: httpx.Client, llms: Simulation, door: RunningGateway
) -> None:
    works(web)
    llms.faults.order(Fault(hang=True))
    before = web.get("/v1/decisions", params={"limit": 1}).json()["data"][0]["sequence"]
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{door.api}/chat/completions",
            json={"model": "auto", "messages": PROMPT},
            timeout=httpx.Timeout(5, read=0.3),
        )

    def latest() -> dict[str, Any]:
        found: dict[str, Any] = web.get("/v1/decisions", params={"limit": 1}).json()["data"][0]
        return found

    eventually(lambda: latest()["sequence"] > before, "that the decision is recorded")
    left = latest()
    assert left["served"] is None
    (call,) = web.get(f"/v1/decisions/{left['id']}").json()["calls"]
    assert call["error"].startswith("client: left")
    assert web.post("/v1/feedback", json={"decision": left["id"], "quality": 1}).status_code == 409


def in_flight(web: httpx.Client) -> int:
    return sum(llm["in_flight"] for llm in web.get("/v1/summary").json()["llms"])


def test_a_client_that_reads_slowly_holds_no_memory(llms: Simulation, door: RunningGateway) -> None:
    body = {"model": "grand-1t", "messages": PROMPT, "stream": True}
    with (
        httpx.Client(timeout=PATIENCE_S) as slow,
        slow.stream("POST", f"{door.api}/chat/completions", json=body) as answer,
    ):
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if len(lines) < 10:
                time.sleep(0.05)
    assert lines[-2:] == ["data: [DONE]", ""]


def test_under_overload_requests_are_refused_with_a_time(llms: Simulation, door: RunningGateway) -> None:
    limit = 24  # limits.in_flight of the shared gateway
    llms.faults.order(Fault(slow=0.5))

    async def storm() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=PATIENCE_S, limits=httpx.Limits(max_connections=100)) as client:
            body = {"model": "auto", "messages": PROMPT, "max_tokens": 2}
            asked = [client.post(f"{door.api}/chat/completions", json=body) for _ in range(80)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(storm())
    refused = [answer for answer in answers if answer.status_code == 429]
    served = [answer for answer in answers if answer.status_code == 200]
    assert len(refused) + len(served) == len(answers)
    assert len(served) >= limit
    assert refused
    assert all(answer.headers["retry-after"] == "1" for answer in refused)
    assert all(answer.json()["choices"] for answer in served)  # never a 200 without bytes
    llms.faults.clear()
    with httpx.Client(base_url=door.address, timeout=PATIENCE_S) as web:
        works(web)


def test_prompts_of_many_megabytes(web: httpx.Client, llms: Simulation) -> None:
    text: Any = [{"role": "user", "content": "words " * (10 * MEGABYTE // 6)}]
    answer = web.post("/v1/chat/completions", json={"model": "auto", "messages": text})
    assert (answer.status_code, "context" in answer.json()["error"]["message"]) == (400, True)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * (10 * MEGABYTE)}}
    seen: Any = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]
    answer = web.post("/v1/chat/completions", json={"model": "auto", "messages": seen, "max_tokens": 2})
    assert answer.status_code == 200, answer.text
    assert int(llms.calls[-1].headers["content-length"]) > 10 * MEGABYTE
    huge: Any = [{"role": "user", "content": "x" * (33 * MEGABYTE)}]
    answer = web.post("/v1/chat/completions", json={"model": "auto", "messages": huge})
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    works(web)


def test_a_locked_store_holds_up_no_answer_and_loses_no_feedback(web: httpx.Client, door: RunningGateway) -> None:
    decision = ask(web, max_tokens=2).headers[DECISION]
    told: list[httpx.Response] = []

    def tell() -> None:
        body = {"decision": decision, "quality": 1}
        told.append(httpx.post(f"{door.api}/feedback", json=body, timeout=PATIENCE_S))

    telling = threading.Thread(target=tell)
    with closing(sqlite3.connect(door.folder / ".router/store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        telling.start()
        answers = [ask(web, max_tokens=2)]
        assert not told
        other.execute("ROLLBACK")
    telling.join(PATIENCE_S)
    for answer in answers:
        assert answer.json()["choices"]
        assert DECISION not in answer.headers
        assert "could not be recorded" in answer.headers["x-symbiosis-notice"]
    assert [one.json().get("accepted") for one in told] == ["new"]
    assert web.get(f"/v1/decisions/{decision}").json()["feedback"]["quality"] == 1
    works(web)


def test_a_full_disk_fails_no_answer(web: httpx.Client, door: RunningGateway) -> None:
    decision = ask(web, max_tokens=2).headers[DECISION]
    before = resource.prlimit(door.process.pid, resource.RLIMIT_FSIZE)
    try:
        # No file may grow beyond 4 kB: what SQLite sees is what a full disk gives, an error when it writes.
        resource.prlimit(door.process.pid, resource.RLIMIT_FSIZE, (4096, before[1]))
        answers = [ask(web, max_tokens=2) for _ in range(3)]
        streamed = ask(web, stream=True, max_tokens=2)
        told = web.post("/v1/feedback", json={"decision": decision, "quality": 1})
    finally:
        resource.prlimit(door.process.pid, resource.RLIMIT_FSIZE, before)
    for answer in (*answers, streamed):
        assert answer.status_code == 200
        assert DECISION not in answer.headers
        assert "could not be recorded" in answer.headers["x-symbiosis-notice"]
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert told.status_code == 503
    assert web.post("/v1/feedback", json={"decision": decision, "quality": 1}).json()["accepted"] == "new"
    answer = ask(web, max_tokens=2)
    assert web.get(f"/v1/decisions/{answer.headers[DECISION]}").status_code == 200


def test_many_clients_at_once_each_get_their_own_answer(llms: Simulation, door: RunningGateway) -> None:
    failures: list[str] = []

    def many(number: int) -> None:
        with openai.OpenAI(base_url=door.api, api_key="none", max_retries=5, timeout=PATIENCE_S) as client:
            for turn in range(5):
                mark = f"client {number} turn {turn}"
                messages: Any = [{"role": "user", "content": mark}]
                with client.chat.completions.create(model="grand-1t", messages=messages, stream=True) as stream:
                    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
                if f"answer to: {mark}" not in text:
                    failures.append(f"{mark}: {text[:80]}")

    threads = [threading.Thread(target=many, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert sum(isinstance(call, Call) and call.ended is None for call in llms.calls) == 0
