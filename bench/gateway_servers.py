"""The servers that `bench.gateway` compares, each in a process of its own, ready when they are handed over."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import yaml

from bench.gateway_load import Job, Times
from symbiosis.core.artifacts import sha256_of
from symbiosis.gateway.simulation.llms import upstream_config
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.model.router import MANIFEST, Router

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 240.0


@dataclass(frozen=True)
class Server:
    """A server under load.

    Attributes
    ----------
    url
        Of chat completions.
    models
        What to ask it for, in turn.
    process
        With its workers.
    """

    url: str
    models: list[str]
    process: psutil.Process

    def _all(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU seconds of the process and its workers."""
        return sum(sum(one.cpu_times()[:2]) for one in self._all())

    def memory_mb(self) -> float:
        """Resident memory of the process and its workers, in MB; what they share counts in each."""
        return sum(one.memory_info().rss for one in self._all()) / 1e6


class Load:
    """The load generator, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, server: Server, **job: Any) -> Times:
        """Ask a server, and return how it went."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(Job(server.url, server.models, **job))) + "\n")
        self._process.stdin.flush()
        return Times(**json.loads(self._process.stdout.readline()))


@contextmanager
def started(
    command: Sequence[str], folder: Path, variables: Mapping[str, str] | None = None, log: str = "log"
) -> Iterator["subprocess.Popen[str]"]:
    """Run ``python -m COMMAND`` in a folder while the block runs."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | dict(variables or {})
    with (
        (folder / log).open("a") as errors,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


@contextmanager
def load_generator(folder: Path) -> Iterator[Load]:
    """Run the load generator."""
    with started(["bench.gateway_load"], folder) as process:
        yield Load(process)


def _line(process: "subprocess.Popen[str]", beginning: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(beginning):
            return line.strip()
    sys.exit(f"error: `{' '.join(map(str, process.args[1:]))}` did not start")  # type: ignore[index]


@contextmanager
def upstream(folder: Path, speed: float, llms: Sequence[str]) -> Iterator[Server]:
    """Run the simulated upstreams of the router in a folder."""
    command = ["symbiosis", "upstreams", "simulate", "--json", "--port", "0", "--speed", str(speed)]
    with started(command, folder, log="upstream.log") as process:
        base_url = json.loads(_line(process, "{"))["base_url"]
        yield Server(f"{base_url}/chat/completions", list(llms), psutil.Process(process.pid))


@contextmanager
def pass_through(folder: Path, asked: Server) -> Iterator[Server]:
    """Run the proxy that only passes on."""
    with started(["bench.pass_through", asked.url.removesuffix("/chat/completions")], folder) as process:
        yield Server(f"{_line(process, 'http')}/chat/completions", asked.models, psutil.Process(process.pid))


@contextmanager
def gateway(
    folder: Path, asked: Server, workers: int = 1, model: str = "auto", replicas: int = 0, **changes: Any
) -> Iterator[Server]:
    """Run the gateway in a folder with a router; with `replicas` by Ray Serve."""
    section = upstream_config(asked.url.removesuffix("/chat/completions"), folder)
    document = {
        "default": asked.models[0],
        "upstreams": [section.model_dump(mode="json", exclude_none=True)],
        "listen": {"port": 0, "workers": workers},
        **changes,
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(document))
    by_ray = ["--replicas", str(replicas)] if replicas else []
    with started(["symbiosis", "gateway", *by_ray], folder, log="gateway.log") as process:
        address = _line(process, "gateway").split()[-1]
        _wait_for(f"{address}/health/ready")
        yield Server(f"{address}/v1/chat/completions", [model], psutil.Process(process.pid))


@contextmanager
def mlflow_gateway(folder: Path, asked: Server) -> Iterator[Server]:
    """Run MLflow's AI Gateway, which is a part of `mlflow server`; its endpoints ask the upstream, no usage is tracked.

    `mlflow gateway start` of earlier releases needs `slowapi`, which the lock does not hold.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    variables = {
        "MLFLOW_GATEWAY_API_BASE_ALLOW_PRIVATE_IPS": "true",
        "MLFLOW_GATEWAY_API_BASE_ALLOWED_SCHEMES": "https,http",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job workers would take the cores
    }
    command = ["mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--host", "127.0.0.1"]
    options = ["--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    with started([*command, *options], folder, variables, "mlflow.log") as process:
        _wait_for(f"{url}/health")
        _add_endpoints(url, asked)
        yield Server(f"{url}/gateway/mlflow/v1/chat/completions", asked.models, psutil.Process(process.pid))


def _add_endpoints(url: str, asked: Server) -> None:
    from mlflow.entities.gateway_endpoint import GatewayEndpointModelConfig, GatewayModelLinkageType
    from mlflow.store.tracking.rest_store import RestStore
    from mlflow.utils.rest_utils import MlflowHostCreds

    store = RestStore(lambda: MlflowHostCreds(url))
    base = {"api_base": asked.url.removesuffix("/chat/completions")}
    secret = store.create_gateway_secret("key", {"api_key": "none"}, provider="openai", auth_config=base)
    for name in asked.models:
        made = store.create_gateway_model_definition(name, secret.secret_id, "openai", name)
        linked = GatewayEndpointModelConfig(made.model_definition_id, GatewayModelLinkageType.PRIMARY)
        store.create_gateway_endpoint(name, [linked], usage_tracking=False)


def _wait_for(url: str) -> None:
    until = time.monotonic() + PATIENCE_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < until:
        try:
            opener.open(url, timeout=5).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    sys.exit(f"error: {url} did not become ready")


def router_of(trained: Path, n_llms: int, folder: Path) -> list[str]:
    """Write a data folder whose router has one LLM of a trained one n times, at other prices; return their names.

    As all are of one speed, answers take the same time whoever gives them.
    """
    router, state = Router.load(trained / "models/router"), ServingState.load(trained / "models/router")
    arm = int(np.argmax(router.llms.tokens_per_s))
    many = router.take([arm] * n_llms)
    old, names = many.llms, tuple(f"llm{number}" for number in range(n_llms))
    dearer = np.geomspace(1.0, 2.0, n_llms)
    llms = Llms(names, old.price_prompt * dearer, old.price_response * dearer, old.startup_s, old.tokens_per_s)
    (folder / "models").mkdir(parents=True)
    (folder / "models/encoder").symlink_to((trained / "models/encoder").resolve())
    place = folder / "models/router"
    replace(many, llms=llms).save(place)
    state.model_copy(update={"router_sha256": sha256_of(place / MANIFEST)}).save(place)
    return list(names)
