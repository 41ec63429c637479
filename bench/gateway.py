"""What the gateway adds to asking an upstream directly, beside a bare proxy and MLflow's AI Gateway.

    python -m bench.gateway                                  # prints tables; needs models/ (`dvc checkout` or a repro)
    python -m bench.gateway --json /tmp/gateway.json --report reports/bench/gateway.md
    python -m bench.gateway --only added                     # of: added, kept, memory, arms, workers

All ask the same simulated upstreams (`symbiosis upstreams simulate`), which run in a process of their own, as does the
client; rounds alternate between the servers, and what is told is the median over the rounds. Answers have 32 tokens.
Texts that were seen before are 32 that come again and again; the others are 36 words each, drawn anew. Set
OMP_NUM_THREADS=1. On fewer than four cores client, proxy and upstream share them: then the requests a second are those
of all three, and CPU per request (of the server's process alone) says more.
"""

import argparse
import json
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench.children import write_report
from bench.gateway_load import WORDS, Times
from bench.gateway_servers import (
    Load,
    Server,
    gateway,
    load_generator,
    mlflow_gateway,
    pass_through,
    router_of,
    upstream,
)

Say = Callable[[str], None]
DIRECT, BARE, OURS, NAMED, PEER = (
    "directly",
    "bare httpx proxy",
    "gateway, `auto`",
    "gateway, LLM named",
    "MLflow AI Gateway",
)
HERE = Path()
SLOW = 10.0
"""Speed of the upstream in `kept`: its answers then take about .06 s."""


class Side:
    """Servers side by side, and what was measured of them.

    Parameters
    ----------
    load
        Asks.
    rounds
        How often.
    """

    def __init__(self, load: Load, rounds: int) -> None:
        self._load, self._rounds, self._seed = load, rounds, 0

    def by_side(self, servers: dict[str, Server], **job: Any) -> dict[str, dict[str, float]]:
        """Ask all servers the same, and return for each one medians over the rounds."""
        found: dict[str, list[tuple[Times, float]]] = {name: [] for name in servers}
        for _ in range(self._rounds):
            for name, server in servers.items():
                found[name].append(self._measured(server, job))
        base = found.get(DIRECT)
        told = {}
        for name, several in found.items():
            numbers = {key: median(asdict(times)[key] for times, _ in several) for key in Times.__dataclass_fields__}
            numbers["cpu_ms"] = median(cpu for _, cpu in several)
            if base is not None:
                # Round by round: what else the machine does then hits both.
                pairs = [(times, direct) for (times, _), (direct, _) in zip(several, base, strict=True)]
                for key in ("p50_ms", "p99_ms", "first_p50_ms"):
                    numbers[f"added_{key}"] = median(getattr(one, key) - getattr(two, key) for one, two in pairs)
            told[name] = numbers
        return told

    def _measured(self, server: Server, job: dict[str, Any]) -> tuple[Times, float]:
        self._seed += 1
        before = server.cpu_s()
        times = self._load.ask(server, seed=self._seed, **job)
        return times, 1e3 * (server.cpu_s() - before) / job["requests"]

    def warm(self, servers: dict[str, Server]) -> None:
        """Ask each server a few times, streamed and not, and let it see the texts that come again."""
        for server in servers.values():
            for stream in (False, True):
                self._load.ask(server, stream=stream, requests=64, concurrency=4)


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _head(say: Say, *columns: str) -> None:
    say(_row(*columns))
    say("| --- " * len(columns) + "|")


def _told(numbers: dict[str, float]) -> list[str]:
    added = [f"{numbers[f'added_{key}']:.2f}" for key in ("p50_ms", "p99_ms", "first_p50_ms")]
    return [*added, f"{numbers['per_s']:.0f}", f"{numbers['cpu_ms']:.2f}", f"{1e3 / max(numbers['cpu_ms'], 1e-9):.0f}"]


def added(say: Say, side: Side, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Latency and CPU that each server adds, the upstream answering at once."""
    names, results = router_of(HERE, 6, folder), []
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(folder, float("inf"), names[:1]))
        ours = stack.enter_context(gateway(folder, direct))
        servers = {
            DIRECT: direct,
            BARE: stack.enter_context(pass_through(folder, direct)),
            OURS: ours,
            NAMED: Server(ours.url, names[:1], ours.process),
        }
        if not options.no_mlflow:
            servers[PEER] = stack.enter_context(mlflow_gateway(folder, direct))
        side.warm(servers)
        say("\n## Added to an upstream that answers at once, 6 LLMs\n")
        columns = ("added: p50 ms", "p99 ms", "first byte p50 ms", "answers a second", "CPU ms a request", "per core")
        _head(say, "texts", "streamed", "at once", "server", *columns)
        for seen in (True, False):
            for stream in (False, True):
                for concurrency in options.concurrency:
                    requests = max(options.requests // (1 if seen else 3), concurrency)
                    # Only routing knows texts: the others need not be asked again.
                    chosen = servers if seen else {DIRECT: direct, BARE: servers[BARE], OURS: ours}
                    found = side.by_side(chosen, seen=seen, stream=stream, concurrency=concurrency, requests=requests)
                    for name, numbers in found.items():
                        kind = "seen" if seen else f"new, {WORDS} words"
                        say(_row(kind, "yes" if stream else "no", concurrency, name, *_told(numbers)))
                        results.append(
                            {"seen": seen, "stream": stream, "at_once": concurrency, "server": name, **numbers}
                        )
    return results


def kept(say: Say, side: Side, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Share of the bare proxy's throughput, from an upstream that takes its time."""
    names, results = router_of(HERE, 6, folder), []
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(folder, SLOW, names[:1]))
        bare = stack.enter_context(pass_through(folder, direct))
        ours = stack.enter_context(gateway(folder, direct))
        servers = {DIRECT: direct, BARE: bare, OURS: ours}
        side.warm(servers)
        say(f"\n## Throughput from an upstream that takes its time ({SLOW:g} times as fast as an LLM, 8 workers)\n")
        _head(
            say, "texts", "at once", "server", "p50 ms", "answers a second", "of the bare proxy's", "CPU ms a request"
        )
        for seen in (True, False):
            for concurrency in (1, 8):
                requests = max(options.requests // 2, 30) if concurrency > 1 else max(options.requests // 8, 10)
                found = side.by_side(servers, seen=seen, concurrency=concurrency, requests=requests)
                for name, numbers in found.items():
                    share = 100 * numbers["per_s"] / found[BARE]["per_s"]
                    cells = (f"{numbers['p50_ms']:.1f}", f"{numbers['per_s']:.1f}", f"{share:.1f} %")
                    kind = "seen" if seen else f"new, {WORDS} words"
                    say(_row(kind, concurrency, name, *cells, f"{numbers['cpu_ms']:.2f}"))
                    results.append({"seen": seen, "at_once": concurrency, "server": name, **numbers})
    return results


def memory(say: Say, side: Side, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Memory before and after many requests, all of other texts."""
    names, results, once = router_of(HERE, 6, folder), [], Side(side._load, 1)
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(folder, float("inf"), names[:1]))
        servers = {
            BARE: stack.enter_context(pass_through(folder, direct)),
            OURS: stack.enter_context(gateway(folder, direct)),
        }
        if not options.no_mlflow:
            servers[PEER] = stack.enter_context(mlflow_gateway(folder, direct))
        once.warm(servers)
        many = options.memory_requests
        say(f"\n## Memory, {many:,} requests of as many texts of 3 words\n")
        _head(say, "server", "MB at first", "half-way", "at the end", "failed")
        for name, server in servers.items():
            sizes, failed = [server.memory_mb()], 0.0
            for _ in range(2):
                told = once.by_side({name: server}, seen=False, words=3, concurrency=8, requests=many // 2)
                sizes.append(server.memory_mb())
                failed += told[name]["failed"]
            say(_row(name, *(f"{size:.0f}" for size in sizes), f"{failed:.0f}"))
            results.append({"server": name, "mb": sizes, "failed": failed})
    return results


def arms(say: Say, side: Side, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """From one LLM to many."""
    results = []
    say("\n## From one LLM to many, texts seen before, not streamed\n")
    columns = ("added: p50 ms", "p99 ms", "first byte p50 ms", "answers a second", "CPU ms a request", "per core", "MB")
    _head(say, "LLMs", "at once", *columns)
    for n_llms in options.llms:
        place = folder / str(n_llms)
        names = router_of(HERE, n_llms, place)
        with ExitStack() as stack:
            direct = stack.enter_context(upstream(place, float("inf"), names[:1]))
            servers = {DIRECT: direct, OURS: stack.enter_context(gateway(place, direct))}
            side.warm(servers)
            for concurrency in options.concurrency[:2]:
                numbers = side.by_side(servers, concurrency=concurrency, requests=max(options.requests // 2, 10))[OURS]
                size = servers[OURS].memory_mb()
                say(_row(f"{n_llms:,}", concurrency, *_told(numbers), f"{size:.0f}"))
                results.append({"llms": n_llms, "at_once": concurrency, "mb": size, **numbers})
    return results


def workers(say: Say, side: Side, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """With one process and with two."""
    names, results = router_of(HERE, 6, folder), []
    say("\n## With several workers\n")
    _head(say, "workers", "texts", "at once", "answers a second", "p50 ms", "CPU ms a request", "MB", "failed")
    with upstream(folder, float("inf"), names[:1]) as direct:
        for number in (1, 2):
            with gateway(folder, direct, workers=number) as ours:
                side.warm({OURS: ours})
                for seen in (True, False):
                    requests = max(options.requests // (1 if seen else 3), 32)
                    numbers = side.by_side({OURS: ours}, seen=seen, concurrency=32, requests=requests)[OURS]
                    cells = (f"{numbers['per_s']:.0f}", f"{numbers['p50_ms']:.1f}", f"{numbers['cpu_ms']:.2f}")
                    size = ours.memory_mb()
                    say(_row(number, "seen" if seen else "new", 32, *cells, f"{size:.0f}", f"{numbers['failed']:.0f}"))
                    results.append({"workers": number, "seen": seen, "mb": size, **numbers})
    return results


PARTS = {"added": added, "kept": kept, "memory": memory, "arms": arms, "workers": workers}


def measure(say: Say, options: argparse.Namespace) -> dict[str, Any]:
    """Measure what was asked for, and return it."""
    document: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, load_generator(Path(folder)) as load:
        side = Side(load, options.rounds)
        for part in options.only:
            place = Path(folder, part)
            place.mkdir()
            document[part] = PARTS[part](say, side, options, place)
    client = [one["client_ms"] for found in document.values() for one in found if "client_ms" in one]
    if client:
        say(f"\nThe client takes {median(client):.2f} ms of CPU a request in the median.")
    return document


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--requests", type=int, default=300, help="of a measurement")
    parser.add_argument("--memory-requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--llms", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--no-mlflow", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args(arguments)
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    say("# The gateway's overhead: `python -m bench.gateway`")
    document = measure(say, options)
    say(
        f"\nMedians of {options.rounds} rounds. Python {platform.python_version()}, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} thread(s), {len(os.sched_getaffinity(0))} core(s)."
    )
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
