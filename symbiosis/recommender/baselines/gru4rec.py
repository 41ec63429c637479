"""GRU4Rec: a recurrent network over a user's items."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from symbiosis.recommender.baselines.sequential import SequentialBaseline, SequentialParams, embedding

if TYPE_CHECKING:
    from torch import Tensor, nn


class GRU4RecParams(SequentialParams):
    """Values to be tried.

    Attributes
    ----------
    hidden
        Width of the recurrent layer.
    """

    hidden: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class GRU4Rec(SequentialBaseline):
    """Score items by ``h · e_i`` with h the last state of a gated recurrent unit, mapped to the items' dimension.

    References
    ----------
    Hidasi, Karatzoglou, Baltrunas and Tikk 2016, Session-based recommendations with recurrent neural networks; with the
    loss of `SequentialBaseline`.
    """

    Params = GRU4RecParams

    def build(self, *, dimension: int, dropout: float, hidden: int) -> "nn.ModuleDict":
        """Vectors of items (the last one pads), the recurrent layer and the map."""
        from torch import nn

        return nn.ModuleDict(
            {
                "item": embedding(self.n_items + 1, dimension),
                "dropout": nn.Dropout(dropout),
                "recurrent": nn.GRU(dimension, hidden, batch_first=True),
                "map": nn.Linear(hidden, dimension),
            }
        )

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place."""
        states, _ = self.network["recurrent"](self.network["dropout"](self.network["item"](items)))
        mapped: Tensor = self.network["map"](self.network["dropout"](states))
        return mapped
