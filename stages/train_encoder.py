"""Fine-tune the sentence encoder on offline queries.  Run it:  python -m stages.train_encoder"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.stage import run
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.queries.params import TrainEncoderParams
from symbiosis.routing.queries.tagging import tag
from symbiosis.text import encoder
from symbiosis.text.cache import embed_cached

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OUTPUT = Path("models/encoder")


def work(params: TrainEncoderParams) -> None:
    """Write models/encoder: which encoder embeds queries, and its weights if they were trained."""
    manifest: dict[str, Any] = params.model_dump(include={"objective", "encoder", "revision", "maximum_tokens"})
    if params.layers is not None:
        manifest["layers"] = params.layers
    if params.objective == "none":
        with staged(OUTPUT) as (folder,):
            folder.mkdir()
            write_json(folder / encoder.MANIFEST, manifest)
        return
    model, manifest["training"] = _trained(params)
    with staged(OUTPUT) as (folder,):
        folder.mkdir()
        model.save_pretrained(str(folder / encoder.TRAINED), create_model_card=False)
        write_json(folder / encoder.MANIFEST, manifest)


def _trained(params: TrainEncoderParams) -> tuple["SentenceTransformer", dict[str, Any]]:
    from symbiosis.routing.queries.finetuning import QualityObjective, TagObjective, fine_tune, with_mean_pooling

    outcomes = Outcomes.load("data/routing/offline.parquet", Llms.load("data/routing/llms.parquet"))
    columns = ["query_text", "domain", "subdomain"]
    queries = read_frame("data/routing/queries.parquet", columns)[outcomes.queries]
    texts, domains, subdomains = (queries[column].to_list() for column in columns)
    report: dict[str, Any] = {"queries": len(texts)}
    objective: TagObjective | QualityObjective
    if params.objective == "tags":
        model = encoder.load(params.encoder, params.maximum_tokens, params.revision)
        vectors = embed_cached(
            texts,
            encoder.identity(model, params.precision),
            lambda part: encoder.embed(model, part, params.precision),
        )
        labels, names = tag(texts, domains, subdomains, vectors, params)
        report["domains"] = [
            {"tags": name, "queries": int(count)} for name, count in zip(names, np.bincount(labels), strict=True)
        ]
        objective = TagObjective(labels, params.temperature, params.inter_weight, params.momentum)
    else:
        objective = QualityObjective(outcomes.quality)
    trained = with_mean_pooling(encoder.load_trainable(params.encoder, params.maximum_tokens, params.revision))
    report["curve"] = fine_tune(trained, texts, objective, params)
    return trained, report


if __name__ == "__main__":
    run("train_encoder", TrainEncoderParams, work)
