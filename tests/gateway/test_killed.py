"""A gateway that is killed under load: what it acknowledged is there afterwards, once, and nothing counts twice."""

import asyncio
import contextlib
import hashlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gateway_world
import httpx
import numpy as np
import postgres_server
import pytest
from gateway_world import PATIENCE_S, RunningGateway

from symbiosis.routing.serving.snapshots import read_state
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.versions import Versions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

DECISIONS = 1_000
KILLS = 3
CLIENTS = 12
KEY = "secret-of-the-application"
DECISION, QUALITY = "x-symbiosis-decision", "x-simulated-quality"


@dataclass
class Acknowledged:
    """What the clients heard.

    Attributes
    ----------
    decisions
        Ids, from the headers of an answer, with the LLM that answered.
    feedback
        Decision to quality, where the gateway said that it has it.
    new
        Decisions whose feedback was called new, once for each time that it was.
    failed
        Requests that ended without an answer.
    """

    decisions: dict[str, str] = field(default_factory=dict)
    feedback: dict[str, float] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)
    failed: int = 0


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder}/.router/store.db"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    with postgres_server.server() as database:
        yield database()


def key_entry() -> dict[str, str]:
    return {"name": "app", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def client(address: str, number: int, heard: Acknowledged, enough: Callable[[], bool]) -> None:
    """Ask and give feedback until there is enough; what fails is tried again, as a patient application does."""
    dice = random.Random(number)
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=address, timeout=httpx.Timeout(15), headers=headers) as web:
        turn = 0
        while not enough():
            turn += 1
            prompt = [{"role": "user", "content": f"Question {turn} of client {number} on a Python decorator"}]
            body = {"model": "auto", "messages": prompt, "stream": turn % 2 == 0, "max_tokens": 5}
            try:
                answer = await web.post("/v1/chat/completions", json=body)
            except httpx.HTTPError:
                heard.failed += 1
                await asyncio.sleep(0.1)
                continue
            if answer.status_code != 200 or DECISION not in answer.headers:
                heard.failed += 1
                await asyncio.sleep(0.1)
                continue
            decision = answer.headers[DECISION]
            assert decision not in heard.decisions, "two answers have one id"
            heard.decisions[decision] = answer.headers["x-symbiosis-model"]
            if dice.random() < 0.7:
                await tell(web, decision, float(answer.headers[QUALITY]), heard)


async def tell(web: httpx.AsyncClient, decision: str, quality: float, heard: Acknowledged) -> None:
    """Give feedback until it is acknowledged."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            told = await web.post("/v1/feedback", json={"decision": decision, "quality": quality})
        except httpx.HTTPError:
            await asyncio.sleep(0.1)
            continue
        if told.status_code == 200:
            heard.feedback[decision] = quality
            if told.json()["accepted"] == "new":
                heard.new.append(decision)
            return
        assert told.status_code in (429, 503), told.text  # never unknown, never a conflict
        await asyncio.sleep(0.1)
    raise AssertionError(f"no acknowledgement of {decision} in {PATIENCE_S:g} s")


def load(address: str, heard: Acknowledged, enough: Callable[[], bool]) -> None:
    async def all_clients() -> None:
        await asyncio.gather(*(client(address, number, heard, enough) for number in range(CLIENTS)))

    asyncio.run(all_clients())


@pytest.mark.parametrize("store", [sqlite, postgres])
def test_nothing_acknowledged_is_lost_or_counted_twice(
    trained_folder: Path, llms_address: str, tmp_path: Path, store: Callable[..., Any]
) -> None:
    folder, port = gateway_world.copied(trained_folder, tmp_path / "gateway"), free_port()
    with store(folder) as url:
        gateway_world.write_config(
            folder,
            llms_address,
            store=url,
            keys={"required": True, "entries": [key_entry()]},
            breaker={"failures": 1000},
        )
        heard, errors = Acknowledged(), []
        done = threading.Event()

        def loading() -> None:
            try:
                load(f"http://127.0.0.1:{port}", heard, lambda: len(heard.decisions) >= DECISIONS or done.is_set())
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=loading)
        marks = [DECISIONS * (number + 1) // (KILLS + 1) for number in range(KILLS)]
        try:
            for mark in [*marks, None]:
                with gateway_world.gateway(folder, workers=2, port=port) as running:
                    if not thread.is_alive() and not heard.decisions:
                        thread.start()
                    if mark is None:
                        thread.join(600)
                    else:
                        wait_for(lambda mark=mark: len(heard.decisions) >= mark or bool(errors), running)  # type: ignore[misc]
                        running.kill()
                    if mark is None:
                        settle(running, url)
        finally:
            done.set()
            thread.join(PATIENCE_S)
        assert not errors, errors
        judge(folder, url, heard, DECISIONS)


def wait_for(holds: Callable[[], bool], running: RunningGateway) -> None:
    deadline = time.monotonic() + 300
    while not holds():
        assert time.monotonic() < deadline, running.log.read_text()
        time.sleep(0.02)


def settle(running: RunningGateway, url: str) -> None:
    """Wait until the learner has learned all that is in the store, and the last calls are written."""
    with Store(url) as store:
        wait_for(lambda: not store.news()[1], running)
    time.sleep(2)


def judge(folder: Path, url: str, heard: Acknowledged, least: int, *, met_failures: bool = True) -> None:
    """Compare what was heard with what is in the store and in the newest version."""
    with Store(url) as store:
        every = [one.entry for one in store.every()]
        lessons = [one.number for one in store.lessons()]
        calls, feedback = store.calls_frame(), store.feedback_frame()
        month = time.strftime("%Y-%m", time.gmtime())
        spent = store.spent("app", month)
    assert len(heard.decisions) >= least
    assert bool(heard.failed) == met_failures, "no request met a kill, and the test proved nothing; or some failed"
    # No decision is lost or there twice.
    stored = {one.record.decision: one for one in every}
    assert len(every) == len(stored)
    assert set(heard.decisions) <= set(stored)
    assert all(stored[decision].served == llm for decision, llm in heard.decisions.items())
    # No feedback is lost, changed or there twice.
    assert sorted(feedback["decision"]) == sorted(set(feedback["decision"]))
    assert dict(zip(feedback["decision"], feedback["quality"], strict=True)) == heard.feedback
    assert len(heard.new) == len(set(heard.new))
    # Each is a lesson, once, and the newest version has learned exactly so many.
    assert lessons == list(range(1, len(heard.feedback) + 1))
    versions = Versions(folder / ".router")
    newest = versions.numbers()[-1]
    state = read_state(versions.open(newest))
    assert (state.logged, state.lessons) == (len(lessons), len(lessons))
    # No call of an answer that came to its end is lost, and each is paid for once.
    assert set(heard.decisions) <= set(calls["decision"])
    assert calls.select("decision", "attempt").is_duplicated().sum() == 0
    assert np.isclose(spent, calls["cost_usd"].fill_null(0).sum(), rtol=1e-9)
    print(
        f"\n{len(heard.decisions)} decisions and {len(heard.feedback)} feedback acknowledged, {heard.failed} requests "
        f"failed; {len(every)} decisions, {len(lessons)} lessons and {len(calls)} calls stored; version {newest}"
    )
