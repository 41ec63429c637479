"""The cost of an answer before it is written, the same for all baselines that have no way of their own."""

from dataclasses import dataclass

import numpy as np

from symbiosis.routing.outcomes import Llms

PENALTIES = (3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class CostModel:
    """Response tokens by ridge regression on the embedding, then prompt and response tokens times prices.

    Squared loss on the tokens themselves, not on their logarithm: what is paid is the mean.

    Attributes
    ----------
    weights, level
        (d, L) and (L,).
    shortest, longest
        (L,), of the responses seen; no prediction lies outside.
    llms
        Their prices.
    """

    weights: np.ndarray
    level: np.ndarray
    shortest: np.ndarray
    longest: np.ndarray
    llms: Llms

    @classmethod
    def fit(cls, embeddings: np.ndarray, response_tokens: np.ndarray, llms: Llms) -> "CostModel":
        """Fit to queries (N, d) and (N, L), each LLM's penalty chosen by leave-one-out error."""
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(embeddings, response_tokens)
        limits = response_tokens.min(axis=0), response_tokens.max(axis=0)
        return cls(model.coef_.T, model.intercept_, *limits, llms)

    def __call__(self, embeddings: np.ndarray, prompt_tokens: np.ndarray) -> np.ndarray:
        """Expected dollars, (N, L), for queries (N, d) and (N, L)."""
        return self.llms.cost_usd(prompt_tokens, self.response_tokens(embeddings))

    def response_tokens(self, embeddings: np.ndarray) -> np.ndarray:
        """Expected response tokens, (N, L)."""
        return np.clip(embeddings @ self.weights + self.level, self.shortest, self.longest)
