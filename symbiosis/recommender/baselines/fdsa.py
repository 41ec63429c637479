"""FDSA: self-attention over a user's items and, beside it, over what these items are."""

from typing import TYPE_CHECKING

import numpy as np

from symbiosis.recommender.baselines.sequential import TransformerBaseline, TransformerParams, embedding, transformer

if TYPE_CHECKING:
    from torch import Tensor, nn


class FDSAParams(TransformerParams):
    """Nothing beyond what all transformers have; `layers` and `heads` are those of each of the two."""


class FDSA(TransformerBaseline):
    """Score items by ``h · e_i``, h a map of the last states of two causal transformers, of items and of attributes.

    An item's attributes, its brand and categories, are summed with weights ``softmax(w · a)``, which stand for the
    vanilla attention of the paper.

    References
    ----------
    Zhang et al. 2019, Feature-level deeper self-attention network for sequential recommendation; with the loss of
    `SequentialBaseline`.
    """

    Params = FDSAParams

    def build(self, *, dimension: int, dropout: float, layers: int, heads: int) -> "nn.ModuleDict":
        """Both transformers, the vectors of items and attributes, and the map."""
        import torch
        from torch import nn

        table = self.data.attributes()
        counts = np.diff(table.indptr)
        padded = np.full((self.n_items + 1, max(1, int(counts.max(initial=0)))), table.shape[1], np.int64)
        padded[:-1][np.arange(padded.shape[1]) < counts[:, None]] = table.indices
        self.attributes, self.n_attributes = torch.from_numpy(padded), table.shape[1]
        return nn.ModuleDict(
            self.parts(dimension, dropout, layers, heads)
            | {
                "attribute": embedding(self.n_attributes + 1, dimension),
                "attention": nn.Linear(dimension, 1),
                "attribute transformer": transformer(dimension, layers, heads, dropout),
                "map": nn.Linear(2 * dimension, dimension),
            }
        )

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place from both transformers."""
        import torch

        attributes = self.attributes[items]
        vectors = self.network["attribute"](attributes)
        missing = attributes == self.n_attributes
        # Without any attribute all weights are 0, not undefined.
        weights = self.network["attention"](vectors)[..., 0].masked_fill(missing, -1e9).softmax(dim=-1)
        features = (weights.masked_fill(missing, 0)[..., None] * vectors).sum(dim=2)
        both = [self.attend(self.network["item"](items)), self.attend(features, name="attribute transformer")]
        hidden: Tensor = self.network["map"](torch.cat(both, dim=-1))
        return hidden
