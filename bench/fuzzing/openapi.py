"""The target `openapi`: whatever the gateway's OpenAPI document allows, and much that it does not, sent to its door."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from bench.fuzzing.trying import Found, use_test_worlds

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
ROUND = 100
"""Requests of each operation before the next round begins with another seed."""


def try_everything(address: str, examples: int, headers: dict[str, str], own_seed: int = 1) -> int:
    """Send what a fuzzer makes of each operation of the document; return how many operations there are.

    Raises
    ------
    AssertionError
        An answer has a status from 500 on.
    """
    import schemathesis  # here: it is slow to import, and collecting tests would pay for it

    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert operations
    with httpx.Client(base_url=address, timeout=60) as web:
        for operation in operations:

            @seed(own_seed)
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


def chat_of_any_shape(address: str, examples: int, own_seed: int = 1) -> None:
    """Send chat completions whose fields have values of any kind.

    Raises
    ------
    AssertionError
        An answer has a status from 500 on, or is an error without a message.
    """
    with httpx.Client(base_url=address, timeout=60) as web:

        @seed(own_seed)
        @settings(Check, max_examples=examples)
        @given(body=CHAT)
        def never_a_fault(body: dict[str, Any]) -> None:
            for path in ("/v1/chat/completions", "/v1/route"):
                answer = web.post(path, json=body)
                assert answer.status_code < 500, f"{path}: {answer.status_code} {answer.text[:300]}"
                if answer.status_code >= 400:
                    assert answer.json()["error"]["message"]

        never_a_fault()


def try_openapi(seconds: float, own_seed: int = 0) -> Found:
    """Fuzz a gateway in a process of its own, as an admin, round by round.

    Parameters
    ----------
    seconds
        After which no further round begins.
    own_seed
        Of the first round; later ones count up.
    """
    use_test_worlds()
    import gateway_world
    from recommender_world import write_recommender

    from symbiosis.gateway.simulation import running
    from symbiosis.gateway.simulation.server import Simulation

    found, began = Found("openapi"), time.monotonic()

    def attempt(what: Callable[[], Any]) -> Any:
        try:
            return what()
        except Exception as error:
            found.add(f"{type(error).__name__} {str(error)[:120]}: {str(error)[:400]!r}", b"", None)

    with TemporaryDirectory(prefix="fuzzing-openapi-") as folder:
        project = gateway_world.write_folder(Path(folder) / "gateway")
        write_recommender(project / "bundle")
        simulation = Simulation.open(gateway_world.NOWHERE, speed=float("inf"))
        with running.in_thread(simulation) as upstream:
            policies = {"cheapest": {"trade_off": 0}}
            gateway_world.write_config(project, upstream, policies=policies, recommender={"folder": "bundle"})
            with gateway_world.gateway(project) as served:
                gateway_world.recommends(served)
                admin = {"authorization": f"Bearer {gateway_world.ADMIN_KEY}"}
                while time.monotonic() < began + seconds and served.process.poll() is None:
                    own_seed += 1
                    rounds = own_seed
                    attempt(lambda: chat_of_any_shape(served.address, ROUND, rounds))  # noqa: B023 - called at once
                    tried = attempt(lambda: try_everything(served.address, ROUND, admin, rounds))  # noqa: B023
                    found.tried += 2 * ROUND + (tried or 0) * ROUND
                    found.kept = max(found.kept, tried or 0)
                if served.process.poll() is not None or "a fault of the gateway" in served.log.read_text():
                    found.add(f"the gateway: {served.log.read_text()[-400:]!r}", b"", None)
    found.seconds = time.monotonic() - began
    return found
