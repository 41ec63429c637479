"""Several gateways on one PostgreSQL store: decisions a second, takeover of the learner, and what Ray Serve adds.

    python -m bench.many_gateways --store postgresql+psycopg://USER@HOST/NAME      # an empty database; needs models/
    python -m bench.many_gateways --store URL --only takeover                      # of: rate, takeover, ray

Each gateway has a folder of its own, as on a machine of its own; each has a client of its own, all at the same time.
Upstreams are simulated and answer at once. Where there are fewer cores than processes, CPU per decision says more than
decisions a second.
"""

import argparse
import json
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench.gateway_load import Times
from bench.gateway_servers import Load, Server, gateway, load_generator, router_of, upstream

HERE = Path()
ARMS = 6


def asked_at_once(pairs: Sequence[tuple[Load, Server]], requests: int, concurrency: int, seed: int) -> list[Times]:
    """Ask several servers at the same time, each by a client of its own."""
    found: dict[int, Times] = {}

    def ask(number: int, load: Load, server: Server) -> None:
        found[number] = load.ask(server, requests=requests, concurrency=concurrency, seed=seed + number)

    threads = [threading.Thread(target=ask, args=(number, *pair)) for number, pair in enumerate(pairs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in sorted(found)]


def folders(count: int, root: Path) -> tuple[list[str], list[Path]]:
    """Write folders with one router; return its LLMs and the folders."""
    made = [root / f"gateway{number}" for number in range(count)]
    names = [router_of(HERE, ARMS, folder) for folder in made]
    return names[0], made


def rate(store: str, root: Path, rounds: int, requests: int) -> None:
    """Decisions a second of one gateway and of two, by turns."""
    names, (first, second) = folders(2, root)
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(first, float("inf"), names))
        servers = [stack.enter_context(gateway(folder, direct, store=store)) for folder in (first, second)]
        loads = [stack.enter_context(load_generator(folder)) for folder in (first, second)]
        pairs = list(zip(loads, servers, strict=True))
        asked_at_once(pairs, 128, 4, 0)  # they warm up
        print("| gateways | decisions a second | p50 ms | p99 ms | CPU ms a decision |")
        print("| --- | ---: | ---: | ---: | ---: |")
        rows: dict[int, list[tuple[float, float, float, float]]] = {1: [], 2: []}
        for round_ in range(rounds):
            for count in (1, 2):
                before, began = sum(server.cpu_s() for server in servers), time.perf_counter()
                times = asked_at_once(pairs[:count], requests, 8, 10 * round_ + count)
                seconds = time.perf_counter() - began
                assert not any(one.failed for one in times)
                cpu = 1e3 * (sum(server.cpu_s() for server in servers) - before) / (requests * count)
                slowest = max(one.p50_ms for one in times), max(one.p99_ms for one in times)
                rows[count].append((requests * count / seconds, *slowest, cpu))
        for count, several in rows.items():
            per_s, p50, p99, cpu = (median(column) for column in zip(*several, strict=True))
            print(f"| {count} | {per_s:.0f} | {p50:.1f} | {p99:.1f} | {cpu:.2f} |")


def learner_here(server: Server) -> bool:
    """Whether a gateway is the one that learns."""
    address = server.url.removesuffix("/v1/chat/completions")
    try:
        with urllib.request.urlopen(f"{address}/health/ready", timeout=5) as answer:
            return bool(json.load(answer)["learner"]["here"])
    except (OSError, KeyError):
        return False


def takeover(store: str, root: Path, rounds: int, _: int) -> None:
    """Seconds from the kill of the gateway that learns until the other one says that it learns."""
    names, places = folders(2, root)
    seconds = []
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(places[0], float("inf"), names))
        held = [stack.enter_context(ExitStack()) for _ in places]
        running = [
            each.enter_context(gateway(place, direct, store=store)) for each, place in zip(held, places, strict=True)
        ]
        for _ in range(rounds):
            while not any(map(learner_here, running)):
                time.sleep(0.05)
            dies = next(number for number, server in enumerate(running) if learner_here(server))
            began = time.perf_counter()
            running[dies].process.kill()
            while not learner_here(running[1 - dies]):
                time.sleep(0.01)
            seconds.append(time.perf_counter() - began)
            held[dies].close()
            running[dies] = held[dies].enter_context(gateway(places[dies], direct, store=store))
    print(f"taken over after a kill: {', '.join(f'{each:.2f}' for each in sorted(seconds))} s")


def ray(store: str, root: Path, rounds: int, requests: int) -> None:
    """What Ray Serve's proxy adds: one replica beside one gateway by uvicorn alone, one request at a time and eight."""
    names, (plain, served) = folders(2, root)
    with ExitStack() as stack:
        direct = stack.enter_context(upstream(plain, float("inf"), names))
        servers = {
            "uvicorn": stack.enter_context(gateway(plain, direct, store=store)),
            "Ray Serve": stack.enter_context(gateway(served, direct, store=store, replicas=1)),
        }
        load = stack.enter_context(load_generator(plain))
        for server in servers.values():
            load.ask(server, requests=128, concurrency=4)
        print("| by | at once | p50 ms | p99 ms | answers a second | CPU ms an answer |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for concurrency in (1, 8):
            found: dict[str, list[tuple[float, ...]]] = {name: [] for name in servers}
            for round_ in range(rounds):
                for name, server in servers.items():
                    before = server.cpu_s()
                    times = load.ask(server, requests=requests, concurrency=concurrency, seed=round_)
                    assert not times.failed
                    cpu = 1e3 * (server.cpu_s() - before) / requests
                    found[name].append((times.p50_ms, times.p99_ms, times.per_s, cpu))
            for name, several in found.items():
                p50, p99, per_s, cpu = (median(column) for column in zip(*several, strict=True))
                print(f"| {name} | {concurrency} | {p50:.1f} | {p99:.1f} | {per_s:.0f} | {cpu:.2f} |", flush=True)


PARTS = {"rate": rate, "takeover": takeover, "ray": ray}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", required=True, metavar="URL")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=300, help="Of a round.")
    options = parser.parse_args()
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n{PARTS[name].__doc__}\n", flush=True)
            PARTS[name](options.store, Path(folder), options.rounds, options.requests)


if __name__ == "__main__":
    main()
