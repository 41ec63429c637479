"""MD-CVAE: an autoencoder of a user's items and one of the items' texts that keep each other's item vectors close."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.recommender.baselines.neural import NeuralBaseline, NeuralParams

if TYPE_CHECKING:
    from torch import Tensor, nn


class MDCVAEParams(NeuralParams):
    """Values to be tried; `dimension` is that of the user's latent vector, `dropout` that of his row.

    Attributes
    ----------
    hidden
        Length of the items' vectors.
    text_dimension
        Length of the vector of an item's text.
    beta
        Final weight of the divergence from the prior.
    annealing_epochs
        Epochs over which that weight rises from 0.
    mutual
        Weight of the squared distance between an item's vector and the latent vector of its text.
    """

    hidden: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    text_dimension: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    beta: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)
    annealing_epochs: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    mutual: list[Annotated[float, Field(ge=0)]] = Field(min_length=1)


class MDCVAE(NeuralBaseline):
    """Score items by ``v_i · d(z)``, z the mean of the user's latent vector and d the hidden layer of the decoder.

    The collaborative autoencoder is `MultiVAE` with one matrix of item vectors v as the first layer of its encoder and
    the last of its decoder. A second autoencoder has, for every item, a latent vector t of its text. Their mutual
    regularisation is ``mutual/2 |v_i - t_i|²``; an item that no user took is scored with the mean of t for v. The paper
    trains the two by turns, here each step trains both; the texts are `TrainingData.text_vectors`.

    References
    ----------
    Zhu and Chen 2022, Mutually-regularized dual collaborative variational auto-encoder for recommendation systems.
    """

    Params = MDCVAEParams

    def build(
        self,
        *,
        dimension: int,
        dropout: float,
        hidden: int,
        text_dimension: int,
        beta: float,
        annealing_epochs: int,
        mutual: float,
    ) -> "nn.ModuleDict":
        """Both autoencoders and the items' vectors."""
        import torch
        from torch import nn

        self.beta, self.mutual, self.steps = beta, mutual, 0
        self.annealing_steps = annealing_epochs * len(self.batches())
        self.text = torch.from_numpy(self.data.text_vectors(text_dimension, self.seed))
        self.untaken = torch.from_numpy(np.bincount(self.train.indices, minlength=self.n_items) == 0)
        width = self.text.shape[1]
        item, bias = nn.Embedding(self.n_items, hidden), nn.Embedding(self.n_items, 1)
        nn.init.xavier_normal_(item.weight)
        nn.init.zeros_(bias.weight)
        return nn.ModuleDict(
            {
                "dropout": nn.Dropout(dropout),
                "item": item,
                "encoder": nn.Sequential(nn.Tanh(), nn.Linear(hidden, 2 * dimension)),
                "decoder": nn.Sequential(nn.Linear(dimension, hidden), nn.Tanh()),
                "bias": bias,
                "text encoder": nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 2 * hidden)),
                "text decoder": nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, width)),
            }
        )

    def encoded(self, taken: csr_array) -> tuple["Tensor", "Tensor", "Tensor"]:
        """Rows of users (B, I), and mean and log variance of their latent vectors (B, D)."""
        import torch
        from torch.nn import functional as F

        rows = torch.from_numpy(taken.toarray())
        hidden = self.network["dropout"](F.normalize(rows)) @ self.network["item"].weight
        mean, log_variance = self.network["encoder"](hidden).chunk(2, dim=1)
        return rows, mean, log_variance

    def loss(self, users: np.ndarray) -> "Tensor":
        """Both negative evidence lower bounds and the mutual regularisation, the items' over those of the users."""
        import torch

        rows, mean, log_variance = self.encoded(self.train[users])
        latent = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        vectors, bias = self.network["item"].weight, self.network["bias"].weight[:, 0]
        logits = self.network["decoder"](latent) @ vectors.T + bias
        likelihood = (logits.log_softmax(dim=1) * rows).sum(dim=1).mean()
        self.steps += 1
        weight = self.beta * min(1, self.steps / self.annealing_steps)

        items = rows.any(dim=0).nonzero()[:, 0]
        text_mean, text_log_variance = self.network["text encoder"](self.text[items]).chunk(2, dim=1)
        text_latent = text_mean + torch.randn_like(text_mean) * (0.5 * text_log_variance).exp()
        rebuilt = ((self.network["text decoder"](text_latent) - self.text[items]) ** 2).sum(dim=1).mean()
        distance = ((vectors[items] - text_mean) ** 2).sum(dim=1).mean()
        of_items = rebuilt + weight * _divergence(text_mean, text_log_variance) + 0.5 * self.mutual * distance
        return weight * _divergence(mean, log_variance) - likelihood + of_items

    def logits(self, users: np.ndarray) -> "Tensor":
        """The decoder's logits."""
        import torch

        text_mean = self.network["text encoder"](self.text).chunk(2, dim=1)[0]
        vectors = torch.where(self.untaken[:, None], text_mean, self.network["item"].weight)
        scores: Tensor = self.network["decoder"](self.encoded(self.history[users])[1]) @ vectors.T
        return scores + self.network["bias"].weight[:, 0]


def _divergence(mean: "Tensor", log_variance: "Tensor") -> "Tensor":
    """KL divergence of normal distributions from N(0, 1), its mean over the rows."""
    return 0.5 * (log_variance.exp() + mean**2 - 1 - log_variance).sum(dim=1).mean()
