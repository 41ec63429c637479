"""Users, items and stage one for tests of the re-ranker."""

import numpy as np
from scipy.sparse import csr_array

from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.network.gpt2 import GPT2Config
from symbiosis.recommender.reranking.item_links import ItemContent
from symbiosis.recommender.reranking.stage_one import StageOne, fit_stage_one

N_ITEMS, N_USERS = 40, 60
BACKBONE = GPT2Config(vocab_size=9, n_positions=24, n_embd=8, n_layer=2, n_head=2)
WORDS = {"before": (1, 2), "after": (3,)}


def sequences(seed: int = 3) -> csr_array:
    """Half of every user's items follow one another."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(N_USERS):
        start = int(rng.integers(N_ITEMS))
        rows.append(
            list(dict.fromkeys([(start + step) % N_ITEMS for step in range(4)] + rng.permutation(N_ITEMS)[:3].tolist()))
        )
    offsets = np.cumsum([0, *map(len, rows)])
    items = np.concatenate(rows)
    return csr_array((np.ones(len(items), bool), items, offsets), shape=(N_USERS, N_ITEMS))


def vectors() -> np.ndarray:
    drawn = np.random.default_rng(5).normal(size=(N_ITEMS, 6)).astype(np.float32)
    normal: np.ndarray = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return normal


def stage_one(taken: csr_array, seed: int = 2) -> StageOne:
    matrix = csr_array((np.ones(taken.nnz, np.float32), taken.indices, taken.indptr), shape=taken.shape)
    content = ItemContent.of(TrainingData(matrix), 1, vectors())
    return fit_stage_one(taken, content, hidden="share", decay=0.8, directed=True, targets=2, seed=seed)
