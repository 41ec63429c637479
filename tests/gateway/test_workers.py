"""Two workers of one gateway: what one of them knows, the other one goes by."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_world
import httpx
import pytest
from gateway_world import ADMIN_KEY, PATIENCE_S, RunningGateway

pytestmark = pytest.mark.slow

WEATHER: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
MODEL, DECISION = "x-symbiosis-model", "x-symbiosis-decision"


@pytest.fixture(scope="module")
def two(trained_folder: Path, llms_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    folder = gateway_world.copied(trained_folder, tmp_path_factory.mktemp("workers") / "gateway")
    gateway_world.write_config(folder, llms_address, policies={"cheapest": {"trade_off": 0}})
    with gateway_world.gateway(folder, workers=2) as running:
        yield running


def post(gateway: RunningGateway, path: str, body: Any, **headers: str) -> httpx.Response:
    """Send a request over a connection of its own: either worker may get it."""
    return httpx.post(f"{gateway.address}{path}", json=body, headers=headers, timeout=PATIENCE_S)


def test_a_tools_result_goes_to_the_llm_that_called_it(two: RunningGateway) -> None:
    for number in range(20):
        messages: Any = [{"role": "user", "content": f"Use the weather tool for city {number}"}]
        body = {"messages": messages, "tools": [WEATHER]}
        # Another than the policy below would choose.
        answer = post(two, "/v1/chat/completions", body | {"model": "auto:floor=0.99"})
        message = answer.json()["choices"][0]["message"]
        messages += [message, {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "rain"}]
        told = post(two, "/v1/chat/completions", body | {"model": "auto:cheapest"})
        assert told.headers[MODEL] == answer.headers[MODEL], f"turn {number}: {told.headers}"


def test_what_an_admin_and_users_say_holds_in_both(two: RunningGateway) -> None:
    body = {"model": "auto:cheapest", "messages": [{"role": "user", "content": "Explain a hash table."}]}
    admin = {"authorization": f"Bearer {ADMIN_KEY}"}
    assert post(two, "/admin/llms/pocket-7b/drain", {"drained": True}, **admin).status_code == 200
    gateway_world.eventually(
        lambda: all(post(two, "/v1/chat/completions", body).headers[MODEL] != "pocket-7b" for _ in range(20)),
        "that both workers leave the drained LLM alone",
    )
    decisions = [post(two, "/v1/chat/completions", body).headers[DECISION] for _ in range(30)]
    assert len(set(decisions)) == len(decisions)
    for accepted in ("new", "repeated"):
        told = [post(two, "/v1/feedback", {"decision": one, "quality": 1}).json() for one in decisions]
        assert [one["accepted"] for one in told] == [accepted] * len(decisions)
    assert post(two, "/admin/llms/pocket-7b/drain", {"drained": False}, **admin).status_code == 200
