"""Losses that fine-tune a sentence encoder on tags: MixLLM, Eq. 1 to 3 (arXiv 2502.18482).

The paper leaves norms and temperature open. With free norms the inter-cluster loss has no lower bound, so embeddings
and centroids have length 1 here, and all dot products are divided by a temperature.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


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
