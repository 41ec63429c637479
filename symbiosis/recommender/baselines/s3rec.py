"""S3-Rec: SASRec after pre-training on how items, their attributes and parts of histories belong together."""

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.sequential import TransformerBaseline, TransformerParams, embedding

if TYPE_CHECKING:
    from torch import Tensor, nn

_WEIGHTS = {"attributes of items": 0.2, "masked items": 1.0, "attributes of masked items": 1.0, "segments": 0.5}
"""As in the authors' code."""


class S3RecParams(TransformerParams):
    """Values to be tried.

    Attributes
    ----------
    pretraining_epochs
        Epochs before those of the next-item loss; 0 leaves SASRec.
    masked_share
        Share of a user's items that are masked in pre-training, at least one.
    """

    pretraining_epochs: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    masked_share: list[Annotated[float, Field(gt=0, lt=1)]] = Field(min_length=1)


class S3Rec(TransformerBaseline):
    """Score items by ``h · e_i`` with h the last state of a causal transformer, pre-trained as a bidirectional one.

    Pre-training adds four losses: an item's attributes from its vector, a masked item and its attributes from its
    surroundings, and a masked segment, told from those of the other users of the batch, from what surrounds it. Where
    the paper contrasts with drawn negatives, the first and third use all attributes and the second all items.

    References
    ----------
    Zhou et al. 2020, S3-Rec: self-supervised learning for sequential recommendation with mutual information
    maximization (section 4); with the loss of `SequentialBaseline`.
    """

    Params = S3RecParams

    def build(
        self, *, dimension: int, dropout: float, layers: int, heads: int, pretraining_epochs: int, masked_share: float
    ) -> "nn.ModuleDict":
        """Vectors of attributes, and a map for each of three losses, beside what all transformers have."""
        import torch
        from torch import nn

        self.pretraining_epochs, self.masked_share, self.mask = pretraining_epochs, masked_share, self.n_items + 1
        self.attributes = torch.from_numpy(self.data.attributes().toarray())
        return nn.ModuleDict(
            self.parts(dimension, dropout, layers, heads, special=2)
            | {
                "attribute": embedding(self.attributes.shape[1], dimension),
                "item to attribute": nn.Linear(dimension, dimension),
                "place to attribute": nn.Linear(dimension, dimension),
                "segment": nn.Linear(dimension, dimension),
            }
        )

    def fit(self, *_: Any, **setting: Any) -> None:
        """Draw the weights and pre-train them."""
        super().fit(**setting)
        self.network.train()
        for _epoch in range(self.pretraining_epochs):
            for users in self.batches():
                losses = self.pretraining_losses(users)
                self.step(sum(_WEIGHTS[name] * loss for name, loss in losses.items()))  # type: ignore[arg-type]
        self.restart_optimiser()

    def pretraining_losses(self, users: np.ndarray) -> dict[str, "Tensor"]:
        """Every loss of a batch by its name in `_WEIGHTS`."""
        import torch
        from torch.nn import functional as F

        items, lengths = self.padded(users)
        padding = items == self.n_items
        chance = torch.from_numpy(self.rng.random(items.shape)).masked_fill(padding, 2)
        places = (self.masked_share * lengths).round().clamp(min=1)
        masked = chance.argsort(dim=1).argsort(dim=1) < places[:, None]
        hidden = self.attend(self.network["item"](items.masked_fill(masked, self.mask)), padding)
        losses = {"masked items": self.cross_entropy(hidden, items.masked_fill(~masked, self.mask))}
        if self.attributes.shape[1]:
            vectors = self.network["attribute"].weight.T
            real = items[~padding].unique()
            of_items = self.network["item to attribute"](self.network["item"](real)) @ vectors
            of_places = self.network["place to attribute"](hidden[masked]) @ vectors
            losses["attributes of items"] = F.binary_cross_entropy_with_logits(of_items, self.attributes[real])
            losses["attributes of masked items"] = F.binary_cross_entropy_with_logits(
                of_places, self.attributes[items[masked]]
            )
        # A segment of a random half at most, alone and cut out of its surroundings.
        sizes = 1 + (torch.from_numpy(self.rng.random(len(users))) * (lengths // 2)).long()
        starts = (torch.from_numpy(self.rng.random(len(users))) * (lengths - sizes + 1)).long()
        place = torch.arange(items.shape[1])
        inside = (place >= starts[:, None]) & (place < (starts + sizes)[:, None])
        every = torch.arange(len(users))
        cut = self.attend(self.network["item"](items.masked_fill(inside, self.mask)), padding)[every, lengths - 1]
        alone = items.masked_fill(~inside & ~padding, self.mask)
        segment = self.attend(self.network["item"](alone), padding)[every, lengths - 1]
        losses["segments"] = F.cross_entropy(self.network["segment"](cut) @ segment.T / cut.shape[1] ** 0.5, every)
        return losses
