"""Pre-train the graph-attentive GPT-2 on the corpus.  Run it:  python -m stages.pretrain"""

from functools import partial

import polars as pl
import torch

from symbiosis.core.artifacts import read_array, read_frame, staged, write_json
from symbiosis.core.fingerprint import fingerprint
from symbiosis.core.layout import (
    CLEAN,
    CORPUS,
    DISTANCES,
    DOCUMENTS,
    EMBEDDINGS,
    GRAPH,
    ITEM_VECTORS,
    PRETRAIN_CURVE,
    PRETRAINED,
    PROTOCOL,
    TRAIN,
    VALIDATION,
)
from symbiosis.core.stage import run
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.interactions import read_matrix
from symbiosis.recommender.metrics.metrics import protocol_of
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.training.adapters import adapt
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.launching import train_together
from symbiosis.recommender.training.loop import fit
from symbiosis.recommender.training.params import PretrainParams
from symbiosis.recommender.training.pretraining import Pretraining, encode_corpus, untrained
from symbiosis.recommender.training.process_group import ProcessGroup
from symbiosis.recommender.training.starting import prompts_of
from symbiosis.recommender.training.torch_setup import prepare_torch
from symbiosis.tracking.live import live_run

INPUTS = (CORPUS, DISTANCES, GRAPH, EMBEDDINGS, PROTOCOL, TRAIN, VALIDATION)


def work(params: PretrainParams) -> None:
    """Read corpus, graph, distances, item embeddings and interactions; write model, tokenizer and curve."""
    train_together("stages.pretrain", params, params, partial(train, params))


def train(params: PretrainParams, group: ProcessGroup) -> None:
    """Do so in one process of those that train; the first one writes."""
    identity = fingerprint(__file__, params, INPUTS)
    documents = read_frame(DOCUMENTS)
    prepare_torch(params.seed)
    texts = torch.from_numpy(read_array(ITEM_VECTORS)) if params.content else None
    model, vocabulary = untrained(params, documents, Graph.load(GRAPH), texts)
    merge = adapt(model, params.tune, params.lora)
    bias, shape = AttentionBias.load(params.bias, model, GRAPH, DISTANCES), (model.n_users, model.n_items)
    prompts = Finetuning(
        model,
        prompts_of(vocabulary, model, params, "pretrain"),
        bias,
        None,
        read_matrix(TRAIN, shape),
        read_matrix(VALIDATION, shape),
        params.of_prompts(),
        protocol=protocol_of(CLEAN),
        group=group,
    )
    task = Pretraining(model, encode_corpus(documents, vocabulary), bias, params, vocabulary.end, prompts, group)
    checkpoints = Checkpoints.of_stage("pretrain", identity, params.checkpoint_seconds)
    with live_run("pretrain", identity) as live:
        curve = fit(model, task, task.schedule(), checkpoints, live.log, "pretrain")
    if not group.leads:
        return
    merge()
    with staged(PRETRAINED, PRETRAIN_CURVE) as (folder, curve_file):
        folder.mkdir()
        model.save(folder)
        vocabulary.save(folder / "tokenizer.json")
        write_json(
            folder / "training.json",
            {
                "fingerprint": identity,
                "bias": params.bias,
                "content_epochs": params.content_epochs,
                "seed": params.seed,
            },
        )
        rows = pl.DataFrame(curve, infer_schema_length=None) if curve else pl.DataFrame(schema=["epoch", "step"])
        rows.write_csv(curve_file)
    checkpoints.clear()


if __name__ == "__main__":
    run("pretrain", PretrainParams, work)
