"""Time scoring and ranking of users in three ways.  Run it:  python -m bench.scoring --data FOLDER ...

All three use the same network with texts and graph terms (untrained: its numbers do not matter here), the same
prompts and the learned bias; apart from ties they return the same first 100 items. Ours: prompts of similar length in
one forward pass, the item table computed once, partial selection of the best 100. The loop: one user after another
with the same functions, the item table computed for each, `argsort` of all scores. Full sort, as recommender libraries
evaluate: padded batches in the given order, scores of training items set to minus infinity, `torch.topk`; this is
RecBole's algorithm reimplemented on our network, not RecBole. Each way runs in a separate process; memory is its peak
resident size.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch
import yaml

from bench.children import measure_in_child, write_report
from symbiosis.core.artifacts import read_array
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.inference.scoring import Recommender
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.metrics.ranking import rank_all
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.training.params import PretrainParams
from symbiosis.recommender.training.pretraining import untrained

DEPTH = 100
WAYS = ("ours", "loop", "full_sort")


def recommender_of(data: Path, params: PretrainParams) -> tuple[Recommender, Graph]:
    """Build an untrained recommender for a data set."""
    graph = Graph.load(data / "graph")
    documents = pl.read_parquet(data / "corpus/documents.parquet").filter(kind="interactions")
    torch.manual_seed(params.seed)
    texts = torch.from_numpy(read_array(data / "item_embeddings/vectors.npy"))
    model, vocabulary = untrained(params, documents, graph, texts)
    torch.nn.init.normal_(model.gates)
    bias = AttentionBias.load("learned", model.eval(), data / "graph", data / "distances")
    return Recommender(model, Prompts(vocabulary, 64), bias, Propagation.load(data / "propagation"), 0), graph


@torch.no_grad()
def measure(way: str, data: Path, params: PretrainParams, count: int) -> dict[str, float]:
    """Rank for the first users and return users per second."""
    recommender, graph = recommender_of(data, params)
    train = graph.interactions()
    users = np.random.default_rng(0).permutation(graph.n_users)[:count]

    def ours(part: np.ndarray) -> np.ndarray:
        return rank_all(recommender.scorer(train), train, DEPTH, 0, part)

    def loop(part: np.ndarray) -> np.ndarray:
        rows = []
        for user in part:
            scores = recommender.scores(np.array([user]), train)[0]
            scores[items_of(train, user)] = -np.inf
            rows.append(np.argsort(-scores)[:DEPTH])
        return np.stack(rows)

    def full_sort(part: np.ndarray) -> np.ndarray:
        rows = []
        model = recommender.model
        for start in range(0, len(part), 256):
            block = part[start : start + 256]
            items = [np.random.default_rng([0, int(user)]).permutation(items_of(train, user)) for user in block]
            ids, last = recommender.prompts(block.tolist(), items)
            hidden = model(torch.from_numpy(ids), recommender.bias(ids), model.collaborative)
            states = hidden[torch.arange(len(block)), torch.from_numpy(last)]
            assert recommender.propagation
            terms = torch.from_numpy(recommender.propagation.terms(items))
            scores = model.item_logits(states) + model.graph_logits(terms, states)
            for row, taken in enumerate(items):
                scores[row, torch.from_numpy(taken.astype(np.int64))] = -torch.inf
            rows.append(torch.topk(scores, min(DEPTH, scores.shape[1])).indices.numpy())
        return np.concatenate(rows)

    work = {"ours": ours, "loop": loop, "full_sort": full_sort}[way]
    work(users[:8])  # warms up
    begun = time.perf_counter()
    ranked = work(users)
    seconds = time.perf_counter() - begun
    return {"rate": len(users) / seconds, "first": int(ranked[:200, 0].sum())}


def main() -> None:
    """Measure every way on every data set and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders of pipelines that ran")
    parser.add_argument("--users", type=int, default=2000)
    parser.add_argument("--loop-users", type=int, default=200)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    document = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["pretrain"]
    document["scratch"] = {"vocabulary": 2000, "width": options.width, "layers": 2, "heads": 2}
    params = PretrainParams.model_validate(document)
    if options.measure:
        torch.set_num_threads(1)
        count = options.loop_users if options.measure == "loop" else options.users
        measured = measure(options.measure, options.data[0], params, count)
        print(json.dumps(measured | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        return
    lines = [
        "# Scoring: `python -m bench.scoring`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        "| users | items | ours, users/s | loop | ratio | full sort | ratio | peak MB: ours, loop, full sort |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    sizes = ["--users", str(options.users), "--loop-users", str(options.loop_users), "--width", str(options.width)]
    for data in options.data:
        found = {}
        for way in WAYS:
            found[way] = measure_in_child("bench.scoring", way, data, *sizes)
        if found["ours"]["first"] != found["full_sort"]["first"]:
            sys.exit("error: ours and the full sort rank other items first")
        graph = Graph.load(data / "graph")
        rates = [found[way]["rate"] for way in WAYS]
        peaks = ", ".join(f"{found[way]['peak']:,.0f}" for way in WAYS)
        lines.append(
            f"| {graph.n_users:,} | {graph.n_items:,} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[0] / rates[1]:.1f} "
            f"| {rates[2]:,.0f} | {rates[0] / rates[2]:.1f} | {peaks} |"
        )
        print(lines[-1], flush=True)
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
