"""Terms of the graph, the order and the content in one weighted sum; no network."""

import numpy as np

from symbiosis.recommender.baselines.hybrid import Hybrid, HybridParams
from symbiosis.recommender.reranking.stage_one import Hidden


class TunedHybrid(Hybrid):
    """Score items by ``Σ_t w_t log(1 + flow_t / unit_t)`` with weights fitted listwise on cross-fitted terms.

    The terms are those of `symbiosis.recommender.reranking.candidate_terms`.
    """

    Params = HybridParams

    def fit(self, hidden: Hidden, decay: float, directed: bool) -> None:
        """Fit links and weights."""
        self.prepare(hidden, decay, directed)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Weighted sums of the terms, float32 (B, I)."""
        return self.whole.scores([self.history_of(user) for user in users], self.weights)
