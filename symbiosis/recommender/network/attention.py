"""What is added to the attention scores: causal mask and graph connectivity R in one tensor.

``softmax(Q K^T / sqrt(d) + R) V`` with R between user and item tokens only (arXiv 2402.09617, equation 4;
docs/methods.md, section 1.4). R is a fixed score by hop distance as published, or learned.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from symbiosis.graph.build import Graph
from symbiosis.graph.distances import HopDistances
from symbiosis.graph.pairs import PairFeatures, bucket_names
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.network.newcomers import NewItems

BiasMode = Literal["none", "ones", "paper", "learned"]


@dataclass(frozen=True)
class AttentionBias:
    """Gathers R for the tokens of a batch from compact distance tables; no node-by-node matrix is ever made.

    Attributes
    ----------
    mode
        ``none``: R = 0; ``ones``: R = 1 between any two ID tokens; ``paper``: R by hop distance; ``learned``: the sum
        of a learned scalar per head for each bucket of the pair's features.
    n_words, n_users
        Sizes of the first two id ranges.
    distances
        Hop distances and the score of each distance; not read unless the mode is ``paper``.
    pairs, scalars
        Buckets of pairs and their learned scalars, (buckets, heads), part of the model; needed if the mode is
        ``learned``.
    direct
        Whether the items of a row are one hop from its user, and two from each other, whatever the distances say: so
        are the items of a guest and a user's newest ones, which the graph does not hold.
    """

    mode: BiasMode
    n_words: int
    n_users: int
    distances: HopDistances | None
    pairs: PairFeatures | None = None
    scalars: nn.Embedding | None = None
    direct: bool = False

    @classmethod
    def load(cls, mode: BiasMode, model: GraphGPT2, graph: Path | str, distances: Path | str) -> "AttentionBias":
        """Read what the mode asks for; the learned scalars are the model's.

        Raises
        ------
        InputError
            A file is missing or damaged.
        """
        hops = HopDistances.load(distances) if mode == "paper" else None
        pairs = PairFeatures(Graph.load(graph)) if mode == "learned" else None
        return cls(mode, model.n_words, model.n_users, hops, pairs, model.scalars if pairs else None)

    def extended(self, users: int, new: NewItems) -> "AttentionBias":
        """Return the bias of a model with more users and items, where the items of a row are its user's."""
        pairs = self.pairs.extended(users, new.brands, new.categories) if self.pairs else None
        return replace(self, n_users=self.n_users + users, pairs=pairs, direct=True)

    def __call__(self, ids: np.ndarray) -> torch.Tensor:
        """Mask and bias of a batch of rows that are filled up on the right.

        Filling up needs no mask of its own: the causal mask hides it from every real position.

        Parameters
        ----------
        ids
            int, shape (rows, length), in the id space of `symbiosis.recommender.language.tokens`.

        Returns
        -------
        float32 tensor of shape (rows, 1 or heads, length, length), where the learned scalars are
            Added to the attention scores of `symbiosis.recommender.network.gpt2`; gradients reach the learned scalars.
        """
        rows, length = ids.shape
        nodes = ids - self.n_words
        row, position = np.nonzero(nodes >= 0)
        device = torch.device("cpu") if self.scalars is None else self.scalars.weight.device
        future = torch.full((length, length), torch.finfo(torch.float32).min, device=device).triu(1)
        if self.mode == "none" or not len(row):
            return future.repeat(rows, 1, 1, 1)
        # One slot per ID token, so that pairs cost (ID tokens)^2 and not length^2.
        slot = np.arange(len(row)) - np.searchsorted(row, row)
        compact = np.full((rows, int(slot.max()) + 1), -1, dtype=np.int64)
        places = np.zeros_like(compact)
        compact[row, slot], places[row, slot] = nodes[row, position], position
        if self.pairs is not None and self.scalars is not None:
            r, query, key, buckets = self.pairs(compact)
            values = self.scalars(torch.from_numpy(buckets).to(device)).sum(dim=1)
        else:
            r, query, key = np.nonzero((compact[:, :, None] >= 0) & (compact[:, None, :] >= 0))
            values = torch.from_numpy(self.scores(compact[r, query], compact[r, key]))[:, None]
        where = tuple(torch.from_numpy(place).to(device) for place in (r, places[r, query], places[r, key]))
        bias = torch.zeros(rows, length, length, values.shape[1], device=device).index_put(where, values)
        # Added, not put: the lowest number takes no part of R in, and what is in the future stays hidden.
        return (bias + future[..., None]).permute(0, 3, 1, 2)

    def scores(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """R of pairs of nodes.

        Parameters
        ----------
        first, second
            Node numbers, shape (pairs,): users ``0 .. U-1``, then items.

        Returns
        -------
        float32 array of shape (pairs,)
        """
        if self.mode == "ones" or self.distances is None:
            return np.ones(len(first), dtype=np.float32)
        lower, upper = np.minimum(first, second), np.maximum(first, second)
        # Two users never meet in a prompt; a user meets himself when he is named twice.
        hops = np.where(lower == upper, 0, 255).astype(np.uint8)
        mixed = (lower < self.n_users) & (upper >= self.n_users)
        items = lower >= self.n_users
        if self.direct:
            hops[mixed] = 1
            hops[items & (lower != upper)] = 2
        else:
            hops[mixed] = self.distances.user_item[lower[mixed], upper[mixed] - self.n_users]
            hops[items] = self.distances.item_item[lower[items] - self.n_users, upper[items] - self.n_users]
        return np.asarray(self.distances.connectivity[hops], dtype=np.float32)


def learned_bias(bias: AttentionBias) -> dict[str, Any] | None:
    """Return the learned R, ``buckets`` and ``heads`` (one list of scalars a head); None in the other modes."""
    if bias.scalars is None:
        return None
    heads = bias.scalars.weight.detach().T.tolist()
    return {
        "buckets": bucket_names()[1:],  # the first fills up
        "heads": [[round(value, 5) for value in head[1:]] for head in heads],
    }
