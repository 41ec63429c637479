"""Two gateways that share PostgreSQL and no folder, under load, while the one that learns is killed."""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gateway_world
import httpx
import postgres_server
import pytest
from gateway_world import PATIENCE_S, RunningGateway
from sqlalchemy import text
from test_killed import KEY, Acknowledged, client, free_port, judge, key_entry, settle, wait_for

from symbiosis.routing.serving.storage.database import LEARNING, Database

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CLIENTS = 6
"""Of each gateway."""
HOLDERS = f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = {LEARNING} AND granted"


class Watch:
    """Looks all the time at who holds the learner's lock."""

    def __init__(self, url: str) -> None:
        self._database, self._ended = Database(url), threading.Event()
        self.seen: list[tuple[float, list[int]]] = []
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._ended.wait(0.02):
            self.seen.append((time.monotonic(), self.holders()))

    def holders(self) -> list[int]:
        with self._database.reading() as connection:
            return sorted(connection.scalars(text(HOLDERS)).all())

    def end_holder(self) -> int:
        """End the learner's connection, as the server does; return its number."""
        (holder,) = self.holders()
        with self._database.reading() as connection:
            connection.execute(text(f"SELECT pg_terminate_backend({holder})"))
        return holder

    def taken_over_s(self, since: float, before: list[int]) -> float:
        """Seconds from a moment until another one held the lock."""
        return next(at for at, holders in self.seen if at > since and holders and holders != before) - since

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._database.close()


@contextmanager
def loaded(ports: list[int], heard: Acknowledged, done: threading.Event) -> Iterator[None]:
    """Ask all gateways, and give feedback, while the block runs."""
    errors: list[BaseException] = []

    async def everybody() -> None:
        asking = [client(f"http://127.0.0.1:{port}", n, heard, done.is_set) for n in range(CLIENTS) for port in ports]
        await asyncio.gather(*asking)

    def loading() -> None:
        try:
            asyncio.run(everybody())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loading)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(PATIENCE_S)
    assert not errors, errors


def learns(running: RunningGateway) -> bool:
    try:
        return bool(httpx.get(f"{running.address}/health/ready", timeout=5).json().get("learner", {}).get("here"))
    except httpx.HTTPError:
        return False


def decided(address: str, question: str, stored: bool = False) -> dict[str, Any]:
    """Ask for a decision alone: no LLM is called, so that no process sees how quick and wordy LLMs are."""
    body = {"model": "auto", "store": stored, "messages": [{"role": "user", "content": question}]}
    headers = {"authorization": f"Bearer {KEY}"}
    told: dict[str, Any] = httpx.post(f"{address}/v1/route", json=body, headers=headers, timeout=PATIENCE_S).json()
    return told


def teach(address: str, heard: Acknowledged) -> None:
    """Give feedback on decisions, so that there is a version to decide by."""
    headers = {"authorization": f"Bearer {KEY}"}
    for number in range(20):
        told = decided(address, f"Explain trigger {number}.", stored=True)
        body = {"decision": told["id"], "quality": number % 2}
        httpx.post(f"{address}/v1/feedback", json=body, headers=headers, timeout=PATIENCE_S).raise_for_status()
        heard.feedback[told["id"]] = number % 2


def agreed(addresses: list[str], processes: int, asked: int) -> int:
    """Ask the same questions often; return how many were decided by all processes in one version, each time alike."""
    chosen, by = defaultdict(set), defaultdict(set)
    for number in range(asked):
        question = f"Explain index {number % 15}."
        for address in addresses:
            told = decided(address, question)
            key = question, told["decision"]["version"]
            assert key[1] > 0
            chosen[key].add((told["model"], told["decision"]["propensity"]))
            by[key].add(told["id"].partition("-")[0])
    assert all(len(each) == 1 for each in chosen.values()), chosen
    assert len({llm for each in chosen.values() for llm, _ in each}) > 1
    return sum(len(each) == processes for each in by.values())


def test_the_learner_is_killed_and_nothing_is_lost_or_counted_twice(
    trained_folder: Path, llms_address: str, tmp_path: Path
) -> None:
    heard, done, ports = Acknowledged(), threading.Event(), [free_port(), free_port()]
    with postgres_server.server() as database, ExitStack() as held:
        url = database()
        folders = [gateway_world.copied(trained_folder, tmp_path / name) for name in ("a", "b")]
        for folder in folders:
            gateway_world.write_config(
                folder, llms_address, store=url, keys={"required": True, "entries": [key_entry()]},
                breaker={"failures": 1000}, exploration={"kind": "epsilon", "amount": 0.5},
            )  # fmt: skip

        def start(number: int) -> RunningGateway:
            return held.enter_context(gateway_world.gateway(folders[number], port=ports[number]))

        def until(holds: Callable[[], bool]) -> None:
            wait_for(holds, running[0])

        running = [start(0), start(1)]
        # What one has learned, the other one decides by.
        teach(running[0].address, heard)
        until(lambda: all(decided(one.address, "Explain.")["decision"]["version"] > 0 for one in running))
        assert agreed([one.address for one in running], processes=2, asked=15) >= 10
        with Watch(url) as watch:
            with loaded(ports, heard, done):
                until(lambda: len(heard.decisions) >= 100 and any(map(learns, running)))
                victim = next(number for number, one in enumerate(running) if learns(one))
                before, killed_at = watch.holders(), time.monotonic()
                running[victim].kill()
                until(lambda: learns(running[1 - victim]))
                until(lambda: len(heard.decisions) >= 200)
                running[victim] = start(victim)
                until(lambda: len(heard.decisions) >= 300)
                cut, cut_at = watch.end_holder(), time.monotonic()
                until(lambda: watch.holders() not in ([], [cut]))
                until(lambda: len(heard.decisions) >= 400)
            settle(running[victim], url)
            seconds = watch.taken_over_s(killed_at, before), watch.taken_over_s(cut_at, [cut])
            # One learner at any time, and exactly one at the end.
            assert max(len(holders) for _, holders in watch.seen) == 1
            until(lambda: sum(map(learns, running)) == 1)
        judge(folders[victim], url, heard, 400)
    print(f"taken over {seconds[0]:.2f} s after the kill, {seconds[1]:.2f} s after the connection was ended")
