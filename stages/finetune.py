"""Fine-tune on personalised prompts, the best epoch chosen on validation.  Run it:  python -m stages.finetune"""

import polars as pl

from symbiosis.core.artifacts import read_json, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.fingerprint import fingerprint
from symbiosis.core.layout import (
    CLEAN,
    DISTANCES,
    FINETUNE_CURVE,
    FINETUNED,
    GRAPH,
    PRETRAINED,
    PROPAGATION,
    TRAIN,
    VALIDATION,
)
from symbiosis.core.stage import run
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.graph_terms import Propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.adapters import adapt
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.loop import Schedule, fit, validated
from symbiosis.recommender.training.params import FinetuneParams
from symbiosis.recommender.training.torch_setup import prepare_torch
from symbiosis.tracking.live import live_run

INPUTS = (TRAIN, VALIDATION, DISTANCES, GRAPH, PROPAGATION, PRETRAINED)


def work(params: FinetuneParams) -> None:
    """Read the pre-trained model, training and validation interactions; write the model and its curve."""
    identity = fingerprint(__file__, params, INPUTS)
    settings = read_json(PRETRAINED / "training.json")
    prepare_torch(params.seed)
    model = GraphGPT2.load(PRETRAINED, params.dropout)
    merge = adapt(model, params.tune, params.lora)
    vocabulary = Vocabulary.load(PRETRAINED / "tokenizer.json", model.n_users, model.n_items)
    prompts = Prompts(vocabulary, params.maximum_items)
    if prompts.overhead + params.maximum_items > model.config.n_positions:
        raise InputError(
            f"params.yaml: `finetune.maximum_items` {params.maximum_items} gives prompts of "
            f"{prompts.overhead + params.maximum_items} tokens, more than `pretrain.maximum_length` "
            f"{model.config.n_positions}"
        )
    shape = (model.n_users, model.n_items)
    ratings = Ratings.read(CLEAN, shape) if params.objective == "rating" else None
    task = Finetuning(
        model,
        prompts,
        AttentionBias.load(settings["bias"], model, GRAPH, DISTANCES),
        Propagation.load(PROPAGATION) if params.graph_term else None,
        read_matrix(TRAIN, shape),
        read_matrix(VALIDATION, shape),
        params,
        ratings,
    )
    schedule = Schedule(params, params.epochs, params.epochs * len(task.batches(0)), params.patience)
    checkpoints = Checkpoints.of_stage("finetune", identity, params.checkpoint_seconds)
    with live_run("finetune", identity) as live:
        curve = fit(model, task, schedule, checkpoints, live.log, "finetune")
    if not curve:  # no epoch was asked for
        curve = [{"epoch": 0, "step": 0} | validated(model, task)]
    best = max(curve, key=lambda row: row["score"])
    merge()
    with staged(FINETUNED, FINETUNE_CURVE) as (folder, curve_file):
        folder.mkdir()
        model.save(folder)
        vocabulary.save(folder / "tokenizer.json")
        write_json(
            folder / "training.json",
            {
                "fingerprint": identity,
                "bias": settings["bias"],
                "graph_term": params.graph_term,
                "language_model": params.language_model,
                "mean_rating": ratings.mean if ratings else None,
                "personal_gates": params.personal_gates,
                "maximum_items": params.maximum_items,
                "seed": params.seed,
                "best": best,
            },
        )
        pl.DataFrame(curve, infer_schema_length=None).write_csv(curve_file)
    checkpoints.clear()
    print(f"best epoch {best['epoch']:.0f}: " + ", ".join(f"{k} {v:.4f}" for k, v in best.items() if "@" in k))


if __name__ == "__main__":
    run("finetune", FinetuneParams, work)
