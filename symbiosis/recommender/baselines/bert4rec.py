"""BERT4Rec: bidirectional self-attention that fills in masked items."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.sequential import TransformerBaseline, TransformerParams

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


class BERT4Rec(TransformerBaseline):
    """Score items by ``h · e_i`` with h the state of a mask that follows the user's items.

    In training random items of a user are masked and predicted from all others, before and after.

    References
    ----------
    Sun et al. 2019, BERT4Rec: sequential recommendation with bidirectional encoder representations from transformer.
    """

    Params = BERT4RecParams

    def build(self, *, dimension: int, dropout: float, layers: int, heads: int, masked_share: float) -> "nn.ModuleDict":
        """Nothing beyond what all transformers have, but a mask beside the padding."""
        from torch import nn

        self.masked_share, self.mask = masked_share, self.n_items + 1
        return nn.ModuleDict(self.parts(dimension, dropout, layers, heads, special=2))

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place, each of which sees all items and masks."""
        return self.attend(self.network["item"](items), items == self.n_items)

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
