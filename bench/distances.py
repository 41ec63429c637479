"""Time hop distances beside networkx, scipy, igraph, rustworkx and networkit, and at the largest synthetic scale.

    python -m bench.distances                 # the size of Amazon Beauty; names peers that are not installed
    python -m bench.distances --scale         # 95,421 users, 32,180 items, 834,514 interactions; needs 5 GB of disk
    python -m bench.distances --report reports/bench/distances.md   # also writes a report; one part per run

The graph is the real one if SYMBIOSIS_DATA_DIR names the folder that holds ``amazon/beauty14``, else a random one with
heavy tails. Every method runs in a separate process. Peers do the same work as ours: distances from all items to all
nodes, which cover every pair that a prompt can need. They may run on a sample of the sources, with the time scaled up;
their distances on that sample must equal ours. They return their result in memory, ours writes its two files.
"""

import argparse
import gzip
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.distance_peers import PEERS, THREADS, histogram
from symbiosis.graph.build import Graph, build_graph
from symbiosis.graph.connectivity import UNREACHABLE
from symbiosis.graph.params import BuildGraphParams, ShortestPathsParams
from symbiosis.graph.search import distances_between_users, write_distances

BEAUTY = (22_363, 12_101, 198_502)
LARGEST = (95_421, 32_180, 834_514)
BLOCK = 2048
BUILD = BuildGraphParams(minimum_group=2, maximum_group_share=0.5)


# ---------------------------------------------------------------- the graphs
def beauty() -> tuple[str, int, int, pl.DataFrame]:
    """Return the real interactions if the data is there, else random ones of the same size."""
    folder = os.environ.get("SYMBIOSIS_DATA_DIR")
    file = Path(folder, "amazon/beauty14/reviews_Beauty_5.json.gz") if folder else None
    if file is None or not file.exists():
        return "random graph of the size of Amazon Beauty", *random_interactions(*BEAUTY)
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        rows = [(row["reviewerID"], row["asin"]) for row in map(json.loads, lines)]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row").unique(maintain_order=True)
    frame = frame.select((pl.col(name).rank("dense") - 1).cast(pl.Int64) for name in frame.columns)
    n_users, n_items = (int(frame[name].n_unique()) for name in frame.columns)
    return "Amazon Beauty, 2014 5-core, all ratings", n_users, n_items, frame


def largest() -> tuple[str, int, int, pl.DataFrame]:
    """Return the positive interactions of the synthetic source at its largest size."""
    from symbiosis.reviews.params import SyntheticReviews
    from symbiosis.reviews.synthetic import generate

    n_users, n_items, n_edges = LARGEST
    world = generate(SyntheticReviews(users=n_users, items=n_items, interactions=n_edges, drift=0.3), seed=7)
    good = world.stars >= 4
    return "synthetic source", n_users, n_items, pl.DataFrame({"user": world.user[good], "item": world.item[good]})


def random_interactions(n_users: int, n_items: int, n_edges: int) -> tuple[int, int, pl.DataFrame]:
    """Draw interactions with heavy-tailed popularity and activity; every user has an item."""
    rng = np.random.default_rng(7)
    popularity = 1 / (np.arange(n_items) + 20.0) ** 0.8
    activity = rng.pareto(1.5, n_users) + 0.3
    drawn = 2 * n_edges
    users = np.concatenate([np.arange(n_users), rng.choice(n_users, drawn, p=activity / activity.sum())])
    items = rng.permutation(n_items)[rng.choice(n_items, len(users), p=popularity / popularity.sum())]
    frame = pl.DataFrame({"user": users, "item": items}).unique(maintain_order=True).head(n_edges)
    return n_users, n_items, frame


def graph_of(n_users: int, n_items: int, frame: pl.DataFrame) -> Graph:
    """Build the graph without brands and categories."""
    none = pl.DataFrame(
        {"item": range(n_items), "brand": [None] * n_items, "categories": [[]] * n_items},
        schema={"item": pl.Int64, "brand": pl.String, "categories": pl.List(pl.String)},
    )
    return build_graph(n_users, none, frame, BUILD)


# ---------------------------------------------------------------- one process each
def measure_peer(name: str, graph: Graph, sources: list[int]) -> dict[str, Any]:
    """Return a peer's seconds for some sources and its distances."""
    method, _, block, _ = PEERS[name]
    search, seconds, cpu, counts = method(graph), 0.0, 0.0, Counter[int]()
    for start in range(0, len(sources), block or len(sources)):
        part = sources[start : start + (block or len(sources))]
        began = time.perf_counter(), time.process_time()
        result = search(part)
        seconds, cpu = seconds + time.perf_counter() - began[0], cpu + time.process_time() - began[1]
        peak = peak_mb()
        if block:
            counts += histogram(result, graph.n_users + graph.n_items)
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "counts": sorted(counts.items())}


def measure_ours(graph: Graph, threads: int, folder: Path) -> dict[str, Any]:
    """Return our median seconds over five runs, files included; also for all nodes as sources."""
    items, users, cpu = [], [], []
    for _ in range(5):
        for name in ("user_item", "item_item"):
            (folder / f"{name}.npy").unlink(missing_ok=True)
        began = time.perf_counter(), time.process_time()
        write_distances(graph, folder, BLOCK, threads)
        items.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    peak = peak_mb()
    for _ in range(5):
        start = time.perf_counter()
        distances_between_users(graph, BLOCK, threads)
        users.append(time.perf_counter() - start)
    seconds = statistics.median(items)
    return {"items": seconds, "cpu": statistics.median(cpu), "all": seconds + statistics.median(users), "peak": peak}


def measure_stage(stage: str, folder: Path) -> dict[str, Any]:
    """Return seconds and peak memory of a whole stage, run in a folder with its inputs."""
    os.chdir(folder)
    began = time.perf_counter()
    if stage == "build_graph":
        from stages.build_graph import work as build

        build(BUILD)
    else:
        from stages.shortest_paths import work as search

        search(ShortestPathsParams(block=BLOCK, threads=THREADS, clip=6, damping=1.0))
    return {"seconds": time.perf_counter() - began, "peak": peak_mb()}


def peak_mb() -> float:
    """Return the peak resident memory of this process in MB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss may be inherited from the parent
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def in_process(*arguments: object) -> dict[str, Any] | str:
    """Run one measurement in a fresh process; return a message if it fails."""
    command = [sys.executable, "-m", "bench.distances", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return value


# ---------------------------------------------------------------- the two parts
def compare(say: Callable[[str], None], folder: Path) -> None:
    """Compare ours with every peer at the size of Amazon Beauty."""
    title, n_users, n_items, frame = beauty()
    graph = graph_of(n_users, n_items, frame)
    (folder / "graph").mkdir()
    graph.save(folder / "graph")
    say("## Side by side\n")
    say(f"Graph: {title}: {n_users:,} users, {n_items:,} items, {graph.n_edges:,} edges.\n")
    (folder / "ours").mkdir()
    ours = {}
    for threads in (1, THREADS):
        result = in_process("--measure", "ours", "--threads", threads, "--folder", folder)
        if isinstance(result, str):
            raise SystemExit(f"error: ours failed: {result}")
        ours[threads] = result
    best = ours[THREADS]
    say("| method | sources run | items to all nodes: s | ratio | CPU s | ratio | all to all: s | ratio | peak MB |")
    say("| --- " * 9 + "|")

    def row(name: str, sources: object, cost: dict[str, Any]) -> None:
        times = (f"{cost[key]:.2f} | {cost[key] / best[key]:.1f}" for key in ("items", "cpu", "all"))
        say(f"| {name} | {sources} | " + " | ".join(times) + f" | {cost['peak']:.0f} |")

    for threads, cost in ours.items():
        row(f"ours, {threads} thread{'s' * (threads > 1)}", "all", cost)
    missing = []
    for name, (_, package, _, size) in PEERS.items():
        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
            continue
        peer = run_whole(name, graph, folder) if size == 0 else run_sample(name, graph, folder, size)
        if isinstance(peer, str):
            say(f"| {name} | {peer} |" + " |" * 7)
        else:
            row(f"{name} {version}", size or "all", peer)
    say(
        f"\nRatios are to ours with {THREADS} threads. Peers that run on a sample have their time multiplied up to all "
        "sources, and their distances on the sample of items equal ours; `distance_matrix` takes no choice of sources, "
        "so that its first time is its second pro rata. Ours writes the first kind to disk (one byte a pair) and only "
        "counts the distances between users, which no prompt asks for; peers keep their results in memory, and the "
        "making of their graph is not counted. CPU seconds sum over threads and depend less on what else runs. "
        "rustworkx's `distance_matrix` and networkit run in parallel."
    )
    for package in sorted(set(missing)):
        say(f"\nNot installed, skipped: {package} (`pip install -e .[bench]`).")


def run_sample(name: str, graph: Graph, folder: Path, size: int) -> dict[str, Any] | str:
    """Return seconds from all items and from all nodes, scaled up from samples, and peak MB; check the distances."""
    n_nodes = graph.n_users + graph.n_items
    rng = np.random.default_rng(7)
    items = np.sort(rng.permutation(graph.n_items)[:size])
    found = []
    for sources in (items + graph.n_users, np.sort(rng.permutation(n_nodes)[:size])):
        np.save(folder / "sources.npy", sources)
        result = in_process("--measure", name, "--folder", folder)
        if isinstance(result, str):
            return f"failed: {result}"
        found.append(result)
    ours = [np.load(folder / f"ours/{file}.npy", mmap_mode="r")[:, items] for file in ("user_item", "item_item")]
    expected = np.bincount(np.concatenate(ours).ravel(), minlength=UNREACHABLE + 1)
    if dict(found[0]["counts"]) != {hops: count for hops, count in enumerate(expected.tolist()) if count}:
        raise SystemExit(f"error: {name} finds other distances than ours")
    return {
        "items": found[0]["seconds"] / len(items) * graph.n_items,
        "cpu": found[0]["cpu"] / len(items) * graph.n_items,
        "all": found[1]["seconds"] / len(items) * n_nodes,
        "peak": max(result["peak"] for result in found),
    }


def run_whole(name: str, graph: Graph, folder: Path) -> dict[str, Any] | str:
    """Return the same for a method that always computes all sources; the items' time is pro rata."""
    n_nodes = graph.n_users + graph.n_items
    if 10 * n_nodes**2 > available_bytes():
        return f"not run: its matrix takes {8 * n_nodes**2 / 1e9:.1f} GB"
    np.save(folder / "sources.npy", np.arange(n_nodes))
    result = in_process("--measure", name, "--folder", folder)
    if isinstance(result, str):
        return f"failed: {result}"
    share = graph.n_items / n_nodes
    seconds = result["seconds"]
    return {"items": seconds * share, "cpu": result["cpu"] * share, "all": seconds, "peak": result["peak"]}


def scale(say: Callable[[str], None], folder: Path) -> None:
    """Time both stages at the largest synthetic size."""
    title, n_users, n_items, frame = largest()
    clean = folder / "data/clean"
    clean.mkdir(parents=True)
    rng = np.random.default_rng(7)
    pl.DataFrame({"user": range(n_users)}).write_parquet(clean / "users.parquet")
    names = pl.Series([f"Brand {number}" for number in rng.integers(n_items // 10, size=n_items)])
    kinds = pl.Series([[f"Category {number}"] for number in rng.integers(190, size=n_items)])
    pl.DataFrame({"item": range(n_items), "brand": names, "categories": kinds}).write_parquet(clean / "items.parquet")
    frame.write_parquet(clean / "train.parquet")
    say("## The largest synthetic scale\n")
    say(f"Graph: {title}: {n_users:,} users, {n_items:,} items, {len(frame):,} edges. {THREADS} threads.\n")
    say("| stage | seconds | peak resident MB | written MB |")
    say("| --- | --- | --- | --- |")
    for stage, target in (("build_graph", "graph"), ("shortest_paths", "distances")):
        result = in_process("--measure", stage, "--folder", folder)
        if isinstance(result, str):
            raise SystemExit(f"error: {stage} failed: {result}")
        written = sum(file.stat().st_size for file in (folder / "data" / target).iterdir()) / 1e6
        say(f"| {stage} | {result['seconds']:.1f} | {result['peak']:.0f} | {written:,.0f} |")
    summary = json.loads((folder / "data/distances/summary.json").read_text())
    for pairs in ("user_item_pairs", "item_item_pairs"):
        total = sum(summary[pairs].values())
        shares = (f"{hops}: {count / total:.2%}" for hops, count in summary[pairs].items())
        say(f"\n{pairs.replace('_', '-', 1).replace('_', ' ')} by hops: " + ", ".join(shares) + ".")


def available_bytes() -> int:
    """Return the available memory, if the system reports it."""
    found = (
        re.findall(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()) if sys.platform == "linux" else []
    )
    return int(found[0]) * 1024 if found else 1 << 62


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", action="store_true", help="the stages at the largest synthetic scale instead")
    parser.add_argument("--report", type=Path, help="Markdown file: this run's part of it is replaced")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=THREADS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure in ("build_graph", "shortest_paths"):
        print(json.dumps(measure_stage(options.measure, options.folder)))
        return
    if options.measure:
        graph = Graph.load(options.folder / "graph")
        if options.measure == "ours":
            print(json.dumps(measure_ours(graph, options.threads, options.folder / "ours")))
        else:
            sources = np.load(options.folder / "sources.npy").tolist()
            print(json.dumps(measure_peer(options.measure, graph, sources)))
        return
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    with tempfile.TemporaryDirectory() as folder:
        (scale if options.scale else compare)(say, Path(folder))
    say(f"\nPython {platform.python_version()}, numpy {np.__version__}, {os.cpu_count()} cores.")
    if options.report:
        write_part(options.report, "\n".join(lines) + "\n")


def write_part(report: Path, part: str) -> None:
    """Replace the report's section of the same heading, or append it."""
    text = report.read_text(encoding="utf-8") if report.exists() else "# Hop distances: `python -m bench.distances`\n"
    heading = part.splitlines()[0]
    sections = [section for section in re.split(r"(?m)^(?=## )", text) if not section.startswith(heading)]
    report.parent.mkdir(parents=True, exist_ok=True)
    body = sorted(section.strip() for section in [*sections[1:], part])
    report.write_text("\n\n".join([sections[0].strip(), *body]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
