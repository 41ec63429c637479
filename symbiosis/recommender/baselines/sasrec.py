"""SASRec: self-attention over a user's items, each place predicting the next."""

from typing import TYPE_CHECKING

from symbiosis.recommender.baselines.sequential import TransformerBaseline, TransformerParams

if TYPE_CHECKING:
    from torch import nn


class SASRecParams(TransformerParams):
    """Nothing beyond what all transformers have."""


class SASRec(TransformerBaseline):
    """Score items by ``h · e_i`` with h the last state of a causal transformer over item and place vectors.

    References
    ----------
    Kang and McAuley 2018, Self-attentive sequential recommendation; with the loss of `SequentialBaseline`.
    """

    Params = SASRecParams

    def build(self, *, dimension: int, dropout: float, layers: int, heads: int) -> "nn.ModuleDict":
        """Nothing beyond what all transformers have."""
        from torch import nn

        return nn.ModuleDict(self.parts(dimension, dropout, layers, heads))
