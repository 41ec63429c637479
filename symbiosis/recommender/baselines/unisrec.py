"""UniSRec: self-attention over what is written about a user's items."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.sequential import TransformerBaseline, TransformerParams

if TYPE_CHECKING:
    from torch import Tensor, nn


class UniSRecParams(TransformerParams):
    """Values to be tried.

    Attributes
    ----------
    text_dimension
        Length of the vector of an item's text.
    experts
        Whitened maps of that vector that are mixed.
    """

    text_dimension: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    experts: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class UniSRec(TransformerBaseline):
    """Score items by ``h · v_i`` with h the last state of a causal transformer over the ``v`` of a user's items.

    ``v_i = e_i + Σ_k g_k W_k (x_i - b_k)``: a free vector, and the item's text vector x through experts, mixed by the
    gate ``g = softmax(V x)``; the paper's transductive setting. An item that no user took has no free vector, its text
    stands alone. Of the paper, pre-training on other domains and the noise of the gate are left out, and the text
    vectors are those of `TrainingData.text_vectors`, not of BERT.

    References
    ----------
    Hou et al. 2022, Towards universal sequence representation learning for recommender systems (equations 1 to 3).
    """

    Params = UniSRecParams

    def build(
        self, *, dimension: int, dropout: float, layers: int, heads: int, text_dimension: int, experts: int
    ) -> "nn.ModuleDict":
        """Experts and gate beside what all transformers have."""
        import torch
        from torch import nn

        text = torch.from_numpy(self.data.text_vectors(text_dimension, self.seed))
        self.text = torch.nn.functional.pad(text, (0, 0, 0, 1))  # a row of zeros for padding
        taken = np.bincount(self.train.indices, minlength=self.n_items + 1) > 0
        self.taken = torch.from_numpy(taken.astype(np.float32)[:, None])
        return nn.ModuleDict(
            self.parts(dimension, dropout, layers, heads)
            | {
                "text dropout": nn.Dropout(dropout),
                "experts": nn.Linear(text.shape[1], experts * dimension),
                "gate": nn.Linear(text.shape[1], experts, bias=False),
            }
        )

    def vectors(self) -> "Tensor":
        """Vectors of all items and, last, of padding, (I + 1, D)."""
        gate = self.network["gate"](self.text).softmax(dim=1)
        mapped = self.network["experts"](self.network["text dropout"](self.text)).unflatten(1, (gate.shape[1], -1))
        vectors: Tensor = self.network["item"].weight * self.taken + (gate[..., None] * mapped).sum(dim=1)
        return vectors

    def item_vectors(self) -> "Tensor":
        """Vectors of the items, (I, D)."""
        return self.vectors()[: self.n_items]

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place."""
        return self.attend(self.vectors()[items])
