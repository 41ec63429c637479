"""Fine-tune on personalised prompts, the best epoch chosen on validation.  Run it:  python -m stages.finetune"""

from functools import partial

import polars as pl

from symbiosis.core.artifacts import staged
from symbiosis.core.fingerprint import fingerprint
from symbiosis.core.layout import (
    CLEAN,
    DISTANCES,
    FINETUNE_CURVE,
    FINETUNED,
    GRAPH,
    PRETRAINED,
    PROPAGATION,
    PROTOCOL,
    TRAIN,
    VALIDATION,
)
from symbiosis.core.stage import run
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.metrics.metrics import protocol_of
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.launching import train_together
from symbiosis.recommender.training.loop import Schedule, fit, validated
from symbiosis.recommender.training.params import FinetuneParams
from symbiosis.recommender.training.process_group import ProcessGroup
from symbiosis.recommender.training.starting import Start
from symbiosis.recommender.training.torch_setup import prepare_torch
from symbiosis.tracking.live import live_run

INPUTS = (PROTOCOL, TRAIN, VALIDATION, DISTANCES, GRAPH, PROPAGATION, PRETRAINED)


def work(params: FinetuneParams) -> None:
    """Read the pre-trained model, training and validation interactions; write the model and its curve."""
    train_together("stages.finetune", params, params, partial(train, params))


def train(params: FinetuneParams, group: ProcessGroup) -> None:
    """Do so in one process of those that train; the first one writes."""
    identity = fingerprint(__file__, params, INPUTS)
    prepare_torch(params.seed)
    start = Start.load(PRETRAINED, params)
    model = start.model
    ratings = Ratings.read(CLEAN, start.shape) if params.objective == "rating" else None
    task = Finetuning(
        model,
        start.prompts,
        start.bias(GRAPH, DISTANCES),
        Propagation.load(PROPAGATION) if params.graph_term else None,
        read_matrix(TRAIN, start.shape),
        read_matrix(VALIDATION, start.shape),
        params,
        ratings,
        protocol_of(CLEAN),
        group,
    )
    schedule = Schedule(params, params.epochs, params.epochs * len(task.batches(0)), params.patience)
    checkpoints = Checkpoints.of_stage("finetune", identity, params.checkpoint_seconds)
    with live_run("finetune", identity) as live:
        curve = fit(model, task, schedule, checkpoints, live.log, "finetune")
    if not group.leads:
        return
    if not curve:  # no epoch was asked for
        curve = [{"epoch": 0, "step": 0} | validated(model, task)]
    best = max(curve, key=lambda row: row["score"])
    start.merge()
    with staged(FINETUNED, FINETUNE_CURVE) as (folder, curve_file):
        folder.mkdir()
        start.save(folder, identity, best, ratings.mean if ratings else None, "train")
        pl.DataFrame(curve, infer_schema_length=None).write_csv(curve_file)
    checkpoints.clear()
    print(f"best epoch {best['epoch']:.0f}: " + ", ".join(f"{k} {best[k]:.4f}" for k in task.protocol.metrics))


if __name__ == "__main__":
    run("finetune", FinetuneParams, work)
