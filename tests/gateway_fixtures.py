"""One gateway in a process of its own for the tests that come through the door, and the LLMs that it asks."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx
    import openai
    from gateway_world import RunningGateway

    from symbiosis.gateway.simulation.server import Simulation

# What is imported inside the fixtures is slow to import, and most tests need none of it.
SHORT = {"connect_s": 2, "first_byte_s": 2, "answer_s": 2, "idle_s": 2, "in_flight": 24}
POLICIES = {"careful": {"floor": 0.8}, "quick": {"deadline_s": 5}, "cheapest": {"trade_off": 0}}
SHAPE = {"type": "object", "required": ["right"]}
CHECKS = [{"name": "shape", "kind": "json_schema", "schema": SHAPE, "when": "response_format"}]


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small trained router; read only."""
    import gateway_world

    return gateway_world.write_folder(tmp_path_factory.mktemp("gateway") / "trained")


@pytest.fixture(scope="session")
def llms() -> "Simulation":
    """The simulated LLMs that the gateway asks, in this process: faults can be ordered, and calls looked at."""
    from gateway_world import NOWHERE

    from symbiosis.gateway.simulation.server import Simulation

    return Simulation.open(NOWHERE, speed=float("inf"))


@pytest.fixture(scope="session")
def llms_address(llms: "Simulation") -> Iterator[str]:
    """Base URL of the simulated LLMs."""
    from symbiosis.gateway.simulation import running

    with running.in_thread(llms) as base_url:
        yield base_url


@pytest.fixture(scope="session")
def shared_gateway(
    trained_folder: Path, llms_address: str, tmp_path_factory: pytest.TempPathFactory
) -> "Iterator[RunningGateway]":
    """A gateway with short limits and a small recommender; it serves all tests of a session."""
    import gateway_world
    from recommender_world import write_recommender

    folder = gateway_world.copied(trained_folder, tmp_path_factory.mktemp("shared") / "gateway")
    write_recommender(folder / "bundle")
    gateway_world.write_config(
        folder,
        llms_address,
        limits=SHORT,
        policies=POLICIES,
        checks=CHECKS,
        breaker={"failures": 50, "open_s": 0.5},
        recommender={"folder": "bundle"},
    )
    with gateway_world.gateway(folder) as running_gateway:
        gateway_world.recommends(running_gateway)
        yield running_gateway
    assert running_gateway.process.returncode in (0, -signal.SIGTERM), running_gateway.log.read_text()


@pytest.fixture
def door(shared_gateway: "RunningGateway", llms: "Simulation") -> "Iterator[RunningGateway]":
    """The session's gateway, its LLMs without faults."""
    llms.faults.clear()
    yield shared_gateway
    llms.faults.clear()
    assert shared_gateway.process.poll() is None, shared_gateway.log.read_text()


@pytest.fixture
def client(door: "RunningGateway") -> "Iterator[openai.OpenAI]":
    """OpenAI's own client at the gateway's address."""
    import openai
    from gateway_world import PATIENCE_S

    with openai.OpenAI(base_url=door.api, api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture
def web(door: "RunningGateway") -> "Iterator[httpx.Client]":
    """A plain client at the gateway's address."""
    import httpx
    from gateway_world import PATIENCE_S

    with httpx.Client(base_url=door.address, timeout=PATIENCE_S) as client:
        yield client
