"""Registered models elsewhere: in a process of MLflow's own, and in a gateway that serves while champions change."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import gateway_world
import httpx
import pytest
from gateway_world import PATIENCE_S, RunningGateway, eventually
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical
from registry_world import use_store

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.registry import champions
from symbiosis.registry.registration import register, requirements
from symbiosis.registry.versions import Registry
from symbiosis.routing.learning.serving_state import FILE, digest_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

QUERIES = [
    "Write a function that reverses a list.",
    "What is 17 * 23?",
    "Name the capital of Chad.",
    "Why is the sky blue?",
]

OPTIONAL = {"orjson", "psutil", "pydantic-extra-types", "pydot", "pytz", "sniffio"}
"""MLflow and what it brings import them where they are there."""

ELSEWHERE = """
import json, sys
import mlflow, pandas as pd
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/symbiosis-router@champion")
answer = model.predict(pd.DataFrame({"query": json.loads(sys.argv[2])}))
foreign = {name.partition(".")[0] for name in sys.modules if getattr(sys.modules[name], "__file__", None)}
code = sys.modules["symbiosis"].__file__
print(json.dumps({"answer": answer.to_dict("list"), "modules": sorted(foreign), "code": code}))
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A data folder with a trained router and a registry of its own."""
    folder = gateway_world.write_folder(tmp_path_factory.mktemp("served") / "work")
    with pytest.MonkeyPatch.context() as patch:
        use_store(folder, empty_database, patch)
        yield folder


def another_state(folder: Path, trade_off: float) -> str:
    """Let the pipeline train a router again, for another trade-off; return its digest."""
    told = read_json(folder / "models/router" / FILE)
    write_json(folder / "models/router" / FILE, told | {"trade_off": trade_off})
    return digest_of(folder / "models/router")


def test_a_process_elsewhere_decides_as_the_workspace_does(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs no more than MLflow and the pinned packages: this program's code comes with the model."""
    from symbiosis.routing.serving.workspace import Workspace

    registered = register("router", world)
    champions.promote("router", registered.version, root=world)
    arguments = [sys.executable, "-P", "-c", ELSEWHERE, f"sqlite:///{world}/mlflow.db", json.dumps(QUERIES)]
    monkeypatch.delenv("PYTHONPATH", raising=False)
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"].startswith(str(world / "mlartifacts"))
    monkeypatch.chdir(world)
    decisions = [Workspace(tmp_path / str(number)).route(text) for number, text in enumerate(QUERIES)]
    assert told["answer"]["llm"] == [decision.llm for decision in decisions]
    assert told["answer"]["quality"] == [decision.quality[decision.arm] for decision in decisions]
    assert told["answer"]["cost_usd"] == [decision.cost_usd[decision.arm] for decision in decisions]

    distributions = packages_distributions()
    imported = {canonical(distributions[name][0]) for name in told["modules"] if name in distributions}
    brought, following = set[str](), [Requirement(line).name for line in requirements("router")]
    while following:
        name = canonical(following.pop())
        if name not in brought:
            brought.add(name)
            with suppress(PackageNotFoundError):
                lines = map(Requirement, requires(name) or [])
                following += [one.name for one in lines if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert imported - brought - OPTIONAL <= {"symbiosis", "setuptools"}


@contextmanager
def load(gateway: RunningGateway, clients: int = 4) -> Iterator[Counter[str]]:
    """Ask for decisions all the time; counts the digests that decided, and what failed."""
    heard: Counter[str] = Counter()
    stop = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=gateway.address, timeout=PATIENCE_S) as web:
            turn = 0
            while not stop.is_set():
                turn += 1
                text = f"Question {turn % 50} of client {number} on a Python decorator"
                asked = {"model": "auto", "messages": [{"role": "user", "content": text}]}
                try:
                    answer = web.post("/v1/route", json=asked)
                except httpx.HTTPError as error:
                    heard[f"failed: {error!r}"] += 1
                    continue
                told = answer.json()["decision"]["router"] if answer.status_code == 200 else f"failed: {answer.text}"
                heard[told] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield heard
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_gateway_follows_without_dropping_a_request(
    world: Path, tmp_path: Path, empty_database: Path, llms_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promoted, taken back, another encoder: every request is answered, by the champion soon after."""
    folder = tmp_path / "work"
    shutil.copytree(world / "models", folder / "models")
    use_store(folder, empty_database, monkeypatch)
    registry = Registry(folder)
    first = digest_of(folder / "models/router")
    register("router", folder, registry)
    second = another_state(folder, 3.0)
    register("router", folder, registry)
    encoder = read_json(folder / "models/encoder/encoder.json")
    write_json(folder / "models/encoder/encoder.json", encoder | {"maximum_tokens": 32})
    told = read_json(folder / "models/router" / FILE)
    write_json(folder / "models/router" / FILE, told | {"vectors": told["vectors"] | {"maximum_tokens": 32}})
    third = digest_of(folder / "models/router")
    register("router", folder, registry)
    champions.promote("router", 1, root=folder, registry=registry)
    gateway_world.write_config(folder, llms_address, mode="apply")
    with gateway_world.gateway(folder) as running, load(running) as heard:
        eventually(lambda: heard[first] > 20, "decisions of the first champion")
        champions.promote("router", 2, root=folder, registry=registry)
        eventually(lambda: heard[second] > 20, "decisions of the second champion")
        champions.rollback("router", folder, registry)
        before = heard[first]
        eventually(lambda: heard[first] > before + 20, "decisions of the first champion again")
        champions.promote("router", 3, forced="another encoder", root=folder, registry=registry)
        eventually(lambda: heard[third] > 20, "decisions with another encoder")
        time.sleep(0.1)
    assert [one for one in heard if one.startswith("failed")] == []
    assert set(heard) == {first, second, third}


def test_a_registry_behind_a_server(
    world: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files go to the server and come from it; another machine needs only its address."""
    folder = tmp_path / "work"
    shutil.copytree(world / "models", folder / "models")
    use_store(folder, empty_database, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    places = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(tmp_path / "kept")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen([*command, *places], env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return httpx.get(f"{address}/health", timeout=2).status_code == 200
            except httpx.HTTPError:
                return False

        eventually(answers, "the MLflow server's start")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        version = register("router", folder)
        assert not register("router", folder).new
        champions.promote("router", version.version, root=folder)
        other = tmp_path / "other"
        other.mkdir()
        change = champions.pull("router", other)
        assert change is not None
        assert change.digest == version.digest
        served = champions.current("router", other)
        assert served is not None
        assert digest_of(served / "models/router") == digest_of(folder / "models/router")
    finally:
        os.killpg(server.pid, 15)
        server.wait(PATIENCE_S)
