"""LightGCN: vectors of users and items smoothed over the graph of their interactions."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.neural import NeuralBaseline, NeuralParams
from symbiosis.recommender.data.training_data import TrainingData

if TYPE_CHECKING:
    from torch import Tensor, nn


class LightGCNParams(NeuralParams):
    """Values to be tried; `dropout` is that of the final vectors.

    Attributes
    ----------
    layers
        Times the vectors are passed along the edges.
    l2
        Penalty on the starting vectors of a batch.
    """

    layers: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    l2: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)


class LightGCN(NeuralBaseline):
    """Score items by ``e_u · e_i``, each the mean of its vectors after 0, 1, ... layers.

    One layer takes the vectors to ``A E`` with ``A_ui = 1 / sqrt(|I_u| |U_i|)``. The loss is
    ``-log sigmoid(e_u·e_i - e_u·e_j)`` for a user's item i and an item j that is drawn from all that he did not take,
    and the penalty on the starting vectors.

    References
    ----------
    He et al. 2020, LightGCN: simplifying and powering graph convolution network for recommendation (equations 3 to 8
    and 15).
    """

    Params = LightGCNParams

    def build(self, *, dimension: int, dropout: float, layers: int, l2: float) -> "nn.ModuleDict":
        """The starting vectors, and the graph that they are smoothed over."""
        from torch import nn

        self.layers, self.l2 = layers, l2
        pairs = self.train.tocoo()
        self.pairs = pairs.row.astype(np.int64) * self.n_items + pairs.col
        self.graph = self.graph_of(self.train)
        vectors = nn.Embedding(self.n_users + self.n_items, dimension)
        nn.init.normal_(vectors.weight, std=0.1)
        return nn.ModuleDict({"vectors": vectors, "dropout": nn.Dropout(dropout)})

    def graph_of(self, taken: csr_array) -> "Tensor":
        """Weights of the edges between users and items, sparse (U + I, U + I)."""
        import torch

        lengths, counts = np.diff(taken.indptr), np.bincount(taken.indices, minlength=self.n_items)
        pairs = taken.tocoo()
        weights = (1 / np.sqrt(lengths[pairs.row] * counts[pairs.col])).astype(np.float32)
        items = pairs.col + self.n_users
        edges = np.stack([np.concatenate([pairs.row, items]), np.concatenate([items, pairs.row])])
        order = np.lexsort((edges[1], edges[0]))
        size = self.n_users + self.n_items
        return torch.sparse_coo_tensor(
            torch.from_numpy(edges[:, order].astype(np.int64)),
            torch.from_numpy(np.tile(weights, 2)[order]),
            (size, size),
            is_coalesced=True,
            check_invariants=True,
        )

    def read(self, histories: TrainingData) -> None:
        """Smooth the vectors over the graph of these histories from now on."""
        super().read(histories)
        self.graph = self.graph_of(self.history)

    def smoothed(self) -> tuple["Tensor", "Tensor"]:
        """Final vectors of the users (U, D) and the items (I, D)."""
        import torch

        total = layer = self.network["vectors"].weight
        for _ in range(self.layers):
            layer = torch.sparse.mm(self.graph, layer)
            total = total + layer
        users, items = self.network["dropout"](total / (self.layers + 1)).split([self.n_users, self.n_items])
        return users, items

    def loss(self, users: np.ndarray) -> "Tensor":
        """Every item of the users against one that its user did not take."""
        import torch
        from torch.nn import functional as F

        rows = torch.from_numpy(np.repeat(users, self.lengths[users]))
        taken = torch.from_numpy(self.train[users].indices.astype(np.int64))
        other = torch.from_numpy(self.untaken(rows.numpy()))
        user_vectors, item_vectors = self.smoothed()
        margin = (user_vectors[rows] * (item_vectors[taken] - item_vectors[other])).sum(dim=1)
        start = self.network["vectors"].weight
        drawn = torch.cat([rows, taken + self.n_users, other + self.n_users])
        size = (start[drawn] ** 2).sum()
        return -F.logsigmoid(margin).mean() + self.l2 * size / (2 * len(rows))

    def untaken(self, users: np.ndarray) -> np.ndarray:
        """Draw for each user an item that he did not take; int64."""
        drawn = self.rng.integers(self.n_items, size=len(users))
        for _ in range(100):  # a user may have taken everything
            again = np.flatnonzero(np.isin(users * self.n_items + drawn, self.pairs))
            if not len(again):
                break
            drawn[again] = self.rng.integers(self.n_items, size=len(again))
        return drawn

    def logits(self, users: np.ndarray) -> "Tensor":
        """Products of the final vectors."""
        import torch

        user_vectors, item_vectors = self.smoothed()
        return user_vectors[torch.from_numpy(users)] @ item_vectors.T
