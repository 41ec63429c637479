"""A routing service under many decisions with feedback: does it drift, grow or fill the disk?

Run it:  python -m bench.soak --decisions 1000000

Reports the largest difference between the kept inverse and a fresh solve, resident memory along the way, and the size
of the last version on disk.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from symbiosis.core.artifacts import write_json
from symbiosis.core.layout import ROUTER
from symbiosis.routing.learning.serving_state import ServingState
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import TradeOff
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.snapshots import save
from symbiosis.routing.serving.versions import Versions

CHECKS = 10
KEPT = 3


def soak(decisions: int, every: int, seed: int = 0) -> dict[str, object]:
    """Decide and learn; return the figures.

    Parameters
    ----------
    decisions
        How many; every one gets feedback.
    every
        A version is saved after so many.
    seed
        Of the queries and the answers.
    """
    known, router = ServingState.load(ROUTER), Router.load(ROUTER)
    service = RoutingService(router, TradeOff(known.trade_off), experience=known.experience)
    rng = np.random.default_rng(seed)
    dimension, process = len(router.feature_map.mean), psutil.Process()
    drift, memory, sizes = [], [], []
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        versions = Versions(Path(folder) / "state", keep=KEPT)
        for number in range(1, decisions + 1):
            vector = rng.standard_normal(dimension)
            decision = service.route(vector / np.linalg.norm(vector))
            service.feedback(decision.id, quality=float(rng.random()), response_tokens=float(rng.integers(1, 2000)))
            if number % every == 0:
                save(service, versions)
                sizes.append(sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()))
            if number % max(1, decisions // CHECKS) == 0:
                drift.append(inverse_error(service))
                memory.append(process.memory_info().rss)
                print(f"{number:,} decisions: error {drift[-1]:.2e}, {memory[-1] / 2**20:.0f} MiB", flush=True)
    return {
        "decisions": decisions,
        "seconds": round(time.process_time() - begun, 1),
        "largest_error_of_the_inverse": max(drift),
        "memory_mib": [round(size / 2**20, 1) for size in memory],
        "versions_mib": [round(size / 2**20, 2) for size in sizes],
    }


def inverse_error(service: RoutingService) -> float:
    """Return the largest difference of kept weights and inverses from a fresh solve, over the LLMs."""
    heads = service.router.heads
    fresh = heads.copy()
    for arm in range(len(fresh.weights)):
        fresh.refresh(arm)
    return float(np.abs(fresh.weights - heads.weights).max())


def main() -> None:
    """Soak from the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--decisions", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=50_000, help="decisions between saved versions")
    parser.add_argument("--output", type=Path, help="write the figures here, too")
    chosen = parser.parse_args()
    report = soak(chosen.decisions, chosen.every)
    print(report)
    if chosen.output:
        write_json(chosen.output, report)


if __name__ == "__main__":
    main()
