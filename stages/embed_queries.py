"""Vectors of the queries: sentence embeddings, and the form of the text.  Run it:  python -m stages.embed_queries"""

import numpy as np

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.stage import run
from symbiosis.routing.queries.params import EmbedQueriesParams
from symbiosis.routing.queries.text_shape import VERSION, query_vectors
from symbiosis.text.cache import embed_cached
from symbiosis.text.encoder import embed, identity, load_chosen, weights_sha256


def work(params: EmbedQueriesParams) -> None:
    """Write data/embeddings: queries.npy, one row per query, and the encoder's manifest."""
    queries = read_frame("data/routing/queries.parquet", ["query_text"])
    texts = queries["query_text"].to_list()
    model, chosen = load_chosen("models/encoder")
    embeddings = embed_cached(
        texts, identity(model, params.precision), lambda part: embed(model, part, params.precision)
    )
    vectors = query_vectors(embeddings, texts, params.shape_weight)
    with staged("data/embeddings") as (folder,):
        folder.mkdir()
        np.save(folder / "queries.npy", vectors)
        write_json(
            folder / "manifest.json",
            {
                "encoder": chosen["encoder"],
                "objective": chosen["objective"],
                "dimension": vectors.shape[1],
                "shape_weight": params.shape_weight,
                "text_shape": VERSION,
                "maximum_tokens": chosen["maximum_tokens"],
                "precision": params.precision,
                "weights_sha256": weights_sha256(model),
            },
        )


if __name__ == "__main__":
    run("embed_queries", EmbedQueriesParams, work)
