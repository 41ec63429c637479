"""Time what re-ranking costs a user.  Run it:  python -m bench.reranking --root FOLDER ...

One thread, the trained model of each folder. Parts one after another: all items scored by the model alone; candidates
proposed by stage one; their features; R's connections; the network that orders them. Then the best 100 items with and
without re-ranking, as they are served: the ratio is the cost of the second look.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.children import write_report
from symbiosis.core.layout import CLEAN
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.data.training_data import read_histories
from symbiosis.recommender.inference.loading import load_scorer
from symbiosis.recommender.metrics.metrics import protocol_of
from symbiosis.recommender.metrics.ranking import rank_all
from symbiosis.recommender.reranking.pairs import Connections, latest
from symbiosis.recommender.reranking.reranker import Describer

DEPTH, BLOCK = 100, 64


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long something takes, and what it returns."""
    begun = time.perf_counter()
    found = work()
    return time.perf_counter() - begun, found


@torch.no_grad()
def measure(root: Path, count: int) -> dict[str, float]:
    """Return milliseconds a user, by part.

    Raises
    ------
    SystemExit
        The folder holds no re-ranker.
    """
    scorer = load_scorer(root)
    reranker = scorer.reranker
    if reranker is None:
        raise SystemExit(f"error: {root} holds no re-ranker: run `dvc repro rerank`")
    read = read_histories(root / CLEAN, protocol_of(root / CLEAN).history_grows)
    users = np.random.default_rng(0).permutation(read.shape[0])[:count]
    stage_one, network = reranker.proposals, reranker.networks[0]  # type: ignore[attr-defined]
    maximum = reranker.maximum_items  # type: ignore[attr-defined]
    connections, describe = Connections(stage_one.terms), Describer(stage_one.terms, maximum)
    spent: dict[str, float] = {}
    plain, full = scorer.reranked_by(None).prepared(read), scorer.prepared(read)
    for start in range(-BLOCK, len(users), BLOCK):  # the first block warms up
        block = users[max(0, start) : max(0, start) + BLOCK]
        histories = [items_of(read, user) for user in block]
        parts: dict[str, float] = {}
        propose = stage_one.terms.proposed
        parts["proposals"], (scores, found) = seconds(lambda: propose(histories, stage_one.weights, stage_one.count))  # noqa: B023
        parts["features"], _ = seconds(lambda: stage_one.terms.features(histories, found, scores))  # noqa: B023
        parts["connections"], _ = seconds(lambda: connections(latest(histories, maximum), found))  # noqa: B023
        batch = describe(histories, found, scores)
        parts["network"], _ = seconds(lambda: network(batch))  # noqa: B023
        parts["not re-ranked"], _ = seconds(lambda: rank_all(plain, read, DEPTH, 0, block))  # noqa: B023
        parts["re-ranked"], _ = seconds(lambda: rank_all(full, read, DEPTH, 0, block))  # noqa: B023
        if start >= 0:
            spent = {name: spent.get(name, 0.0) + taken for name, taken in parts.items()}
    return {name: 1000 * taken / len(users) for name, taken in spent.items()} | {"items": read.shape[1]}


def main() -> None:
    """Measure every folder and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, nargs="+", required=True, help="folders with data/ and models/")
    parser.add_argument("--users", type=int, default=512)
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ("proposals", "features", "connections", "network", "not re-ranked", "re-ranked")
    lines = [
        "# Re-ranking: `python -m bench.reranking`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"| items | {', ms | '.join(names)}, ms | ratio |",
        f"| ---: |{' ---: |' * (len(names) + 1)}",
    ]
    for root in options.root:
        found = measure(root, options.users)
        cells = " | ".join(f"{found[name]:.2f}" for name in names)
        lines.append(f"| {found['items']:,} | {cells} | {found['re-ranked'] / found['not re-ranked']:.1f} |")
    print("\n".join(lines[4:]))
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
