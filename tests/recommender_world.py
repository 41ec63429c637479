"""What `make repro` leaves of the recommender, small and untrained, for tests of what reads it."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from symbiosis.core import layout
from symbiosis.core.artifacts import write_json
from symbiosis.recommender.data.item_texts import item_texts
from symbiosis.recommender.language.item_vectors import MANIFEST, embed_items
from symbiosis.recommender.language.params import EmbedItemsParams
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.model import GraphGPT2

USERS = 3
TITLES = ["red garden glove", "blue garden glove", "copper teapot", "steel teapot", None, "tin whistle"]
PARAMS = EmbedItemsParams(seed=1, encoder="tfidf_svd", revision=None, dimensions=4, maximum_tokens=32)


def items_table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item": np.arange(len(TITLES), dtype=np.uint32),
            "item_id": [f"B{number}" for number in range(len(TITLES) - 1)] + ["2"],  # an original id like a number
            "title": TITLES,
            "brand": [None] * len(TITLES),
            "categories": [["Garden"], ["Garden"], ["Kitchen"], ["Kitchen"], ["Kitchen"], None],
            "description": [None] * len(TITLES),
        },
        schema_overrides={"brand": pl.String, "description": pl.String},
    )


def write_recommender(root: Path) -> Path:
    """Write data/ and models/ below a folder, and return it."""
    for name in ("clean", "graph", "item_embeddings"):
        (root / "data" / name).mkdir(parents=True)
    clean, items = root / layout.CLEAN, items_table()
    items.write_parquet(clean / "items.parquet")
    users = pl.DataFrame({"user": np.arange(USERS, dtype=np.uint32), "user_id": ["Ann", "Ben", "Cy"]})
    users.write_parquet(clean / "users.parquet")
    for part, pairs in {"train": [(0, 0), (1, 2), (2, 5)], "validation": [(0, 3)]}.items():
        table = pl.DataFrame(pairs, schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row")
        table.with_columns(timestamp=pl.int_range(pl.len())).write_parquet(clean / f"{part}.parquet")
    texts = item_texts(items)
    np.save(root / layout.EMBEDDINGS / "vectors.npy", embed_items(texts, PARAMS))
    write_json(root / layout.EMBEDDINGS / MANIFEST, PARAMS.model_dump())
    torch.manual_seed(0)
    phrases = ["has interacted with The user will", "explains the reason for purchasing a red garden glove"]
    vocabulary = Vocabulary(train_tokenizer(phrases * 20, 300), USERS, len(TITLES))
    model = GraphGPT2(scratch_config(vocabulary.n_words, 16, 1, 2, 64, 0.0), USERS, len(TITLES))
    settings = {"bias": "ones", "graph_term": False, "personal_gates": True, "maximum_items": 8, "seed": 5}
    settings |= {"content_epochs": 1, "language_model": True, "mean_rating": None}
    for place in (layout.PRETRAINED, layout.FINETUNED):
        (root / place).mkdir(parents=True)
        model.save(root / place)
        vocabulary.save(root / place / "tokenizer.json")
        write_json(root / place / "training.json", settings)
    return root
