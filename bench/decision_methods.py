"""Ways to decide, ours and others', and how long their calls take, for `bench.decisions`."""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.decision_queries import World
from symbiosis.routing.metrics.utility import scaled_cost, utility
from symbiosis.routing.model.router import Router
from symbiosis.routing.model.single_query import SingleQuery

TRADE_OFF = 1.4
TRADE_OFFS = (0.2, 0.5, 1.0, TRADE_OFF, 2.0, 5.0, 10.0)  # where precisions are compared
NEIGHBOURS = 40
TREES = 100
WARM_UP = 5

PEER = """
import json, sys, time
import numpy as np
from pareto_bandit import BanditRouter, __version__
from pareto_bandit.feature_service import FeatureService
given = np.load(sys.argv[1])
x, prices = given["x"], given["prices"]
registry = {
    f"llm{n}": {"input_cost_per_m": float(a), "output_cost_per_m": float(b)} for n, (a, b) in enumerate(prices)
}
router = BanditRouter.create(
    model_registry=registry, feature_service=FeatureService.for_precomputed(dimension=x.shape[1]), priors="none"
)
wall, cpu, learn = [], [], []
for row in x:
    began = time.perf_counter_ns(), time.thread_time_ns()
    model, log = router.route(row)
    wall.append(time.perf_counter_ns() - began[0]); cpu.append(time.thread_time_ns() - began[1])
    began = time.perf_counter_ns()
    router.process_feedback(log.request_id, reward=1.0)
    learn.append(time.perf_counter_ns() - began)
print(json.dumps({"version": __version__, "wall": wall, "cpu": cpu, "learn": learn}))
"""

Decide = Callable[[int], Any]


# ---------------------------------------------------------------- clocks
class Times:
    """Wall and CPU milliseconds of a method's calls, one list a round."""

    def __init__(self) -> None:
        self.wall: list[np.ndarray] = []
        self.cpu: list[np.ndarray] = []

    def add(self, wall: Sequence[int], cpu: Sequence[int]) -> None:
        """Take nanoseconds of one round."""
        self.wall.append(np.array(wall[WARM_UP:]) / 1e6)
        self.cpu.append(np.array(cpu[WARM_UP:]) / 1e6)

    def cells(self) -> list[float]:
        """p50 and p99: wall time, median over the rounds; CPU time, of each query's least over the rounds."""
        wall = [float(np.median([np.quantile(one, share) for one in self.wall])) for share in (0.5, 0.99)]
        return wall + np.quantile(np.min(self.cpu, axis=0), (0.5, 0.99)).tolist()


def one_round(decide: Decide, queries: int) -> tuple[list[int], list[int]]:
    """Nanoseconds of each call."""
    wall, cpu = [], []
    for query in range(queries):
        began, used = time.perf_counter_ns(), time.thread_time_ns()
        decide(query)
        cpu.append(time.thread_time_ns() - used)
        wall.append(time.perf_counter_ns() - began)
    return wall, cpu


# ---------------------------------------------------------------- methods
def bare(router: Router, vectors: np.ndarray, tokens: float) -> Decide:
    """The decision alone: features, quality, length, cost, score, choice; nothing checked, explained or remembered."""
    single, arms, scale = SingleQuery(router), router.llms, router.cost_scale

    def decide(query: int) -> int:
        quality, length = single.means(single.features(vectors[query]))
        cost = scaled_cost(arms.cost_usd(tokens, length), scale)  # type: ignore[arg-type]
        return int(utility(quality, cost, TRADE_OFF).argmax())

    return decide


def in_batch(router: Router, vectors: np.ndarray, tokens: np.ndarray, trade_off: float = TRADE_OFF) -> np.ndarray:
    """The same for many queries at once, variances included, (N,)."""
    told = router.predict(router.feature_map(vectors), tokens)
    return utility(told.quality, scaled_cost(told.cost_usd, router.cost_scale), trade_off).argmax(axis=1)


def shares_alike(
    first: tuple[Router, np.ndarray], second: tuple[Router, np.ndarray], tokens: np.ndarray
) -> list[float]:
    """Share of the queries that two routers, each with its vectors, send to the same LLM, at each of `TRADE_OFFS`."""
    return [
        float((in_batch(*first, tokens, trade_off) == in_batch(*second, tokens, trade_off)).mean())
        for trade_off in TRADE_OFFS
    ]


def forests(world: World, train_rows: int, features: np.ndarray) -> Decide:
    """The published method as it is usually written: scikit-learn forests, asked one after the other."""
    from sklearn.ensemble import RandomForestRegressor

    quality, cost = world.outcomes.quality[:train_rows], world.outcomes.cost_usd[:train_rows].mean(axis=0)
    models = [
        RandomForestRegressor(TREES, min_samples_leaf=5, max_features=1 / 3, random_state=0, n_jobs=1).fit(
            features[:train_rows], column
        )
        for column in quality.T
    ]
    scaled = scaled_cost(cost, float(cost.max()))

    def decide(query: int) -> int:
        row = features[query][None]
        return int(utility(np.array([model.predict(row)[0] for model in models]), scaled, TRADE_OFF).argmax())

    return decide


def neighbours(world: World, train_rows: int) -> Decide:
    """RouterBench's kNN router with scikit-learn: quality and cost of the nearest training queries."""
    from sklearn.neighbors import KNeighborsRegressor

    outcomes = world.outcomes
    targets = np.hstack([outcomes.quality, outcomes.cost_usd])[:train_rows]
    model = KNeighborsRegressor(min(NEIGHBOURS, train_rows), algorithm="brute", metric="cosine", n_jobs=1)
    model.fit(world.vectors[:train_rows], targets)
    scale, n_llms = float(outcomes.cost_usd.max()), len(world.llms)

    def decide(query: int) -> int:
        told = model.predict(world.vectors[query][None])[0]
        return int(utility(told[:n_llms], scaled_cost(told[n_llms:], scale), TRADE_OFF).argmax())

    return decide


def published(python: str, router: Router, features: np.ndarray, folder: Path) -> dict[str, Any] | str:
    """Run ParetoBandit with an interpreter of its own; a message if that fails."""
    prices = 1e6 * np.column_stack([router.llms.price_prompt, router.llms.price_response])
    np.savez(folder / "queries.npz", x=features, prices=prices)
    done = subprocess.run(
        [python, "-c", PEER, str(folder / "queries.npz")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told
