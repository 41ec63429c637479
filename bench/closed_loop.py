"""The loop closed, from the first query to the rollback.  Run it:  python -m bench.closed_loop

In a clone in a temporary folder, by the commands that a user has:

1. the nightly flow trains on few answered queries; its router becomes the champion, the gateway serves it;
2. the gateway answers queries of the synthetic world, with exploration, and is told how good each answer was;
3. the nightly flow freezes that feedback and trains on it, the gate lets the candidate pass, and the running gateway
   takes it over while requests keep coming;
4. training labels are shuffled, the nightly flow trains on them, and the gate refuses;
5. a rollback brings the first champion back.

Before and after, every held-out query is decided by ``POST /v1/route``; what it earns is looked up in the table, in
which every LLM has answered it. Utility is that of the served trade-off.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml
from tqdm import tqdm

from flows.overrides import override
from symbiosis.core.artifacts import read_frame, write_json
from symbiosis.core.layout import CHAMPION_ROUTER, LLMS, QUERIES, ROUTING_TEST
from symbiosis.core.statistics import means_with_intervals
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.data.synthetic import generate
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.metrics.utility import cost_scale_of, scaled_cost, utility

ROOT = Path(__file__).resolve().parents[1]
SMALL = {
    "download_routing.synthetic": {"queries": 1200},
    "clean_routing.test_share": 0.35,
    "clean_routing.online_share": 0.9,
    "compare_routers.splits": [1],
}
"""Few queries that all LLMs have answered, and many to serve."""
EXPLORATION = {"kind": "softmax", "amount": 0.1}
PATIENCE_S = 120.0
SAMPLES, SEED = 2000, 0


@dataclass
class Loop:
    """What happened.

    Attributes
    ----------
    served
        Queries answered with feedback.
    champions
        Digest of the router that decided after each step.
    utility
        Mean over the held-out queries after each step.
    gains
        Change of it against the first champion, with its 95 % interval.
    verdicts
        Of the gate, by step.
    requests, failed
        Sent while champions changed, and how many of them got no answer.
    """

    served: int = 0
    champions: dict[str, str] = field(default_factory=dict)
    utility: dict[str, float] = field(default_factory=dict)
    gains: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: int = 0
    failed: int = 0


class Clone:
    """A clone of this repository, with the environment of its commands.

    Parameters
    ----------
    folder
        Is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
        own = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
            "PYTHONPATH": "",
            "PREFECT_HOME": str(folder / ".prefect"),
            "PREFECT_API_URL": "",
            "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db",
        }
        self.environment = {**os.environ, **own}
        for name in ("MLFLOW_EXPERIMENT_NAME", "SYMBIOSIS_TRACKING", "PREFECT_API_URL"):
            self.environment.pop(name, None)
        cache = self.run("dvc", "cache", "dir", folder=ROOT).strip()
        self.run("dvc", "cache", "dir", "--local", str((ROOT / cache).resolve()))

    def run(self, module: str, *arguments: str, folder: Path | None = None) -> str:
        """Run a module of the clone and return what it prints; what it prints when it fails ends the bench."""
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, cwd=folder or self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"error: `{module} {' '.join(arguments)}` failed:\n{(done.stdout + done.stderr)[-4000:]}")
        return done.stdout

    @contextlib.contextmanager
    def gateway(self) -> Iterator[str]:
        """Run the gateway with simulated LLMs, and yield its address."""
        (self.folder / "gateway.yaml").write_text(yaml.safe_dump({"exploration": EXPLORATION}))
        command = [sys.executable, "-m", "symbiosis", "gateway", "--config", "gateway.yaml", "--port", "0"]
        with (self.folder / "gateway.log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        with process:
            assert process.stdout is not None
            line = next((line for line in process.stdout if "http" in line), "")
            if not line:
                sys.exit(f"error: the gateway did not start: {(self.folder / 'gateway.log').read_text()[-2000:]}")
            address = line[line.index("http") :].split()[0]
            try:
                _until(lambda: _ready(address), "the gateway is ready")
                yield address
            finally:
                process.terminate()


class World:
    """The table in which every LLM has answered every query, and who is told what of it."""

    def __init__(self, folder: Path) -> None:
        self.llms = Llms.load(folder / LLMS)
        self.texts = read_frame(folder / QUERIES, ["query_text"])["query_text"].to_list()
        self.test = Outcomes.load(folder / ROUTING_TEST, self.llms)
        self.online = Outcomes.load(folder / "data/routing/online.parquet", self.llms)
        scale = cost_scale_of(Outcomes.load(folder / "data/routing/offline.parquet", self.llms))
        trade_off = ServingState.load(folder / "models/router").trade_off
        self.worth = utility(self.test.quality, scaled_cost(self.test.cost_usd, scale), trade_off, "convex")

    def earned(self, address: str) -> tuple[np.ndarray, str]:
        """Return what each held-out query earns by the decisions of a gateway, and the digest of its router."""
        arms, routers = [], set()
        with httpx.Client(timeout=60, trust_env=False) as client:
            for query in tqdm(self.test.queries, desc="held-out queries", leave=False, disable=None):
                body = {"model": "auto", "messages": _said(self.texts[query]), "store": False}
                told = client.post(f"{address}/v1/route", json=body).raise_for_status().json()["decision"]
                # What serves explores; what is compared is what it takes for best.
                best = max((arm for arm in told["arms"] if arm["admissible"]), key=lambda arm: arm["score"])
                arms.append(self.llms.names.index(best["llm"]))
                routers.add(told["router"])
        if len(routers) != 1:
            sys.exit(f"error: the router changed while it was judged: {', '.join(sorted(routers))}")
        return self.worth[np.arange(len(arms)), arms], routers.pop()

    def teach(self, address: str, count: int) -> int:
        """Ask queries and tell how good the answers were; return how many."""
        rows = range(min(count, len(self.online)))
        with httpx.Client(timeout=60, trust_env=False) as client:
            for row in tqdm(rows, desc="queries with feedback", leave=False, disable=None):
                answer = _ask(client, address, self.texts[self.online.queries[row]]).raise_for_status()
                arm = self.llms.names.index(answer.headers["x-symbiosis-model"])
                told = {
                    "decision": answer.headers["x-symbiosis-decision"],
                    "quality": float(self.online.quality[row, arm]),
                    "response_tokens": float(self.online.response_tokens[row, arm]),
                }
                client.post(f"{address}/v1/feedback", json=told).raise_for_status()
        return len(rows)


class Requests:
    """Requests that keep coming in a thread of their own; `sent` and `failed` count them."""

    def __init__(self, address: str) -> None:
        self.sent = self.failed = 0
        self._address, self._stop = address, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Requests":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not self._stop.wait(0.1):
                self.sent += 1
                try:
                    answer = _ask(client, self._address, f"What is {self.sent} squared?")
                    self.failed += answer.status_code != 200 or answer.headers["x-symbiosis-mode"] != "apply"
                except httpx.HTTPError:
                    self.failed += 1


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _ask(client: httpx.Client, address: str, text: str) -> httpx.Response:
    body = {"model": "auto", "messages": _said(text), "max_tokens": 1}
    return client.post(f"{address}/v1/chat/completions", json=body)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _until(holds: Any, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            sys.exit(f"error: after {PATIENCE_S:g} s it is still not so that {what}")
        time.sleep(0.2)


def run(folder: Path, queries: int = 500, flow: str = "nightly") -> Loop:
    """Go round the loop in a new clone.

    Parameters
    ----------
    folder
        Of the clone; is made.
    queries
        To serve with feedback.
    flow
        ``nightly``, or ``hourly`` for the router's branch alone.
    """
    loop, clone = Loop(), Clone(folder)
    override(folder / "params.yaml", SMALL)
    _say(f"1. {flow} flow on few answered queries")
    clone.run("flows.nightly", flow)
    world = World(folder)
    first: np.ndarray = np.zeros(0)

    def judge(step: str, address: str) -> None:
        nonlocal first
        earned, router = world.earned(address)
        first = first if len(first) else earned
        gain = means_with_intervals((earned - first)[:, None], SAMPLES, SEED)[0]
        loop.utility[step], loop.champions[step] = float(earned.mean()), router
        loop.gains[step] = gain["mean"], gain["low"], gain["high"]
        _say(f"   {step}: router {router}, utility {earned.mean():.4f}, {gain['mean']:+.4f} against the first")

    def changes(step: str, *command: str) -> None:
        """Run a command under load; a champion that changes must serve soon after it."""
        before = _champion(folder)
        with Requests(address) as requests:
            clone.run(*command)
            if _champion(folder) != before:
                _until(lambda: world_router(address) != loop.champions["served"], "the new champion serves")
            time.sleep(1.0)
        loop.requests, loop.failed = loop.requests + requests.sent, loop.failed + requests.failed
        verdict = CHAMPION_ROUTER.parent / "verdict.json"
        loop.verdicts[step] = json.loads((folder / verdict).read_text())

    def world_router(address: str) -> str:
        body = {"model": "auto", "messages": _said("Which router is this?"), "store": False}
        told = httpx.post(f"{address}/v1/route", json=body, timeout=60, trust_env=False).json()
        loop.champions["served"] = loop.champions.get("served") or told["decision"]["router"]
        return str(told["decision"]["router"])

    with clone.gateway() as address:
        judge("first champion", address)
        _say(f"2. {queries} queries with feedback")
        loop.served = world.teach(address, queries)
        time.sleep(3.0)  # the learner looks every second
        judge("after learning online", address)
        loop.champions["served"] = loop.champions["after learning online"]
        _say(f"3. {flow} flow with that feedback")
        changes("trained on feedback", "flows.nightly", flow)
        judge("trained on feedback", address)
        _say(f"4. {flow} flow on shuffled labels")
        _shuffle(folder)
        changes("shuffled labels", "flows.nightly", flow)
        judge("shuffled labels", address)
        _say("5. rollback")
        loop.champions["served"] = loop.champions["shuffled labels"]
        changes("rollback", "symbiosis", "models", "rollback", "router")
        judge("rollback", address)
    loop.champions.pop("served")
    return loop


def _champion(folder: Path) -> str:
    link = folder / CHAMPION_ROUTER
    return link.readlink().as_posix() if link.is_symlink() else ""


def _shuffle(folder: Path) -> None:
    """Give the pipeline a table whose training labels are drawn anew; the held-out queries stay as they are.

    All training queries are in it with all answers, so that nothing else can make up for them.
    """
    table = generate(SMALL["download_routing.synthetic"]["queries"], _seed(folder))
    texts = set(read_frame(folder / QUERIES, ["query_text"])["query_text"].gather(_test_rows(folder)).to_list())
    held_out = table["query_text"].is_in(list(texts)).to_numpy()
    rows = np.flatnonzero(~held_out)
    quality = table["quality"].to_numpy().copy()
    quality[rows] = np.random.default_rng(SEED).permutation(quality[rows])
    target = folder / "data/local/routing/shuffled.parquet"
    table.with_columns(quality=quality).write_parquet(target)
    changed = {
        "download_routing.source": "table",
        "download_routing.path": "data/local/routing/shuffled.parquet",
        "clean_routing.online_share": 0.05,
    }
    override(folder / "params.yaml", changed)


def _seed(folder: Path) -> int:
    return int(yaml.safe_load((folder / "params.yaml").read_text())["download_routing"]["seed"])


def _test_rows(folder: Path) -> np.ndarray:
    return Outcomes.load(folder / ROUTING_TEST, Llms.load(folder / LLMS)).queries


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Go round once and print what happened as Markdown."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.closed_loop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=500, help="to serve with feedback (default: 500)")
    parser.add_argument("--flow", choices=["nightly", "hourly"], default="nightly", help="hourly: the router's branch")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the clone here")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the numbers as JSON, too")
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp())
    try:
        loop = run(chosen.keep or place / "clone", chosen.queries, chosen.flow)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    print("\n| after | router | utility | against the first champion [95 %] |\n| --- | --- | ---: | ---: |")
    for step, value in loop.utility.items():
        mean, low, high = loop.gains[step]
        print(f"| {step} | {loop.champions[step]} | {value:.4f} | {mean:+.4f} [{low:+.4f}, {high:+.4f}] |")
    print(f"\n{loop.served} queries with feedback; {loop.requests} requests meanwhile, {loop.failed} of them failed.")
    if chosen.output:
        write_json(chosen.output, asdict(loop))


if __name__ == "__main__":
    main()
