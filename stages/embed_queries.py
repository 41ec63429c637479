"""Sentence embeddings of the queries.  Run it:  python -m stages.embed_queries"""

import numpy as np
import polars as pl

from symbiosis.artifacts import staged, write_json
from symbiosis.routing.encoder import embed, load, weights_sha256
from symbiosis.routing.params import EmbedQueriesParams
from symbiosis.stage import run


def work(params: EmbedQueriesParams) -> None:
    """Write data/embeddings: queries.npy, one row per query, and the encoder's manifest."""
    texts = pl.read_parquet("data/routing/queries.parquet", columns=["query_text"])["query_text"].to_list()
    model = load(params.encoder, params.maximum_tokens, params.revision)
    vectors = embed(model, texts, params.batch, params.precision)
    with staged("data/embeddings") as (folder,):
        folder.mkdir()
        np.save(folder / "queries.npy", vectors)
        write_json(
            folder / "manifest.json",
            {
                "encoder": params.encoder,
                "dimension": vectors.shape[1],
                "maximum_tokens": params.maximum_tokens,
                "precision": params.precision,
                "weights_sha256": weights_sha256(model),
            },
        )


if __name__ == "__main__":
    run("embed_queries", EmbedQueriesParams, work)
