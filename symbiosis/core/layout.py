"""Where the pipeline leaves what the recommender answers with, below the folder of data/ and models/."""

from pathlib import Path

CLEAN = Path("data/clean")
GRAPH = Path("data/graph")
DISTANCES = Path("data/distances")
PROPAGATION = Path("data/propagation")
EMBEDDINGS = Path("data/item_embeddings")
PRETRAINED = Path("models/pretrain")
FINETUNED = Path("models/finetune")
