"""The loop closed, from the first query to the rollback.  Run it:  python -m bench.closed_loop

In a clone in a temporary folder, by the commands that a user has:

1. the nightly flow trains on few answered queries; its router becomes the champion, the gateway serves it;
2. the gateway answers queries that no table of the pipeline holds, with exploration, and is told how good each answer
   was;
3. the nightly flow freezes that feedback and trains on it, the gate lets the candidate pass, and the running gateway
   takes it over while requests keep coming;
4. all labels of training are shuffled, those of the table and of the feedback; the nightly flow trains on them, and
   the gate refuses;
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
import polars as pl
from tqdm import tqdm

from bench.gateway_servers import gateway, upstream
from flows.overrides import override
from symbiosis.core.artifacts import read_frame, write_json
from symbiosis.core.layout import CHAMPION_ROUTER, EXPORTS, LLMS, OFFLINE, QUERIES, ROUTER, ROUTING_TEST
from symbiosis.core.statistics import means_with_intervals
from symbiosis.registry.gate import VERDICT
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.data.synthetic import generate
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.metrics.utility import cost_scale_of, scaled_cost, utility

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path("data/local/routing/table.parquet")
KNOWN, WORLD_SEED = 600, 29
"""Queries in the pipeline's table; of these many are held out and few are trained on."""
SMALL = {
    "download_routing.source": "table",
    "download_routing.path": TABLE.as_posix(),
    "clean_routing.test_share": 0.7,
    "clean_routing.online_share": 0.5,
    "compare_routers.splits": [1],
}
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
        names = Llms.load(self.folder / LLMS).names
        with (
            upstream(self.folder, float("inf"), names) as llms,
            gateway(self.folder, llms, exploration=EXPLORATION) as server,
        ):
            yield server.url.removesuffix("/v1/chat/completions")


class World:
    """Queries that every LLM has answered, some of them in the pipeline's table and some not.

    Parameters
    ----------
    queries
        Of the second kind.
    """

    def __init__(self, queries: int) -> None:
        everything = generate(KNOWN + queries, WORLD_SEED)
        known = everything["query_id"].is_in(everything["query_id"].unique(maintain_order=True).head(KNOWN).to_list())
        self.table, self.others = everything.filter(known), everything.filter(~known)

    def look(self, folder: Path) -> None:
        """Note which queries the pipeline holds out, and what each LLM earns on them."""
        self.llms = Llms.load(folder / LLMS)
        texts = read_frame(folder / QUERIES, ["query_text"])["query_text"]
        test = Outcomes.load(folder / ROUTING_TEST, self.llms)
        self.held_out = texts[test.queries].to_list()
        scale = cost_scale_of(Outcomes.load(folder / OFFLINE, self.llms))
        trade_off = ServingState.load(folder / ROUTER).trade_off
        self.worth = utility(test.quality, scaled_cost(test.cost_usd, scale), trade_off)

    def earned(self, address: str) -> tuple[np.ndarray, str]:
        """Return what each held-out query earns by the decisions of a gateway, and the digest of its router."""
        arms, routers = [], set()
        with httpx.Client(timeout=60, trust_env=False) as client:
            for text in tqdm(self.held_out, desc="held-out queries", leave=False, disable=None):
                body = {"model": "auto", "messages": _said(text), "store": False}
                told = client.post(f"{address}/v1/route", json=body).raise_for_status().json()["decision"]
                # What serves explores; what is compared is what it takes for best.
                best = max((arm for arm in told["arms"] if arm["admissible"]), key=lambda arm: arm["score"])
                arms.append(self.llms.names.index(best["llm"]))
                routers.add(told["router"])
        if len(routers) != 1:
            sys.exit(f"error: the router changed while it was judged: {', '.join(sorted(routers))}")
        return self.worth[np.arange(len(arms)), arms], routers.pop()

    def teach(self, address: str) -> int:
        """Ask the other queries and tell how good the answers were; return how many."""
        columns = ("query_text", "llm", "quality", "response_tokens")
        known = {(text, llm): (quality, tokens) for text, llm, quality, tokens in self.others[columns].iter_rows()}
        texts = self.others["query_text"].unique(maintain_order=True).to_list()
        with httpx.Client(timeout=60, trust_env=False) as client:
            for text in tqdm(texts, desc="queries with feedback", leave=False, disable=None):
                answer = _ask(client, address, text).raise_for_status()
                quality, tokens = known[text, answer.headers["x-symbiosis-model"]]
                told = {"decision": answer.headers["x-symbiosis-decision"], "quality": quality}
                client.post(f"{address}/v1/feedback", json=told | {"response_tokens": tokens}).raise_for_status()
        return len(texts)


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
    body = {"model": "auto", "messages": _said(text)}
    return client.post(f"{address}/v1/chat/completions", json=body)


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
    loop, clone, world = Loop(), Clone(folder), World(queries)
    world.table.write_parquet(folder / TABLE)
    override(folder / "params.yaml", SMALL)
    _say(f"1. {flow} flow on few answered queries")
    clone.run("flows.nightly", flow)
    world.look(folder)
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
        verdict = CHAMPION_ROUTER.parent / VERDICT
        loop.verdicts[step] = json.loads((folder / verdict).read_text())

    def world_router(address: str) -> str:
        body = {"model": "auto", "messages": _said("Which router is this?"), "store": False}
        told = httpx.post(f"{address}/v1/route", json=body, timeout=60, trust_env=False).json()
        loop.champions["served"] = loop.champions.get("served") or told["decision"]["router"]
        return str(told["decision"]["router"])

    with clone.gateway() as address:
        judge("first champion", address)
        _say("2. queries with feedback")
        loop.served = world.teach(address)
        time.sleep(3.0)  # the learner looks every second
        judge("after learning online", address)
        loop.champions["served"] = loop.champions["after learning online"]
        _say(f"3. {flow} flow with that feedback")
        changes("trained on feedback", "flows.nightly", flow)
        judge("trained on feedback", address)
        _say(f"4. {flow} flow on shuffled labels")
        _shuffle(folder, world.table)
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


def _shuffle(folder: Path, table: pl.DataFrame) -> None:
    """Shuffle all labels that reach training: of the table but for the held-out queries, and of the feedback."""
    rng = np.random.default_rng(SEED)
    texts = read_frame(folder / QUERIES, ["query_text"])["query_text"]
    test = Outcomes.load(folder / ROUTING_TEST, Llms.load(folder / LLMS))
    rows = np.flatnonzero(~table["query_text"].is_in(texts[test.queries].to_list()).to_numpy())
    quality = table["quality"].to_numpy().copy()
    quality[rows] = rng.permutation(quality[rows])
    table.with_columns(quality=quality).write_parquet(folder / TABLE)
    for file in sorted((folder / EXPORTS).glob("*.parquet")):
        log = pl.read_parquet(file)
        log.with_columns(quality=pl.Series(rng.permutation(log["quality"].to_numpy()))).write_parquet(file)


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
