"""LLMs and queries as vectors in one space."""

from typing import TYPE_CHECKING

import numpy as np

from symbiosis.routing.baselines.networks import Network

if TYPE_CHECKING:
    import torch

RANK = 16


class EmbedLLM(Network):
    """Matrix factorisation of who answers what: v_l · (W x) for the LLM's vector v_l (EmbedLLM, arXiv 2410.02223)."""

    category = "factorisation"

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw both factors."""
        features = self.training.projection.dimension
        return {
            "query": generator.standard_normal((features, RANK)) / np.sqrt(features),
            "llm": np.stack([own.standard_normal(RANK) for own in self.training.generators()]) / np.sqrt(RANK),
        }

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added, (n, L)."""
        return (features @ self.weights["query"]) @ self.weights["llm"].T


class IRT(EmbedLLM):
    """Multidimensional item response theory on embeddings (IRT-Router, arXiv 2506.01048).

    The log odds are a(x) · theta_l - b(x): abilities theta_l of the LLM, how far the query asks for each of them
    (discrimination a, 0..1), and its difficulty b.
    """

    def start(self, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw discriminations and abilities; all queries start equally difficult."""
        return super().start(generator) | {"difficulty": np.zeros(self.training.projection.dimension)}

    def added(self, features: "torch.Tensor") -> "torch.Tensor":
        """Log odds added, (n, L)."""
        discrimination = (features @ self.weights["query"]).sigmoid()
        return discrimination @ self.weights["llm"].T - (features @ self.weights["difficulty"])[:, None]
