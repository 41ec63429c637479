"""Pre-train the graph-attentive GPT-2 on the corpus.  Run it:  python -m stages.pretrain"""

import polars as pl

from symbiosis.artifacts import read_json, staged, write_json
from symbiosis.graph.distances import HopDistances
from symbiosis.recommender.attention import AttentionBias
from symbiosis.recommender.checkpoint import Checkpoints
from symbiosis.recommender.params import PretrainParams
from symbiosis.recommender.pretraining import Pretraining, encode_corpus, untrained
from symbiosis.recommender.torch_setup import prepare_torch
from symbiosis.recommender.training import Schedule, fit
from symbiosis.stage import fingerprint, run
from symbiosis.tracking.live import live_run


def work(params: PretrainParams) -> None:
    """Read corpus and distances; write model, tokenizer and loss curve."""
    identity = fingerprint(__file__, params, ["data/corpus", "data/distances"])
    documents = pl.read_parquet("data/corpus/documents.parquet")
    sizes = read_json("data/corpus/summary.json")
    prepare_torch(params.seed)
    model, vocabulary = untrained(params, documents, sizes["users"], sizes["items"])
    hops = HopDistances.load("data/distances") if params.bias == "paper" else None
    task = Pretraining(
        model,
        encode_corpus(documents, vocabulary),
        AttentionBias(params.bias, vocabulary.n_words, vocabulary.n_users, hops),
        end=vocabulary.end,
        content_epochs=params.content_epochs,
        interaction_epochs=params.interaction_epochs,
        tokens_per_batch=params.tokens_per_batch,
        maximum_length=params.maximum_length,
        regularisation=params.regularisation,
        seed=params.seed,
    )
    schedule = Schedule(
        epochs=task.epochs,
        steps=task.steps(),
        warmup_share=params.warmup_share,
        learning_rate=params.learning_rate,
        id_learning_rate=params.id_learning_rate,
        weight_decay=params.weight_decay,
        precision=params.precision,
        seed=params.seed,
    )
    checkpoints = Checkpoints.of_stage("pretrain", identity, params.checkpoint_seconds)
    with live_run("pretrain", identity) as live:
        curve = fit(model, task, schedule, checkpoints, live.log, "pretrain")
    with staged("models/pretrain", "reports/curves/pretrain.csv") as (folder, curve_file):
        folder.mkdir()
        model.save(folder)
        vocabulary.save(folder / "tokenizer.json")
        write_json(folder / "training.json", {"fingerprint": identity, "bias": params.bias, "seed": params.seed})
        pl.DataFrame(curve, infer_schema_length=None).write_csv(curve_file)
    checkpoints.clear()


if __name__ == "__main__":
    run("pretrain", PretrainParams, work)
