"""SASRec: self-attention over a user's items, each place predicting the next."""

from typing import TYPE_CHECKING

from symbiosis.recommender.baselines.sequential import (
    SequentialBaseline,
    TransformerParams,
    causal,
    embedding,
    transformer,
)

if TYPE_CHECKING:
    from torch import Tensor, nn


class SASRecParams(TransformerParams):
    """Nothing beyond what all transformers have."""


class SASRec(SequentialBaseline):
    """Score items by ``h · e_i`` with h the last state of a causal transformer over item and place vectors.

    References
    ----------
    Kang and McAuley 2018, Self-attentive sequential recommendation; with the loss of `SequentialBaseline`.
    """

    Params = SASRecParams

    def build(self, *, dimension: int, dropout: float, layers: int, heads: int) -> "nn.ModuleDict":
        """Vectors of items (the last one pads) and places, and the transformer."""
        from torch import nn

        return nn.ModuleDict(
            {
                "item": embedding(self.n_items + 1, dimension),
                "place": embedding(self.maximum_length, dimension),
                "dropout": nn.Dropout(dropout),
                "transformer": transformer(dimension, layers, heads, dropout),
            }
        )

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place; padding stands at the end, where nothing real sees it."""
        length = items.shape[1]
        vectors = self.network["item"](items) + self.network["place"].weight[:length]
        states: Tensor = self.network["transformer"](
            self.network["dropout"](vectors), mask=causal(length), is_causal=True
        )
        return states
