"""BERT4Rec: bidirectional self-attention that fills in masked items."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.sequential import SequentialBaseline, TransformerParams, embedding, transformer

if TYPE_CHECKING:
    from torch import Tensor, nn


class BERT4RecParams(TransformerParams):
    """Values to be tried.

    Attributes
    ----------
    masked_share
        Share of a user's items that are masked and predicted, at least one.
    """

    masked_share: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)


class BERT4Rec(SequentialBaseline):
    """Score items by ``h · e_i`` with h the state of a mask that follows the user's items.

    In training random items of a user are masked and predicted from all others, before and after.

    References
    ----------
    Sun et al. 2019, BERT4Rec: sequential recommendation with bidirectional encoder representations from transformer.
    """

    Params = BERT4RecParams

    def build(self, *, dimension: int, dropout: float, layers: int, heads: int, masked_share: float) -> "nn.ModuleDict":
        """Vectors of items (then padding and mask) and places, and the transformer."""
        from torch import nn

        self.masked_share, self.mask = masked_share, self.n_items + 1
        return nn.ModuleDict(
            {
                "item": embedding(self.n_items + 2, dimension),
                "place": embedding(self.maximum_length, dimension),
                "dropout": nn.Dropout(dropout),
                "transformer": transformer(dimension, layers, heads, dropout),
            }
        )

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place, each of which sees all items and masks."""
        vectors = self.network["item"](items) + self.network["place"].weight[: items.shape[1]]
        states: Tensor = self.network["transformer"](
            self.network["dropout"](vectors), src_key_padding_mask=items == self.n_items
        )
        return states

    def loss(self, users: np.ndarray) -> "Tensor":
        """Cross-entropy of masked items."""
        import torch

        items, lengths = self.padded(users)
        real = items < self.n_items
        chance = torch.from_numpy(self.rng.random(items.shape)).masked_fill(~real, 2)
        places = (self.masked_share * lengths).round().clamp(min=1).long()
        masked = chance.argsort(dim=1).argsort(dim=1) < places[:, None]
        hidden = self.encode(items.masked_fill(masked, self.mask))
        return self.cross_entropy(hidden, items.masked_fill(~masked, self.mask))

    def logits(self, users: np.ndarray) -> "Tensor":
        """Products of the state of a mask after the last item with the items."""
        import torch

        items, lengths = self.padded(users, spare=1)
        every = torch.arange(len(users))
        items[every, lengths] = self.mask
        return self.encode(items)[every, lengths] @ self.item_vectors().T
