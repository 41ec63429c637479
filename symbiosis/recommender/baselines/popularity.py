"""The most taken items first, the same for everybody."""

import numpy as np

from symbiosis.recommender.baselines.base import Baseline, BaselineParams


class PopularityParams(BaselineParams):
    """Nothing to tune."""


class Popularity(Baseline):
    """Score an item by the number of users that took it in training."""

    Params = PopularityParams

    def fit(self) -> None:
        """Count."""
        self.counts = np.bincount(self.train.indices, minlength=self.train.shape[1]).astype(np.float32)

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Counts, float32 (B, I)."""
        return np.tile(self.counts, (len(users), 1))
