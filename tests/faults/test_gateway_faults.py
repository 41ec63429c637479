"""A running gateway whose clock jumps, whose disk is full or slow, and which has no descriptors left."""

import contextlib
import hashlib
import json
import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gateway_world
import httpx
import pytest
from gateway_world import PATIENCE_S, RunningGateway, eventually

from symbiosis.gateway.simulation.faults import Fault
from symbiosis.gateway.simulation.server import Simulation
from symbiosis.routing.serving.snapshots import read_state
from symbiosis.routing.serving.versions import Versions

PROMPT: Any = [{"role": "user", "content": "Explain a database index and when it matters."}]
DECISION, MODEL, NOTICE = "x-symbiosis-decision", "x-symbiosis-model", "x-symbiosis-notice"
CHEAPEST = "pocket-7b"
KEY = "secret-of-the-application"
HOUR_S, YEAR_S = 3_600, 366 * 86_400


def ask(web: httpx.Client, model: str = "auto", **changes: Any) -> httpx.Response:
    body = {"model": model, "messages": PROMPT, "max_tokens": 2} | changes
    return web.post("/v1/chat/completions", json=body)


def tell(web: httpx.Client, decision: str) -> httpx.Response:
    return web.post("/v1/feedback", json={"decision": decision, "quality": 1})


def test_without_descriptors_nothing_ends_and_all_comes_back(web: httpx.Client, door: RunningGateway) -> None:
    ask(web)
    process = door.process.pid
    before = resource.prlimit(process, resource.RLIMIT_NOFILE)
    try:
        # Standard input, output and error take the three: whatever else is closed meanwhile, nothing new can be opened.
        resource.prlimit(process, resource.RLIMIT_NOFILE, (3, before[1]))
        during = [ask(web) for _ in range(3)]  # over the connection that is open
        with pytest.raises(httpx.TransportError):  # nobody opens the door to another
            httpx.get(f"{door.address}/health/live", timeout=0.5)
    finally:
        resource.prlimit(process, resource.RLIMIT_NOFILE, before)
    for answer in during:
        assert answer.status_code == 200 or answer.json()["error"]["message"]
    eventually(lambda: reachable(door), "that new connections are taken")
    answer = ask(web)
    assert tell(web, answer.headers[DECISION]).json()["accepted"] == "new"
    assert "Traceback" not in door.log.read_text()


def reachable(door: RunningGateway) -> bool:
    try:
        return httpx.get(f"{door.address}/health/live", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


# ------------------------------------------------------------------ gateways of their own


@contextlib.contextmanager
def gateway(folder: Path, prefix: tuple[str, ...] = ()) -> Iterator[tuple[RunningGateway, httpx.Client]]:
    """Run a gateway to which faults can be ordered."""
    environment = {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(gateway_world.ROOT)]),
        "SYMBIOSIS_FAULTS": str(folder / "faults.json"),
    }
    with (
        gateway_world.gateway(folder, environment=environment, prefix=prefix) as running,
        httpx.Client(base_url=running.address, timeout=PATIENCE_S, headers={"authorization": f"Bearer {KEY}"}) as web,
    ):
        yield running, web
        assert running.process.poll() is None, running.log.read_text()
        assert "Traceback" not in running.log.read_text()


def order(folder: Path, **faults: float) -> None:
    """Let faults come over the gateway of a folder, and others go."""
    draft = folder / "faults.draft"
    draft.write_text(json.dumps(faults))
    draft.replace(folder / "faults.json")
    done = folder / "faults.done"
    eventually(lambda: done.exists() and done.read_text() == json.dumps(faults), f"{faults}")


@pytest.fixture
def folder(trained_folder: Path, llms_address: str, llms: Simulation, tmp_path: Path) -> Iterator[Path]:
    """Where a gateway with a key and a patient circuit breaker runs."""
    folder = gateway_world.copied(trained_folder, tmp_path / "gateway")
    entry = {"name": "app", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "budget_usd": 100, "per_minute": 600}
    gateway_world.write_config(
        folder,
        llms_address,
        keys={"required": True, "entries": [entry]},
        policies={"cheapest": {"trade_off": 0}},
        breaker={"failures": 1, "open_s": 600},
    )
    llms.faults.clear()
    yield folder
    llms.faults.clear()


def pages(web: httpx.Client) -> None:
    """Whatever shows times can be shown."""
    admin = {"authorization": f"Bearer {gateway_world.ADMIN_KEY}"}
    for path in ("/v1/summary", "/metrics", "/", "/health/ready", "/v1/decisions"):
        answer = web.get(path, headers=admin)
        assert answer.status_code < 500, (path, answer.text)
        assert "nan" not in answer.text.lower().replace("nanosecond", ""), path


def spent(folder: Path) -> dict[str, float]:
    with contextlib.closing(sqlite3.connect(folder / ".router/store.db")) as store:
        return dict(store.execute("SELECT period, usd FROM spend WHERE api_key = 'app'").fetchall())


@pytest.mark.slow
def test_a_clock_that_jumps(folder: Path, llms: Simulation) -> None:
    with gateway(folder) as (_, web):
        first = ask(web)
        llms.faults.order(Fault(status=500), CHEAPEST)
        assert ask(web, "auto:cheapest").headers[MODEL] != CHEAPEST  # its circuit is open from now on
        llms.faults.clear()
        decisions = [first.headers[DECISION]]
        for jump in (-HOUR_S, YEAR_S, -HOUR_S, 0):
            order(folder, clock_s=jump)
            answers = [ask(web, "auto:cheapest") for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200] * 3
            # A circuit, a rate and a limit in time go by a clock that nobody sets.
            assert all(answer.headers[MODEL] != CHEAPEST for answer in answers)
            assert all(answer.headers["x-symbiosis-fallbacks"] == "0" for answer in answers)
            decisions += [answer.headers[DECISION] for answer in answers]
            assert tell(web, decisions[-1]).json()["accepted"] == "new"
            pages(web)
        assert tell(web, decisions[0]).json()["accepted"] == "new"  # too old for a year, and no longer
        assert len(set(decisions)) == 13
        learned = lambda: len(Versions(folder / ".router").whole()) > 0 and lessons(folder) == 5  # noqa: E731
        eventually(learned, "that all feedback is learned")
    # What was spent counts in the month and on the day that the clock told; all of it is in the total.
    told = spent(folder)
    months = [period for period in told if len(period) == 7]
    assert len(months) == 2
    assert sum(told[month] for month in months) == pytest.approx(told["total"], rel=1e-9)


def lessons(folder: Path) -> int:
    versions = Versions(folder / ".router")
    return read_state(versions.open()).lessons


@pytest.mark.slow
def test_a_slow_disk_holds_up_no_answer(folder: Path) -> None:
    with gateway(folder) as (_, web):
        order(folder, commit_s=3.0)  # longer than an answer waits for its decision to be stored
        with ThreadPoolExecutor(4) as pool:
            slow = list(pool.map(lambda _: ask(web), range(4)))
        assert [answer.status_code for answer in slow] == [200] * 4
        late = [answer for answer in slow if DECISION not in answer.headers]
        assert late
        assert all("could not be recorded" in answer.headers[NOTICE] for answer in late)
        order(folder, commit_s=0.2)
        with ThreadPoolExecutor(4) as pool:
            quick = list(pool.map(lambda _: ask(web), range(8)))
        for answer in quick:
            assert tell(web, answer.headers[DECISION]).json()["accepted"] == "new"
        order(folder)
        eventually(lambda: lessons(folder) == len(quick), "that all feedback is learned")


MOUNT = 'mkdir -p .router && mount -t tmpfs -o size=64m tmpfs .router && exec "$@"'


@pytest.mark.slow
def test_a_full_disk_under_the_store_and_the_versions(folder: Path) -> None:
    alone = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)))
    try:
        mounts = subprocess.run([*alone, "sh", "-c", MOUNT, "sh", "true"], cwd=folder, check=False).returncode == 0
    except FileNotFoundError:
        mounts = False
    if not mounts:
        pytest.skip("no disk can be mounted here")
    with gateway(folder, (*alone, "sh", "-c", MOUNT, "sh")) as (running, web):
        state = Path(f"/proc/{running.process.pid}/root{folder}/.router")
        before = ask(web).headers[DECISION]
        waiting = ask(web).headers[DECISION]
        assert tell(web, waiting).json()["accepted"] == "new"
        filler = state / "filler"
        fill(filler)
        answers = [ask(web, stream=stream) for stream in (False, True, False)]
        for answer in answers:
            assert answer.status_code == 200
            assert DECISION not in answer.headers
            assert "could not be recorded" in answer.headers[NOTICE]
        told = tell(web, before)
        assert told.status_code == 503
        assert "full" in told.json()["error"]["message"]
        filler.unlink()
        assert tell(web, before).json()["accepted"] == "new"
        after = ask(web)
        assert web.get(f"/v1/decisions/{after.headers[DECISION]}").status_code == 200
        versions = Versions(state)
        eventually(lambda: bool(versions.numbers()) and read_state(versions.open()).lessons == 2, "that it learns")
        assert versions.whole() == versions.numbers()
        assert not [path.name for path in state.iterdir() if path.name.startswith(".v")]
        log = running.log.read_text().splitlines()
        assert len(log) < 200


def fill(file: Path) -> None:
    """Write until there is no room at all."""
    with file.open("wb", buffering=0) as filling, contextlib.suppress(OSError):
        while True:
            filling.write(bytes(4096))
