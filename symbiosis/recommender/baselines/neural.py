"""What the baselines trained by gradient descent share: one trainer.

torch is imported where it is used: every stage validates the params of all baselines, few train one.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from symbiosis.recommender.baselines.base import IterativeBaseline, IterativeParams
from symbiosis.recommender.data.training_data import TrainingData

if TYPE_CHECKING:
    from torch import Tensor, nn


class NeuralParams(IterativeParams):
    """Values to be tried that all of them have.

    Attributes
    ----------
    dimension
        Length of the vectors of items and users.
    dropout
        Share of the inputs of a layer set to 0 in training.
    learning_rate
        Of Adam.
    weight_decay
        Decoupled decay of all weights.
    users_per_batch
        Users of one step.
    """

    dimension: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    dropout: list[Annotated[float, Field(ge=0, lt=1)]] = Field(min_length=1)
    learning_rate: list[Annotated[float, Field(gt=0)]] = Field(min_length=1)
    weight_decay: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    users_per_batch: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class NeuralBaseline(IterativeBaseline):
    """A recommender whose network learns by AdamW from batches of users.

    Attributes
    ----------
    rng
        Draws batches and whatever else a loss needs; dropout draws from torch's own generator.
    network
        Made by `build`.
    """

    rng: np.random.Generator
    network: Any  # nn.ModuleDict, whose entries no type checker knows

    def __init__(self, data: TrainingData, seed: int) -> None:
        super().__init__(data, seed)
        self.n_users, self.n_items = self.train.shape
        self.lengths = np.diff(self.train.indptr)

    @abstractmethod
    def build(self, *_: Any, **shape: Any) -> "nn.ModuleDict":
        """Make the layers, their weights drawn from torch's generator."""

    @abstractmethod
    def loss(self, users: np.ndarray) -> "Tensor":
        """Return the loss of a batch of users, a scalar."""

    @abstractmethod
    def logits(self, users: np.ndarray) -> "Tensor":
        """Score all items, (B, I), without dropout."""

    def fit(self, *_: Any, **setting: Any) -> None:
        """Draw the weights."""
        from symbiosis.recommender.training.torch_setup import prepare_torch

        prepare_torch(self.seed)
        self.rng = np.random.default_rng(self.seed)
        self.users_per_batch = setting.pop("users_per_batch")
        self.rates = {"lr": setting.pop("learning_rate"), "weight_decay": setting.pop("weight_decay")}
        self.network = self.build(**setting)
        self.restart_optimiser()

    def restart_optimiser(self) -> None:
        """Forget the moments of the gradient."""
        import torch

        self.optimiser = torch.optim.AdamW(self.network.parameters(), fused=True, **self.rates)

    def batches(self) -> list[np.ndarray]:
        """Users with training items, in random order, a batch at a time."""
        users = self.rng.permutation(np.flatnonzero(self.lengths))
        return np.split(users, np.arange(self.users_per_batch, len(users), self.users_per_batch))

    def epoch(self) -> None:
        """Take a step for every batch."""
        self.network.train()
        for users in self.batches():
            self.step(self.loss(users))

    def step(self, loss: "Tensor") -> None:
        """Follow the gradient of a loss, its norm clipped at 5."""
        import torch

        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()

    def scores(self, users: np.ndarray) -> np.ndarray:
        """The network's scores, float32 (B, I)."""
        import torch

        self.network.eval()
        with torch.no_grad():
            scores: np.ndarray = self.logits(users).numpy()
        return scores
