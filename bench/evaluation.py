"""Time ranking and metrics beside a loop over users.  Run it:  python bench/evaluation.py

The loop is the usual way: one user at a time, exclude his training items, `argsort` all scores, then sets and sums.
Both get the same precomputed scores, in blocks of one size, and must agree on every metric.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from symbiosis.recommender.metrics.metrics import DEPTH, HELD_OUT_SETS
from symbiosis.recommender.metrics.ranking import top_items


def interactions(users: int, items: int, each: int, rng: np.random.Generator) -> csr_array:
    """Draw distinct items per user."""
    columns = np.stack([rng.choice(items, each, replace=False) for _ in range(users)])
    rows = np.repeat(np.arange(users), each)
    return csr_array((np.ones(columns.size, np.float32), (rows, columns.ravel())), shape=(users, items))


def split(matrix: csr_array) -> tuple[csr_array, csr_array]:
    """One held-out item per user, the rest for training."""
    held = np.zeros(matrix.nnz, bool)
    held[matrix.indptr[:-1]] = True
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    parts = [
        csr_array((matrix.data[part], (rows[part], matrix.indices[part])), shape=matrix.shape) for part in (~held, held)
    ]
    return parts[0], parts[1]


def loop(scores: np.ndarray, train: csr_array, test: csr_array) -> dict[str, float]:
    """Evaluate one user at a time."""
    sums = {"recall@20": 0.0, "recall@40": 0.0, "ndcg@100": 0.0}
    for user, row in enumerate(scores):
        row = row.copy()
        row[train.indices[train.indptr[user] : train.indptr[user + 1]]] = -np.inf
        ranked = np.argsort(-row)[:DEPTH].tolist()
        wanted = set(test.indices[test.indptr[user] : test.indptr[user + 1]].tolist())
        for k in (20, 40):
            sums[f"recall@{k}"] += len(wanted.intersection(ranked[:k])) / min(k, len(wanted))
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(ranked) if item in wanted)
        sums["ndcg@100"] += gain / sum(1 / math.log2(place + 2) for place in range(min(DEPTH, len(wanted))))
    return {name: value / len(scores) for name, value in sums.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4096)
    parser.add_argument("--items", type=int, nargs="+", default=[1000, 4344, 12101, 32180])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{'items':>8}{'users':>8}{'loop, users/s':>16}{'ours, users/s':>16}{'ratio':>8}")
    for items in arguments.items:
        rng = np.random.default_rng(items)
        train, test = split(interactions(arguments.users, items, 10, rng))
        scores = rng.standard_normal((arguments.users, items), dtype=np.float32)
        scores[np.arange(arguments.users), test.indices] += 2

        def ours(scores: np.ndarray = scores, train: csr_array = train, test: csr_array = test) -> dict[str, float]:
            return HELD_OUT_SETS.means(top_items(scores, train, DEPTH, seed=0), test)

        seconds, results = [], []
        for work, repeats in ((lambda s=scores, a=train, b=test: loop(s, a, b), 1), (ours, arguments.repeats)):
            best = math.inf
            for _ in range(repeats):
                start = time.perf_counter()
                result = work()
                best = min(best, time.perf_counter() - start)
            seconds.append(best)
            results.append(result)
        if any(not math.isclose(results[0][name], results[1][name], rel_tol=1e-9) for name in results[0]):
            sys.exit(f"the two disagree: {results}")
        rates = [arguments.users / second for second in seconds]
        print(f"{items:>8,}{arguments.users:>8,}{rates[0]:>16,.0f}{rates[1]:>16,.0f}{rates[1] / rates[0]:>8.1f}")


if __name__ == "__main__":
    main()
