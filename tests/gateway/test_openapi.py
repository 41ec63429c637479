"""Whatever the OpenAPI document allows, and much that it does not: the gateway answers, and never with a 500."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_world
import httpx
import pytest
from gateway_world import ADMIN_KEY, RunningGateway
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from recommender_world import write_recommender

QUICK, THOROUGH = 2, 150
# Generated JSON is what a fuzzer finds between the braces: of any kind, at any depth.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image_url", "x"])}, optional={"text": ANYTHING}),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "system", "tool"]), "content": st.text(max_size=50) | PARTS},
        optional={"tool_calls": ANYTHING, "name": ANYTHING},
    ),
    min_size=1,
    max_size=4,
)
CHAT = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["auto", "auto:cheapest", "auto:floor=0.5", "grand-1t", "auto:x=1"]),
        "messages": MESSAGES,
    },
    optional={
        "stream": st.booleans(),
        "tools": ANYTHING,
        "response_format": ANYTHING,
        "max_tokens": ANYTHING,
        "n": ANYTHING,
        "stream_options": ANYTHING,
        "extra": ANYTHING,
    },
)
Check = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def try_everything(address: str, examples: int, headers: dict[str, str]) -> int:
    """Send what a fuzzer makes of each operation of the document; return how many operations there are."""
    import schemathesis  # here: it is slow to import, and collecting tests would pay for it

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert operations
    with httpx.Client(base_url=address, timeout=60) as web:
        for operation in operations:

            @seed(1)
            @settings(Check, max_examples=examples)
            @given(case=operation.as_strategy())
            def never_a_fault(case: Any) -> None:
                sent = case.as_transport_kwargs(base_url=address)
                answer = web.request(
                    sent["method"],
                    sent["url"],
                    params=sent.get("params"),
                    headers={**dict(sent.get("headers") or {}), **headers},
                    json=sent.get("json"),
                )
                assert answer.status_code < 500, (
                    f"{case.method} {sent['url']}: {answer.status_code} {answer.text[:300]}"
                )

            never_a_fault()
    return len(operations)


def chat_of_any_shape(address: str, examples: int) -> None:
    """Send chat completions whose fields have values of any kind."""
    with httpx.Client(base_url=address, timeout=60) as web:

        @seed(1)
        @settings(Check, max_examples=examples)
        @given(body=CHAT)
        def never_a_fault(body: dict[str, Any]) -> None:
            for path in ("/v1/chat/completions", "/v1/route"):
                answer = web.post(path, json=body)
                assert answer.status_code < 500, f"{path}: {answer.status_code} {answer.text[:300]}"
                if answer.status_code >= 400:
                    assert answer.json()["error"]["message"]

        never_a_fault()


def test_a_few_requests_of_each_kind(door: RunningGateway) -> None:
    try_everything(door.address, QUICK, {})
    chat_of_any_shape(door.address, 3 * QUICK)


@pytest.fixture
def own_gateway(trained_folder: Path, llms_address: str, tmp_path: Path) -> Iterator[RunningGateway]:
    """One that may be changed by an admin."""
    folder = gateway_world.copied(trained_folder, tmp_path / "gateway")
    write_recommender(folder / "bundle")
    gateway_world.write_config(
        folder, llms_address, policies={"cheapest": {"trade_off": 0}}, recommender={"folder": "bundle"}
    )
    with gateway_world.gateway(folder) as running:
        gateway_world.recommends(running)
        yield running
    assert running.process.returncode in (0, -signal.SIGTERM), running.log.read_text()


@pytest.mark.slow
def test_many_requests_of_each_kind_by_an_admin(own_gateway: RunningGateway) -> None:
    examples = int(os.environ.get("SYMBIOSIS_EXAMPLES", THOROUGH))
    chat_of_any_shape(own_gateway.address, 3 * examples)
    operations = try_everything(own_gateway.address, examples, {"authorization": f"Bearer {ADMIN_KEY}"})
    print(f"\n{operations} operations, {examples} requests each")
    assert own_gateway.process.poll() is None
    assert "a fault of the gateway" not in own_gateway.log.read_text()
