"""Train the re-ranker of the best candidates, the best epoch chosen on validation.  Run it:  python -m stages.rerank"""

import polars as pl

from symbiosis.core.artifacts import read_array, staged, write_json
from symbiosis.core.fingerprint import fingerprint
from symbiosis.core.layout import (
    CLEAN,
    DISTANCES,
    FINETUNED,
    GRAPH,
    ITEM_VECTORS,
    ITEMS,
    PRETRAINED,
    PROPAGATION,
    PROTOCOL,
    RERANK_CURVE,
    RERANKER,
    TRAIN,
    USERS,
    VALIDATION,
)
from symbiosis.core.stage import run
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.training_data import read_training_data
from symbiosis.recommender.inference.loading import load_model
from symbiosis.recommender.metrics.metrics import protocol_of
from symbiosis.recommender.reranking.item_links import ItemContent
from symbiosis.recommender.reranking.params import RerankParams
from symbiosis.recommender.reranking.proposals import Proposals
from symbiosis.recommender.reranking.reranker import Reranker, save_none
from symbiosis.recommender.reranking.stage_one import fit_stage_one
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.loop import Row, Schedule, fit
from symbiosis.recommender.training.reranking import Reranking, made_network
from symbiosis.recommender.training.torch_setup import prepare_torch
from symbiosis.tracking.live import live_run

INPUTS = (PROTOCOL, USERS, ITEMS, TRAIN, VALIDATION, ITEM_VECTORS, GRAPH, DISTANCES, PROPAGATION, PRETRAINED, FINETUNED)


def work(params: RerankParams) -> None:
    """Read interactions, item embeddings and the pre-trained network; write the re-ranker and its curve."""
    if not params.candidates:
        with staged(RERANKER, RERANK_CURVE) as (folder, curve_file):
            folder.mkdir()
            save_none(folder)
            pl.DataFrame({"epoch": [], "score": []}).write_csv(curve_file)
        print("no re-ranker: `rerank.candidates` is 0")
        return
    identity = fingerprint(__file__, params, INPUTS)
    prepare_torch(params.seed)
    data, vectors, protocol = read_training_data(CLEAN), read_array(ITEM_VECTORS), protocol_of(CLEAN)
    network = made_network(PRETRAINED, vectors, params)
    sequences = data.sequences()
    stage_one = fit_stage_one(
        sequences,
        ItemContent.of(data, params.seed, vectors),
        hidden=params.hidden,
        decay=params.decay,
        directed=params.directed,
        targets=params.targets,
        seed=params.seed,
    )
    task = Reranking(network, stage_one, sequences, read_matrix(VALIDATION, sequences.shape), params, protocol)
    networks, curve = [network], fitted(task, params, identity)
    for more in range(1, params.networks):
        seeded = params.model_copy(update={"seed": params.seed + more})
        prepare_torch(seeded.seed)
        task.train(made_network(PRETRAINED, vectors, params), seeded.seed)
        curve += [row | {"network": more} for row in fitted(task, seeded, f"{identity}-{more}")]
        networks.append(task.network)
    best = max(curve, key=lambda row: row["score"])
    proposals = Proposals(stage_one.whole, stage_one.weights, task.candidates, params.directed, params.seed)
    reranker = Reranker(proposals, networks, params.maximum_items)
    reranker.weight, by_weight = task.best_weight(reranker, load_model(".").prepared(sequences))
    with staged(RERANKER, RERANK_CURVE) as (folder, curve_file):
        folder.mkdir()
        reranker.save(folder)
        described: dict[str, object] = {"fingerprint": identity}
        described |= {"best": best, "score by weight": by_weight}
        write_json(folder / "training.json", described)
        pl.DataFrame(curve, infer_schema_length=None).write_csv(curve_file)
    print(
        f"best epoch {best['epoch']:.0f}: "
        + ", ".join(f"{k} {best[k]:.4f}" for k in protocol.metrics)
        + f"; the model's own score weighs {reranker.weight:g}: sum {by_weight[reranker.weight]:.4f}"
    )


def fitted(task: Reranking, params: RerankParams, identity: str) -> list[Row]:
    """Train the task's network and return its curve."""
    network = task.network
    schedule = Schedule(params, params.epochs, params.epochs * len(task.batches(0)), params.patience)
    checkpoints = Checkpoints.of_stage("rerank", identity, params.checkpoint_seconds)
    weights = network.weights(params.learning_rate, params.connectivity_rate, params.weight_decay)
    with live_run("rerank", identity) as live:
        curve = fit(network, task, schedule, checkpoints, live.log, "rerank", weights)
    checkpoints.clear()
    return curve


if __name__ == "__main__":
    run("rerank", RerankParams, work)
