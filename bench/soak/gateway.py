"""A gateway for many minutes among faults: does it fail by itself, grow, lose something or count it twice?

    python -m bench.soak gateway --minutes 20
    python -m bench.soak gateway --minutes 20 --store postgresql+psycopg://USER@HOST/NAME

Two simulated upstreams answer; a third address is dead. Answers fail by chance and by order: 429, 5xx, stalls, cut
streams, garbage, late ones. One upstream is killed and started again every few minutes, clients leave, feedback comes
late and twice, LLMs are drained, prices change; half-way the gateway is killed and started again. At the end what the
clients heard is compared with the store. Exits with 1 if a check fails. Needs models/ (`dvc checkout`).
"""

import argparse
import asyncio
import hashlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import yaml

from bench.children import write_report
from bench.gateway_load import vocabulary
from bench.soak.clients import Client, Heard
from bench.soak.judging import Check, checks, cpu_ms
from bench.soak.world import ROOT, Process, free_port, order
from symbiosis.core.artifacts import write_json
from symbiosis.gateway.simulation.llms import upstream_config

KEY = "secret-of-the-application"
FAULTS = (
    "hang",
    "hang-after=3",
    "garbage",
    "error-after=3",
    "disconnect-after=3",
    "no-usage",
    "status=503",
    "drip=0.02",
)
SAMPLE_S = 5.0


class Sample(NamedTuple):
    """What the gateway takes at a moment: seconds, its life, MB, files, threads, requests so far, CPU seconds."""

    at: float
    life: int
    mb: float
    files: int
    threads: int
    sent: int
    cpu_s: float


class World:
    """The gateway, its upstreams and its clients.

    Parameters
    ----------
    folder
        Empty.
    options
        Of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options, self.heard = folder, options, Heard()
        (folder / "models").symlink_to((ROOT / "models").resolve())
        port, ports = free_port(), [free_port() for _ in range(3)]
        self.address = f"http://127.0.0.1:{port}"
        self.urls = [f"http://127.0.0.1:{one}/v1" for one in ports]
        simulate = ["symbiosis", "upstreams", "simulate", "--speed", "30", "--failures", "0.05", "--port"]
        self.upstreams = [
            Process([*simulate, str(one)], folder, f"{url}/models")
            for one, url in zip(ports[:2], self.urls[:2], strict=True)
        ]
        self.gateway = Process(["symbiosis", "gateway", "--port", str(port)], folder, f"{self.address}/health/ready")
        self.store = options.store or f"sqlite:///{folder}/.router/store.db"
        self.samples: list[Sample] = []
        self.names = self._write_config()

    def _write_config(self) -> list[str]:
        whole = upstream_config(self.urls[0], self.folder).model_dump(mode="json", exclude_none=True)
        llms = whole["llms"]
        parts = [llms[:3], llms[3:-1], llms[-1:]]
        entry = {"name": "app", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), "budget_usd": 1000}
        config = {
            "default": llms[0]["name"],
            "store": self.store,
            "upstreams": [
                {"name": f"u{number}", "base_url": url, "llms": part}
                for number, (url, part) in enumerate(zip(self.urls, parts, strict=True))
                if part
            ],
            "keys": {"required": True, "entries": [entry]},
            "limits": {"connect_s": 2, "first_byte_s": 3, "answer_s": 5, "idle_s": 3},
            "breaker": {"failures": 5, "open_s": 5},
            "exploration": {"kind": "epsilon", "amount": 0.1},
            "policies": {"careful": {"floor": 0.6}, "capped": {"usd_per_query": 0.001}},
            "recommender": {"enabled": False},
        }
        (self.folder / "gateway.yaml").write_text(yaml.safe_dump(config))
        return [llm["name"] for llm in llms]

    async def run(self) -> None:
        """Start everything, let it work for the given minutes, and wait until all is learned."""
        begun = time.time()
        self.until = begun + 60 * self.options.minutes
        for upstream in self.upstreams:
            upstream.start()
        self.gateway.start()
        try:
            headers = {"authorization": f"Bearer {KEY}"}
            limits = httpx.Limits(max_connections=200)
            async with httpx.AsyncClient(
                base_url=self.address, headers=headers, timeout=30, limits=limits, trust_env=False
            ) as web:
                models = ["auto"] * 6 + ["auto:careful", "auto:capped", self.names[0], self.names[-1]]
                words, pause_s = vocabulary(), self.options.clients / self.options.per_s
                clients = [
                    Client(web, self.heard, models, words, seed, pause_s) for seed in range(self.options.clients)
                ]
                trouble = [asyncio.create_task(work) for work in (self._watch(), self._faults(), self._admin())]
                trouble += [asyncio.create_task(work) for work in (self._restarts(), self._kill(begun))]
                await asyncio.gather(*(client.work(lambda: time.time() > self.until) for client in clients))
                await asyncio.gather(*trouble)
            await asyncio.sleep(5)  # what nobody waits for is written, and learned
            self._sample()
        finally:
            for process in (self.gateway, *self.upstreams):
                await asyncio.to_thread(process.end)

    async def _every(self, seconds: float) -> bool:
        await asyncio.sleep(max(min(seconds, self.until - time.time()), 0))
        return time.time() < self.until

    def _sample(self) -> None:
        seen = self.gateway.seen
        size = seen.memory_info().rss / 1e6
        self.samples.append(
            Sample(
                time.time(),
                self.gateway.lives,
                size,
                seen.num_fds(),
                seen.num_threads(),
                self.heard.sent,
                sum(seen.cpu_times()[:2]),
            )
        )

    async def _watch(self) -> None:
        told = time.time()
        while await self._every(SAMPLE_S):
            try:
                self._sample()
            except Exception:  # it is killed at this moment
                continue
            if time.time() - told > 60:
                told, last = time.time(), self.samples[-1]
                print(
                    f"{last.sent:,} requests, {last.mb:.0f} MB, {last.files} files, {self.heard.outcomes}", flush=True
                )

    async def _faults(self) -> None:
        number = 0
        while await self._every(4):
            await asyncio.to_thread(order, self.urls[number % 2], FAULTS[number % len(FAULTS)], 1 + number % 3)
            number += 1

    async def _restarts(self) -> None:
        while await self._every(150):
            await self.upstreams[1].again(kill=True, pause_s=10)

    async def _kill(self, begun: float) -> None:
        await asyncio.sleep((self.until - begun) / 2)
        await self.gateway.again(kill=True)

    async def _admin(self) -> None:
        headers, number = {"authorization": "Bearer admin"}, 0
        async with httpx.AsyncClient(base_url=self.address, headers=headers, timeout=30, trust_env=False) as web:
            while await self._every(20):
                name, drained = self.names[number // 2 % 3], number % 2 == 0
                work = [("/drain", {"drained": drained}), ("/prices", {"price_response": 0.5 + number % 5})]
                for path, body in work:
                    try:
                        answer = await web.post(f"/admin/llms/{name}{path}", json=body)
                        if answer.status_code != 200:
                            self.heard.wrong.append(f"admin: {answer.status_code} {answer.text[:200]}")
                        await web.get("/v1/summary", params={"hours": 1})
                        await web.get("/metrics")
                    except httpx.TransportError:
                        continue
                number += 1


def document(world: World, found: Sequence[Check]) -> dict[str, Any]:
    """Return the figures."""
    overhead = np.array(world.heard.overhead)
    begin, windows = world.samples[0].at, []
    for low in range(0, round(60 * world.options.minutes), max(round(12 * world.options.minutes), 1)):
        high = low + 12 * world.options.minutes
        inside = overhead[(overhead[:, 0] >= begin + low) & (overhead[:, 0] < begin + high), 1]
        samples = [one for one in world.samples if low <= one.at - begin < high]
        if len(inside) and samples:
            windows.append(
                {
                    "minutes": round(high / 60, 1),
                    "answers": len(inside),
                    "cpu_ms": round(cpu_ms(samples), 1),
                    "overhead_p50_ms": round(float(np.percentile(inside, 50)), 2),
                    "overhead_p99_ms": round(float(np.percentile(inside, 99)), 2),
                    "mb": round(float(np.median([one.mb for one in samples])), 1),
                    "files": max(one.files for one in samples),
                    "threads": max(one.threads for one in samples),
                    "life": samples[-1].life,
                }
            )
    return {
        "minutes": world.options.minutes,
        "store": world.store.split(":")[0],
        "requests": world.heard.sent,
        "outcomes": dict(world.heard.outcomes.most_common()),
        "windows": windows,
        "checks": [one._asdict() for one in found],
    }


def lines(told: dict[str, Any]) -> list[str]:
    """Return the figures as Markdown."""
    columns = list(told["windows"][0])
    table = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    table += [f"| {' | '.join(str(window[column]) for column in columns)} |" for window in told["windows"]]
    result = [f"| {one['name']} | {one['words']} | {'yes' if one['passed'] else 'NO'} |" for one in told["checks"]]
    outcomes = ", ".join(f"{name} {count:,}" for name, count in told["outcomes"].items())
    return [
        f"# Soak of the gateway: `python -m bench.soak gateway --minutes {told['minutes']:g}`",
        "",
        f"{told['requests']:,} requests, store {told['store']}. Ended: {outcomes}.",
        "",
        *table,
        "",
        "| check | seen | passed |",
        "| --- | --- | --- |",
        *result,
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Soak from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak gateway", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--per-s", type=float, default=12, help="requests a second, about")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--store", help="URL; default: SQLite in a temporary folder")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), options)
        asyncio.run(world.run())
        found = checks(world)
        log = (Path(folder) / "gateway.log").read_text(errors="replace").splitlines()
    told = document(world, found)
    print("\n".join(lines(told)))
    print("\n".join(["", f"{len(log)} lines of the gateway's log, the last:", *log[-8:]]))
    if options.json:
        write_json(options.json, told)
    if options.report:
        write_report(options.report, lines(told))
    if not all(one.passed for one in found):
        sys.exit(1)
