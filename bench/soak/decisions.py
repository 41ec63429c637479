"""A router for a million decisions with feedback, through the store: does it drift, grow, or fill the disk?

    python -m bench.soak decisions --decisions 1000000
    python -m bench.soak decisions --decisions 20000 --at-once 1     # one by one, as a program without a gateway does

Decides, records decisions and calls, takes feedback in, learns, saves versions and deletes as a gateway's processes do:
what waits at the same moment shares a transaction. Only the encoder and HTTP are left out. Time is simulated, so many
decisions a day, so that what is kept for days is deleted, too. Reports the largest difference between the kept weights
and a fresh solve, milliseconds of each part, memory, and the size of store and versions. Needs models/.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from symbiosis.core.artifacts import write_json
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.records import CallEntry, DecisionEntry, StoreEntry
from symbiosis.routing.serving.retention import Retention
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.store import Store, Telling
from symbiosis.routing.serving.workspace import STORE, Workspace

CHECKS = 10
DRIFT = 1e-8
GROWTH = 0.1
"""Of memory from the second check on, as a share."""
WARM = 2
"""Checks after which memory must be level: the first versions are loaded, deletions have begun."""


class Soak:
    """One run.

    Parameters
    ----------
    folder
        Empty.
    options
        Of the command line.
    """

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.options = folder, options
        retention = Retention(options.days, options.explained_days, options.lessons)
        self.workspace = Workspace(folder / "state", encode=np.asarray, retention=retention)
        self.service = self.workspace.serving()
        self.learner = Learner(self.workspace)
        self.dimension = len(self.service.router.feature_map.mean)
        self.rng = np.random.default_rng(options.seed)
        self.seconds: Counter[str] = Counter()
        self.told = 0
        self.begin = time.time() - options.decisions * self.step_s

    @property
    def step_s(self) -> float:
        """Simulated seconds between two decisions."""
        return 86_400 / float(self.options.per_day)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Count the seconds of a part."""
        begun = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - begun

    def some(self, first: int, count: int) -> None:
        """Decide so many queries that come at once, record them with their calls, and take feedback in."""
        store, decided = self.workspace.store, []
        with self.timed("decide"):
            for number in range(first, first + count):
                vector = self.rng.standard_normal(self.dimension).astype(np.float32).astype(np.float64)
                decision = self.service.route(vector / np.float64(np.float32(np.linalg.norm(vector))))
                decision.record.at = self.begin + number * self.step_s
                decided.append(decision)
        with self.timed("record"):
            store.write([entry for decision in decided for entry in self.entries(decision)])
        with self.timed("feedback"):
            told = [
                Telling(one.id, Feedback(float(self.rng.random()), None, None), one.record.at + 1)
                for one in decided
                if self.rng.random() < self.options.told
            ]
            if any(outcome is not True for outcome in store.tell(told, lifetime_s=86_400)):
                sys.exit("error: feedback was not taken as new")
            self.told += len(told)

    def entries(self, decision: Decision) -> Iterator[StoreEntry]:
        """Give what a gateway writes of a decision and its call."""
        record = decision.record
        yield DecisionEntry(
            record,
            record.llm,
            "apply",
            decision.objective,
            decision.router,
            decision.version,
            "app",
            details=decision.to_dict(),
        )
        tokens = float(self.rng.integers(1, 2000))
        yield CallEntry(
            decision.id,
            1,
            record.llm,
            "simulated",
            record.at,
            200,
            total_s=1.0,
            prompt_tokens=record.prompt_tokens,
            response_tokens=tokens,
            cost_usd=tokens * 1e-6,
            api_key="app",
        )

    def run(self) -> dict[str, Any]:
        """Do all of it; return the figures."""
        options, process, checks = self.options, psutil.Process(), []
        begun, cpu = time.perf_counter(), time.process_time()
        for first in range(0, options.decisions, options.at_once):
            count = min(options.at_once, options.decisions - first)
            self.some(first, count)
            done = first + count
            if done // options.learn > first // options.learn or done == options.decisions:
                with self.timed("learn"):
                    self.learner.step()
                    self.learner.reload(self.service)
            if done // options.prune > first // options.prune:
                with self.timed("delete"):
                    self.workspace.prune(now=self.begin + done * self.step_s)
            every = max(options.decisions // CHECKS, 1)
            if done // every > first // every or done == options.decisions:
                checks.append(self.checked(done, process))
                print(checks[-1], flush=True)
        seconds = time.perf_counter() - begun
        return {
            "decisions": options.decisions,
            "told": self.told,
            "learned": self.service.learned,
            "seconds": round(seconds, 1),
            "cpu_s": round(time.process_time() - cpu, 1),
            "ms_of_each": {part: round(1e3 * spent / options.decisions, 4) for part, spent in self.seconds.items()},
            "checks": checks,
        }

    def checked(self, done: int, process: psutil.Process) -> dict[str, float]:
        """Return the figures of a moment."""
        state = self.folder / "state"
        sizes = {path: path.stat().st_size for path in state.rglob("*") if path.is_file()}
        stored = sum(size for path, size in sizes.items() if path.name.startswith(STORE))
        return {
            "decisions": done,
            "error_of_the_inverse": inverse_error(self.service),
            "memory_mib": round(process.memory_info().rss / 2**20, 1),
            "store_mib": round(stored / 2**20, 1),
            "versions_mib": round((sum(sizes.values()) - stored) / 2**20, 1),
            "versions": len(list(state.glob("v*"))),
        }


def inverse_error(service: RoutingService) -> float:
    """Return the largest difference of kept weights from a fresh solve, over the LLMs."""
    heads = service.router.heads
    fresh = heads.copy()
    for arm in range(len(fresh.weights)):
        fresh.refresh(arm)
    return float(np.abs(fresh.weights - heads.weights).max())


def faults(report: dict[str, Any], store: Store) -> list[str]:
    """Say what must not be so; empty where all is well."""
    checks = report["checks"]
    error = max(check["error_of_the_inverse"] for check in checks)
    memory = [check["memory_mib"] for check in checks[WARM:]] or [0.0]
    found = [
        (error > DRIFT, f"the inverse is off by {error:.1e}"),
        (max(memory) > (1 + GROWTH) * memory[0], f"memory grew from {memory[0]} to {max(memory)} MiB"),
        (report["learned"] != report["told"], f"{report['told']} told, {report['learned']} learned"),
        (store.news() != (report["told"], False), f"the store numbers {store.news()} of {report['told']}"),
    ]
    return [words for wrong, words in found if wrong]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak decisions", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--at-once", type=int, default=64, help="requests that share a transaction")
    parser.add_argument("--learn", type=int, default=5000, help="decisions between two saved versions")
    parser.add_argument("--prune", type=int, default=10_000, help="decisions between two deletions")
    parser.add_argument("--told", type=float, default=1.0, help="share of decisions with feedback")
    parser.add_argument("--per-day", type=float, default=10_000)
    parser.add_argument("--days", type=float, default=90)
    parser.add_argument("--explained-days", type=float, default=30)
    parser.add_argument("--lessons", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Soak from the command line."""
    options = parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        soak = Soak(Path(folder), options)
        report = soak.run()
        wrong = faults(report, soak.workspace.store)
        soak.workspace.store.close()
    print({name: value for name, value in report.items() if name != "checks"})
    if options.json:
        write_json(options.json, report)
    if wrong:
        sys.exit(f"error: {'; '.join(wrong)}")
