"""What the sequential baselines share: histories in order, batches of similar length, next-item loss."""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.neural import NeuralBaseline, NeuralParams
from symbiosis.recommender.data.training_data import TrainingData

if TYPE_CHECKING:
    from torch import Tensor, nn


class SequentialParams(NeuralParams):
    """Values to be tried that all of them have.

    Attributes
    ----------
    maximum_length
        Latest items of a user that are looked at.
    order
        Of a user's items in training: that of ``time``, or in every epoch a ``random`` one, for splits whose held-out
        items lie anywhere among a user's. Histories are always scored in order of time.
    """

    maximum_length: list[Annotated[int, Field(ge=2)]] = Field(min_length=1)
    order: list[Literal["time", "random"]] = Field(min_length=1)


class TransformerParams(SequentialParams):
    """Values to be tried of those with self-attention.

    Attributes
    ----------
    layers
        Blocks of self-attention and feed-forward layer.
    heads
        Of each, a divisor of `dimension`.
    """

    layers: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    heads: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class SequentialBaseline(NeuralBaseline):
    """A recommender that reads a user's items in order of time and scores what comes next.

    The loss is the softmax cross-entropy over all items of every next item; papers that draw a few negative items
    instead did so for speed, and lose by it (Klenitskiy and Vasilev 2023, Turning dross into gold loss).
    """

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.sequences = data.sequences()

    def read(self, histories: TrainingData) -> None:
        """Read these histories, in order of time, from now on."""
        super().read(histories)
        self.sequences, self.lengths = histories.sequences(), np.diff(self.history.indptr)

    @abstractmethod
    def encode(self, items: "Tensor") -> "Tensor":
        """Turn item numbers (B, L), padded at the end with I, into hidden states (B, L, D) that see no later item."""

    def item_vectors(self) -> "Tensor":
        """Vectors of the items, (I, D), that hidden states are multiplied with."""
        vectors: Tensor = self.network["item"].weight[: self.n_items]
        return vectors

    def fit(self, *_: Any, **setting: Any) -> None:
        """Draw the weights."""
        self.maximum_length, self.order = setting.pop("maximum_length"), setting.pop("order")
        super().fit(**setting)

    def epoch(self) -> None:
        """Take a step for every batch."""
        in_time = self.sequences
        if self.order == "random":
            self.sequences = shuffled(in_time, self.rng)
        super().epoch()
        self.sequences = in_time

    def batches(self) -> list[np.ndarray]:
        """Users with two training items or more; those of similar length together, so that little is padded."""
        users = self.rng.permutation(np.flatnonzero(self.lengths > 1))
        users = users[np.argsort(np.minimum(self.lengths[users], self.maximum_length), kind="stable")]
        parts = np.split(users, np.arange(self.users_per_batch, len(users), self.users_per_batch))
        return [parts[i] for i in self.rng.permutation(len(parts))]

    def padded(self, users: np.ndarray, spare: int = 0) -> tuple["Tensor", "Tensor"]:
        """Return the latest items of the users, int64 (B, L + spare), padded with I, and their numbers (B,)."""
        import torch

        lengths = np.minimum(self.lengths[users], self.maximum_length - spare)
        items = np.full((len(users), max(1, int(lengths.max())) + spare), self.n_items, np.int64)
        ends = self.sequences.indptr[users + 1]
        places = np.arange(items.shape[1]) < lengths[:, None]
        offsets = np.arange(items.shape[1]) + (ends - lengths)[:, None]
        items[places] = self.sequences.indices[offsets[places]]
        return torch.from_numpy(items), torch.from_numpy(lengths.astype(np.int64))

    def loss(self, users: np.ndarray) -> "Tensor":
        """Cross-entropy of every item given those before it."""
        items, _ = self.padded(users)
        return self.cross_entropy(self.encode(items[:, :-1]), items[:, 1:])

    def cross_entropy(self, hidden: "Tensor", target: "Tensor") -> "Tensor":
        """Softmax over all items at hidden states (B, L, D); targets (B, L) of I and above do not count."""
        from torch.nn import functional as F

        real = target < self.n_items
        return F.cross_entropy(hidden[real] @ self.item_vectors().T, target[real])

    def logits(self, users: np.ndarray) -> "Tensor":
        """Products of the last hidden state with the items."""
        items, lengths = self.padded(users)
        last = (lengths - 1).clamp(min=0)
        return self.encode(items)[range(len(users)), last] @ self.item_vectors().T


class TransformerBaseline(SequentialBaseline):
    """A sequential recommender with a transformer over the vectors of items and places."""

    def parts(
        self, dimension: int, dropout: float, layers: int, heads: int, special: int = 1
    ) -> dict[str, "nn.Module"]:
        """Vectors of items and, after them, of `special` tokens, the first of which pads; of places; transformer."""
        from torch import nn

        return {
            "item": embedding(self.n_items + special, dimension),
            "place": embedding(self.maximum_length, dimension),
            "dropout": nn.Dropout(dropout),
            "transformer": transformer(dimension, layers, heads, dropout),
        }

    def encode(self, items: "Tensor") -> "Tensor":
        """Hidden states of every place; padding stands at the end, where nothing real sees it."""
        return self.attend(self.network["item"](items))

    def attend(self, vectors: "Tensor", padding: "Tensor | None" = None, name: str = "transformer") -> "Tensor":
        """Transform vectors (B, L, D); each place sees those before it or, given what is padding (B, L), all others."""
        import torch

        length = vectors.shape[1]
        states = self.network["dropout"](vectors + self.network["place"].weight[:length])
        hidden: Tensor
        if padding is None:
            later = torch.full((length, length), float("-inf")).triu(1)
            hidden = self.network[name](states, mask=later, is_causal=True)
        else:
            hidden = self.network[name](states, src_key_padding_mask=padding)
        return hidden


def shuffled(sequences: csr_array, rng: np.random.Generator) -> csr_array:
    """Put every user's items into a random order; the stored entries of a row stand in order."""
    users = np.repeat(np.arange(sequences.shape[0]), np.diff(sequences.indptr))
    order = np.lexsort((rng.random(sequences.nnz), users))
    return csr_array((sequences.data, sequences.indices[order], sequences.indptr), shape=sequences.shape)


def embedding(count: int, dimension: int) -> "nn.Embedding":
    """Vectors drawn from N(0, 0.02²)."""
    from torch import nn

    layer = nn.Embedding(count, dimension)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def transformer(dimension: int, layers: int, heads: int, dropout: float) -> "nn.TransformerEncoder":
    """Blocks of self-attention with layer norm before each part and after the last."""
    from torch import nn

    block = nn.TransformerEncoderLayer(
        dimension, heads, 4 * dimension, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    return nn.TransformerEncoder(block, layers, nn.LayerNorm(dimension), enable_nested_tensor=False)
