"""What is added to the attention scores: causal mask and graph connectivity R in one tensor.

``softmax(Q K^T / sqrt(d) + R) V`` with R between user and item tokens only (arXiv 2402.09617, equation 4 and the
released code, specification section 2.4).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from symbiosis.graph.distances import HopDistances

BiasMode = Literal["none", "ones", "paper"]


@dataclass(frozen=True)
class AttentionBias:
    """Gathers R for the tokens of a batch from compact distance tables; no node-by-node matrix is ever made.

    Attributes
    ----------
    mode
        ``none``: R = 0; ``ones``: R = 1 between any two ID tokens; ``paper``: R by hop distance.
    n_words, n_users
        Sizes of the first two id ranges.
    distances
        Hop distances and the score of each distance; not read unless the mode is ``paper``.
    """

    mode: BiasMode
    n_words: int
    n_users: int
    distances: HopDistances | None

    def __call__(self, ids: np.ndarray) -> torch.Tensor:
        """Mask and bias of a batch of rows that are filled up on the right.

        Filling up needs no mask of its own: the causal mask hides it from every real position.

        Parameters
        ----------
        ids
            int, shape (rows, length), in the id space of `symbiosis.recommender.tokens`.

        Returns
        -------
        float32 tensor of shape (rows, 1, length, length)
            To be passed to `transformers.GPT2Model` as `attention_mask`.
        """
        rows, length = ids.shape
        bias = np.zeros((rows, length, length), dtype=np.float32)
        nodes = ids - self.n_words
        row, position = np.nonzero(nodes >= 0)
        if self.mode != "none" and len(row):
            # One slot per ID token, so that pairs cost (ID tokens)^2 and not length^2.
            slot = np.arange(len(row)) - np.searchsorted(row, row)
            compact = np.full((rows, int(slot.max()) + 1), -1, dtype=np.int64)
            places = np.zeros_like(compact)
            compact[row, slot], places[row, slot] = nodes[row, position], position
            r, i, j = np.nonzero((compact[:, :, None] >= 0) & (compact[:, None, :] >= 0))
            bias[r, places[r, i], places[r, j]] = self.scores(compact[r, i], compact[r, j])
        future = np.triu(np.ones((length, length), dtype=bool), 1)
        bias[:, future] = torch.finfo(torch.float32).min
        return torch.from_numpy(bias)[:, None]

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
        hops[mixed] = self.distances.user_item[lower[mixed], upper[mixed] - self.n_users]
        items = lower >= self.n_users
        hops[items] = self.distances.item_item[lower[items] - self.n_users, upper[items] - self.n_users]
        return np.asarray(self.distances.connectivity[hops], dtype=np.float32)
