"""Fine-tune a sentence encoder on the tags of queries, or on how well each LLM answered them.

Losses that fine-tune a sentence encoder on tags: MixLLM, Eq. 1 to 3 (arXiv 2502.18482).

The paper leaves norms and temperature open. With free norms the inter-cluster loss has no lower bound, so embeddings
and centroids have length 1 here, and all dot products are divided by a temperature.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from symbiosis.core.progress import tqdm
from symbiosis.routing.queries.params import TrainEncoderParams

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

GRADIENT_NORM = 1.0


class Objective(Protocol):
    """What the encoder is trained for."""

    def head(self) -> list[torch.nn.Parameter]:
        """Return parameters that are trained beside the encoder's."""

    def begin(self, embeddings: Tensor) -> None:
        """Look at the embeddings of all queries, (N, d), before an epoch."""

    def loss(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Return the loss of a batch: embeddings (B, d) with gradient, and which queries they are, (B,)."""


class TagObjective:
    """Queries of one domain together, domains apart: ``L_intra + weight * L_inter`` (MixLLM, Eq. 1).

    The centroids that queries are compared with are a running mean, taken anew from all queries before each epoch;
    those that are driven apart are the means of the batch, which gradient flows through.

    Parameters
    ----------
    domains
        (N,), domain of each query, 0..D-1, each with at least one query.
    temperature, inter_weight
        See `symbiosis.routing.queries.finetuning`.
    momentum
        Share of the old centroid that a batch leaves.
    """

    def __init__(self, domains: np.ndarray, temperature: float, inter_weight: float, momentum: float) -> None:
        self.domains = torch.from_numpy(domains.astype(np.int64))
        self.temperature, self.inter_weight, self.momentum = temperature, inter_weight, momentum
        self.centroids = torch.empty(0)

    def head(self) -> list[torch.nn.Parameter]:
        """Nothing is trained beside the encoder."""
        return []

    def begin(self, embeddings: Tensor) -> None:
        """Take the centroids anew."""
        self.centroids = batch_centroids(embeddings, self.domains)[1]

    def loss(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Return the loss, and move the running centroids towards the batch's."""
        domains = self.domains[rows]
        loss = intra_cluster(embeddings, domains, self.centroids, self.temperature)
        present, own = batch_centroids(embeddings, domains)
        loss = loss + self.inter_weight * inter_cluster(own, self.temperature)
        moved = self.momentum * self.centroids[present] + (1 - self.momentum) * own.detach()
        self.centroids = self.centroids.index_copy(0, present, F.normalize(moved, dim=1))
        return loss


class QualityObjective:
    """Squared error of a linear head that predicts each LLM's quality; docs/methods.md, section 2.2.

    The head starts as the ridge regression on the embeddings before training, so that the encoder is not first
    spoilt by a random head (Kumar et al. 2022, arXiv 2202.10054: linear probing, then fine-tuning).

    Parameters
    ----------
    quality
        (N, L), 0..1.
    """

    RIDGE = 1.0

    def __init__(self, quality: np.ndarray) -> None:
        self.quality = torch.from_numpy(quality.astype(np.float32))
        self.weights = torch.nn.Parameter(torch.empty(0))
        self.bias = torch.nn.Parameter(self.quality.mean(dim=0))

    def head(self) -> list[torch.nn.Parameter]:
        """Return the head: weights (d, L) and bias (L,)."""
        return [self.weights, self.bias]

    def begin(self, embeddings: Tensor) -> None:
        """Fit the head before the first epoch; later ones go on with it."""
        if self.weights.numel():
            return
        x, mean = embeddings.double(), embeddings.double().mean(dim=0)
        centred, target = x - mean, self.quality.double() - self.quality.double().mean(dim=0)
        gram = centred.T @ centred + self.RIDGE * torch.eye(x.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(gram, centred.T @ target)
        self.weights.data = weights.float()
        self.bias.data = (self.quality.double().mean(dim=0) - mean @ weights).float()

    def loss(self, embeddings: Tensor, rows: Tensor) -> Tensor:
        """Mean over queries and LLMs."""
        return F.mse_loss(embeddings @ self.weights + self.bias, self.quality[rows])


def with_mean_pooling(model: "SentenceTransformer") -> "SentenceTransformer":
    """Return the encoder with mean pooling and vectors of length 1, whatever it had on top of its transformer."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    transformer: Any = model[0]
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pooling, Normalize()], device="cpu")


def fine_tune(
    model: "SentenceTransformer",
    texts: Sequence[str],
    objective: Objective,
    params: TrainEncoderParams,
    log: Callable[[dict[str, float], int], None] = lambda metrics, step: None,
) -> list[dict[str, float]]:
    """Train an encoder in place; the same weights for the same seed.

    Parameters
    ----------
    model
        From `with_mean_pooling`; texts are cut to its last tokens.
    texts
        N training queries.
    objective
        Knows the queries by their row.
    params
        The stage's.
    log
        Called with the mean loss and the step after each epoch.

    Returns
    -------
    list of dict
        ``epoch`` and mean ``loss`` of each epoch.
    """
    torch.manual_seed(params.seed)
    torch.use_deterministic_algorithms(True)
    rng = np.random.default_rng(params.seed)
    curve: list[dict[str, float]] = []
    optimiser: torch.optim.AdamW | None = None
    steps = -(-len(texts) // params.batch)
    bar = tqdm(total=2 * steps * params.epochs, desc="train encoder", unit="batch", dynamic_ncols=True)
    for epoch in range(1, params.epochs + 1):
        objective.begin(_embed_all(model, texts, params, bar))
        if optimiser is None:  # the head has its size by now
            optimiser = torch.optim.AdamW(
                [
                    {"params": list(model.parameters()), "lr": params.learning_rate},
                    {"params": objective.head(), "lr": params.head_learning_rate},
                ]
            )
        model.train()
        losses = []
        order = rng.permutation(len(texts))
        for start in range(0, len(order), params.batch):
            rows = order[start : start + params.batch]
            loss = objective.loss(_forward(model, texts, rows, params.precision), torch.from_numpy(rows))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_NORM)
            optimiser.step()
            losses.append(loss.item())
            bar.update()
        curve.append({"epoch": epoch, "loss": round(float(np.mean(losses)), 6)})
        bar.set_postfix(loss=f"{curve[-1]['loss']:.4g}")
        log({"loss": curve[-1]["loss"]}, epoch * steps)
    bar.close()
    model.eval()
    return curve


def _forward(model: "SentenceTransformer", texts: Sequence[str], rows: np.ndarray, precision: str) -> Tensor:
    """Embeddings of some texts, (B, d) float32."""
    inputs = model.preprocess([texts[row] for row in rows])
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        embeddings: Tensor = model(inputs)["sentence_embedding"]
    return F.normalize(embeddings.float(), dim=1)


def _embed_all(model: "SentenceTransformer", texts: Sequence[str], params: TrainEncoderParams, bar: tqdm) -> Tensor:
    """Embeddings of all texts without dropout, (N, d), in batches of texts of like length."""
    model.eval()
    order = np.argsort([-len(text) for text in texts], kind="stable")
    parts = []
    with torch.no_grad():
        for start in range(0, len(order), params.batch):
            parts.append(_forward(model, texts, order[start : start + params.batch], params.precision))
            bar.update()
    embeddings = torch.cat(parts)
    return embeddings[torch.from_numpy(np.argsort(order))]


def intra_cluster(embeddings: Tensor, domains: Tensor, centroids: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of each query's domain under a softmax over its likeness to the centroids; Eq. 2.

    ``L_intra = -(1/|Q|) sum_i log [exp(e_i . mu_(i) / t) / sum_j exp(e_i . mu_j / t)]``

    Parameters
    ----------
    embeddings
        (B, d), rows of length 1.
    domains
        (B,), 0..D-1.
    centroids
        (D, d), rows of length 1; no gradient flows into them.
    temperature
        t.
    """
    return F.cross_entropy(embeddings @ centroids.detach().T / temperature, domains)


def inter_cluster(centroids: Tensor, temperature: float) -> Tensor:
    """How like each other the centroids are; Eq. 3. It is minimised, which drives them apart.

    ``L_inter = +(1/|D|) sum_j log sum_{k != j} exp(mu_j . mu_k / t)``

    Parameters
    ----------
    centroids
        (D, d), rows of length 1; gradient flows into them.
    temperature
        t.

    Returns
    -------
    Tensor
        A scalar; 0 where there are fewer than two centroids.
    """
    if len(centroids) < 2:
        return centroids.new_zeros(())
    likeness = centroids @ centroids.T / temperature
    itself = torch.eye(len(centroids), dtype=torch.bool, device=centroids.device)
    return torch.logsumexp(likeness.masked_fill(itself, -torch.inf), dim=1).mean()


def batch_centroids(embeddings: Tensor, domains: Tensor) -> tuple[Tensor, Tensor]:
    """Mean embedding of each domain in a batch, scaled to length 1.

    Parameters
    ----------
    embeddings
        (B, d).
    domains
        (B,).

    Returns
    -------
    tuple of Tensor
        The domains that the batch holds, (P,), ascending, and their centroids, (P, d).
    """
    present, member = torch.unique(domains, return_inverse=True)
    one_hot = F.one_hot(member, len(present)).to(embeddings.dtype)
    return present, F.normalize(one_hot.T @ embeddings, dim=1)
