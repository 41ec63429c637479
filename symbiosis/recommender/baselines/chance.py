"""All items alike: the order of ties makes a random ranking, the level of chance."""

import numpy as np

from symbiosis.recommender.baselines.base import Baseline, BaselineParams


class ChanceParams(BaselineParams):
    """Nothing to tune."""


class Chance(Baseline):
    """Score 0 for every item."""

    Params = ChanceParams

    def fit(self) -> None:
        """Learn nothing."""

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Zeros, float32 (B, I)."""
        return np.zeros((len(users), self.train.shape[1]), np.float32)
