"""Multi-VAE: a variational autoencoder of a user's items with multinomial likelihood."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.neural import NeuralBaseline, NeuralParams

if TYPE_CHECKING:
    from torch import Tensor, nn


class MultiVAEParams(NeuralParams):
    """Values to be tried; `dimension` is that of the latent vector, `dropout` that of the input.

    Attributes
    ----------
    hidden
        Width of the hidden layer on both sides.
    beta
        Final weight of the divergence from the prior.
    annealing_epochs
        Epochs over which that weight rises from 0.
    """

    hidden: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    beta: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    annealing_epochs: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)


class MultiVAE(NeuralBaseline):
    """Score items by the decoder's logits at the mean of the user's latent vector.

    ``-Σ_{i taken} log softmax(decoder(z))_i + beta KL(q(z | x) || N(0, 1))``, z drawn from the encoder's normal
    distribution; the input is the user's row, of length 1, some of it dropped. Both sides have one hidden layer (tanh).

    References
    ----------
    Liang, Krishnan, Hoffman and Jebara 2018, Variational autoencoders for collaborative filtering (equations 4 to 6).
    """

    Params = MultiVAEParams

    def build(
        self, *, dimension: int, dropout: float, hidden: int, beta: float, annealing_epochs: int
    ) -> "nn.ModuleDict":
        """Encoder and decoder."""
        from torch import nn

        self.beta, self.steps = beta, 0
        self.annealing_steps = annealing_epochs * len(self.batches())
        layers = nn.ModuleDict(
            {
                "dropout": nn.Dropout(dropout),
                "encoder": nn.Sequential(nn.Linear(self.n_items, hidden), nn.Tanh(), nn.Linear(hidden, 2 * dimension)),
                "decoder": nn.Sequential(nn.Linear(dimension, hidden), nn.Tanh(), nn.Linear(hidden, self.n_items)),
            }
        )
        for layer in layers.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.trunc_normal_(layer.bias, std=0.001)
        return layers

    def encoded(self, taken: csr_array) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Rows of users (B, I), and mean and log variance of their latent vectors (B, D)."""
        import torch
        from torch.nn import functional as F

        rows = torch.from_numpy(taken.toarray())
        mean, log_variance = self.network["encoder"](self.network["dropout"](F.normalize(rows))).chunk(2, dim=1)
        return rows, mean, log_variance

    def loss(self, users: np.ndarray) -> "Tensor":
        """The negative evidence lower bound, its divergence weighted."""
        import torch

        rows, mean, log_variance = self.encoded(self.train[users])
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        likelihood = (self.network["decoder"](latent).log_softmax(dim=1) * rows).sum(dim=1).mean()
        divergence = 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1).mean()
        self.steps += 1
        return self.beta * min(1, self.steps / self.annealing_steps) * divergence - likelihood

    def logits(self, users: np.ndarray) -> "Tensor":
        """The decoder's logits."""
        scores: Tensor = self.network["decoder"](self.encoded(self.history[users])[1])
        return scores
