"""Measure recommendations in service.  Run it:  python -m bench.recommendations --data FOLDER ... [--report FILE]

Each FOLDER holds data/ and models/ of a trained recommender, as `make repro` leaves them or as a bundle is; the gateway
takes its router from --router (this folder by default). Measured are, each in a process of its own:

- the first answer of a new process, as `symbiosis recommend` gives it: seconds and CPU seconds;
- answers over HTTP through a gateway, one client, then four at once: users that are known, with filters, with newer
  clicks, guests, texts, and users with texts;
- `symbiosis recommend --all`: users a second and peak memory for a quarter of the users, for half of them and for all;
- requests with random filters, after all that is timed: whether every item of every answer passes them, checked row by
  row.

The name of a FOLDER, be it a link, is that of its section.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl

from bench.children import measure_in_child, write_report
from symbiosis.core import layout

COUNT_OF_ALL = 100
SHARES = {0.25: "a quarter of the users", 0.5: "half", 1: "all"}
CLIENTS = 4
PATIENCE_S = 300.0
GATEWAY = {"limits": {"total_s": 60}}
Body = dict[str, Any]


def catalogue_size(data: Path) -> str:
    """Return the numbers of users, items and training interactions, in words."""
    counts = [
        pl.scan_parquet(data / file).select(pl.len()).collect().item()
        for file in (layout.USERS, layout.ITEMS, layout.TRAIN)
    ]
    return "{:,} users, {:,} items, {:,} training interactions".format(*counts)


def bodies(data: Path, kind: str, number: int) -> list[Body]:
    """Return requests of one kind, drawn from the data."""
    rng = np.random.default_rng(0)
    users = pl.read_parquet(data / layout.USERS)["user_id"].to_list()
    items = pl.read_parquet(data / layout.ITEMS, columns=["item_id", "title", "categories"])
    ids, titles, categories = (items[name].to_list() for name in ("item_id", "title", "categories"))
    made: list[Body] = []
    for _ in range(number):
        user: Body = {"user": users[rng.integers(len(users))]}
        item = int(rng.integers(len(ids)))
        session: Body = {"session": [ids[one] for one in rng.integers(0, len(ids), 3)]}
        words: Body = {"text": " ".join((titles[item] or "gift").split()[1:3]) or "gift"}
        narrow: Body = {"per_brand_limit": 2, "excluded": session["session"]}
        narrow |= {"categories": [(categories[item] or ["none"])[0]], "price_to": 40}
        made.append(
            {
                "known user": user,
                "known user, filters": user | narrow,
                "known user, 3 newer clicks": user | session,
                "guest, 3 items": session,
                "text": words,
                "known user and text": user | words,
            }[kind]
        )
    return made


KINDS = (
    "known user",
    "known user, filters",
    "known user, 3 newer clicks",
    "guest, 3 items",
    "text",
    "known user and text",
)


@contextmanager
def gateway(data: Path, router: Path) -> Iterator[str]:
    """Run a gateway with this recommender, and yield its address once it recommends."""
    with tempfile.TemporaryDirectory(prefix="bench-recommendations-") as folder:
        (Path(folder) / "models").symlink_to((router / "models").resolve())
        config = Path(folder) / "gateway.yaml"
        config.write_text(json.dumps(GATEWAY | {"recommender": {"folder": str(data.resolve())}}), encoding="utf-8")
        command = [sys.executable, "-m", "symbiosis", "gateway", "--config", str(config), "--port", "0"]
        root = str(Path(__file__).resolve().parents[1])
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | {"PYTHONPATH": root}, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            lines = iter(process.stdout.readline, "")
            address = next(line.split()[1] for line in lines if line.startswith("gateway"))
            deadline = time.monotonic() + PATIENCE_S
            while httpx.get(f"{address}/v1/users", timeout=60).status_code != 200:
                if time.monotonic() > deadline or process.poll() is not None:
                    sys.exit("error: the gateway does not recommend; its log says why")
                time.sleep(0.1)
            yield address
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()


def asked(address: str, requests: list[Body]) -> tuple[np.ndarray, int]:
    """Return the milliseconds of each request, one after the other, and how many failed."""
    times, failed = [], 0
    with httpx.Client(base_url=address, timeout=60) as client:
        for body in requests:
            began = time.perf_counter()
            answer = client.post("/v1/recommendations", json=body)
            times.append(1e3 * (time.perf_counter() - began))
            failed += answer.status_code not in (200, 422)  # 422: a text without a known word
    return np.array(times), failed


def measure_http(data: Path, router: Path, number: int) -> list[str]:
    """Return the rows of the table of latencies."""
    rows = []
    with gateway(data, router) as address:
        for kind in KINDS:
            requests = bodies(data, kind, number)
            asked(address, requests[:20])
            times, failed = asked(address, requests)
            began = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as clients:
                parts = list(
                    clients.map(lambda part: asked(address, part), (requests[k::CLIENTS] for k in range(CLIENTS)))
                )
            per_s = len(requests) / (time.perf_counter() - began)
            failed += sum(part[1] for part in parts)
            p50, p99 = np.percentile(times, (50, 99))
            together = np.percentile(np.concatenate([part[0] for part in parts]), 99)
            rows.append(f"| {kind} | {p50:.1f} | {p99:.1f} | {together:.1f} | {per_s:.0f} | {failed} |")
    return rows


def measure(way: str, data: Path, number: int = 0, share: float = 1.0) -> dict[str, Any]:
    """Measure one thing in this process: `number` requests with filters, or `share` of the users."""
    began = time.perf_counter()
    from symbiosis.recommender.inference.asking import RecommendationRequest
    from symbiosis.recommender.inference.recommender import Recommender

    recommender = Recommender.open(data)
    if way == "first":
        recommender.recommend(RecommendationRequest(user=0))
        return {"seconds": time.perf_counter() - began, "cpu_s": time.process_time()}
    if way == "filters":
        return filters(recommender, number)
    from symbiosis.recommender.inference.all_users import write_all

    _ = recommender.parts.score, recommender.parts.taken
    users = some_users(len(recommender.catalogue.users), share)
    before = resident_mib()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bench-recommendations-") as folder:
        output = Path(folder) / "all.parquet"
        rows = write_all(recommender, output, COUNT_OF_ALL, users=users)
        size = output.stat().st_size
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"users": len(users), "rows": rows, "mb": size / 1e6, "per_s": len(users) / seconds} | {
        "before_mib": before,
        "peak_mib": peak,
    }


def some_users(n_users: int, share: float) -> np.ndarray:
    """Return a share of the users, drawn evenly over their numbers."""
    return np.sort(np.random.default_rng(2).permutation(n_users)[: round(share * n_users)])


def resident_mib() -> float:
    """Return the memory of this process as it is now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * resource.getpagesize() / 1024**2


def filters(recommender: Any, number: int) -> dict[str, Any]:
    """Ask with random filters, and check every item of every answer by its row of ``items.parquet``."""
    from symbiosis.recommender.inference.asking import RecommendationRequest
    from symbiosis.recommender.inference.candidates import folded

    rng = np.random.default_rng(1)
    frame = recommender.parts.items
    if "price" not in frame.columns:
        frame = frame.with_columns(price=pl.lit(None, dtype=pl.Float64))
    table = frame.select("item_id", "brand", "categories", "price").to_dicts()
    ids = [row["item_id"] for row in table]
    brands = sorted({row["brand"] for row in table if row["brand"]})
    categories = sorted({name for row in table for name in row["categories"] or ()})
    dearest = max((row["price"] for row in table if row["price"]), default=1.0)
    users, taken = len(recommender.catalogue.users), recommender.parts.taken
    wrong = items = empty = 0
    for _ in range(number):
        low, high = sorted(rng.uniform(0, dearest, 2))
        user = int(rng.integers(users))
        asked_for = RecommendationRequest(
            user=user,
            count=int(rng.integers(1, 30)),
            allowed=tuple(rng.choice(ids, len(ids) // 2)) if rng.random() < 0.3 else None,
            excluded=tuple(rng.choice(ids, 5)),
            brands=tuple(rng.choice(brands, min(4, len(brands)))) if brands and rng.random() < 0.3 else (),
            categories=tuple(rng.choice(categories, 2)) if categories and rng.random() < 0.4 else (),
            price_from=low if rng.random() < 0.2 else None,
            price_to=high if rng.random() < 0.3 else None,
            repeat_purchases=bool(rng.random() < 0.3),
            per_brand_limit=int(rng.integers(1, 4)) if rng.random() < 0.5 else None,
        )
        found = recommender.recommend(asked_for).items
        own = set(taken.indices[taken.indptr[user] : taken.indptr[user + 1]].tolist())
        rows = [table[one.item] for one in found]
        # Names are compared in any case: catalogues write a brand in several ways.
        of_brand, of_category = ({*map(folded, names)} for names in (asked_for.brands, asked_for.categories))
        held = [
            len(found) <= asked_for.count,
            all(row["item_id"] not in asked_for.excluded for row in rows),
            asked_for.allowed is None or all(row["item_id"] in asked_for.allowed for row in rows),
            not asked_for.brands or all({folded(row["brand"] or "")} & of_brand for row in rows),
            not asked_for.categories or all(of_category & {*map(folded, row["categories"] or ())} for row in rows),
            asked_for.price_from is None or all((row["price"] or -1) >= asked_for.price_from for row in rows),
            asked_for.price_to is None or all((row["price"] or np.inf) <= asked_for.price_to for row in rows),
            asked_for.repeat_purchases or all(one.item not in own for one in found),
            asked_for.per_brand_limit is None
            or all(
                sum(row["brand"] == brand for row in rows) <= asked_for.per_brand_limit
                for brand in {row["brand"] for row in rows if row["brand"]}
            ),
        ]
        wrong += not all(held)
        items += len(found)
        empty += not found
    return {"requests": number, "wrong": wrong, "items": items, "empty": empty}


def circumstances() -> str:
    """Return the commit, the processor cores and the load of the machine, one line."""
    root = Path(__file__).resolve().parents[1]
    run = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=root, capture_output=True, text=True)
    commit = run.stdout.strip() or "unknown"
    return (
        f"Commit {commit}, {time.strftime('%Y-%m-%d')}; {os.cpu_count()} cores, which clients and gateway share, "
        f"{os.environ.get('OMP_NUM_THREADS', 'all')} of them for a process's arithmetic; load of the last minute "
        f"before anything was started: {os.getloadavg()[0]:.1f}."
    )


def checked(data: Path, filtered: int) -> str:
    """Return what the requests with random filters found."""
    held = measure_in_child("bench.recommendations", "filters", data, "--number", str(filtered))
    return (
        f"random filters: {held['requests']:,} requests, {held['items']:,} items listed, {held['empty']:,} answers "
        f"without an item; answers that break a filter: {held['wrong']}."
    )


def report(data: Path, router: Path, requests: int) -> list[str]:
    """Return the section of one data folder."""
    this = "bench.recommendations"
    first = measure_in_child(this, "first", data)
    lines = [
        f"## {data.absolute().name}",
        "",
        f"{catalogue_size(data)}.",
        "",
        f"First answer of a new process: {first['seconds']:.1f} s, {first['cpu_s']:.1f} s of CPU.",
        "",
        f"| over HTTP, {requests} requests each | p50 ms | p99 ms | p99 ms, {CLIENTS} clients | answers/s | failed |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *measure_http(data, router, requests),
        "",
        f"| `--all --count {COUNT_OF_ALL}` | users | rows | MB | users/s | MiB before | peak MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for share, name in SHARES.items():
        found = measure_in_child(this, "all", data, "--share", str(share))
        lines.append(
            f"| {name} | {found['users']:,} | {found['rows']:,} | {found['mb']:.1f} | {found['per_s']:.0f} | "
            f"{found['before_mib']:.0f} | {found['peak_mib']:.0f} |"
        )
    return [*lines, ""]


def main() -> None:
    """Measure each folder and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--router", type=Path, default=Path(), help="holds models/router and models/encoder")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--filtered", type=int, default=10_000)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--measure", choices=["first", "all", "filters"], help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--share", type=float, default=1.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure, given.data[0], given.number, given.share)))
        return
    lines = ["# Recommendations in service", "", circumstances(), ""]
    for data in given.data:
        lines += report(data, given.router, given.requests)
        if given.report:
            write_report(given.report, lines)  # what is measured is kept if the next folder fails
    for data in given.data if given.filtered else ():
        lines += [f"{data.absolute().name}: {checked(data, given.filtered)}", ""]
    print("\n".join(lines))
    if given.report:
        write_report(given.report, lines)


if __name__ == "__main__":
    main()
