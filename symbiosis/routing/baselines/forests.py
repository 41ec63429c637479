"""Random forests."""

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample

TREES = 60
SHARE = 0.5  # of the queries, drawn for each tree


class RandomForestParams(BaselineParams):
    """Least numbers of queries in a leaf to be tried."""

    minimum_leaf: tuple[int, ...] = Field(default=(5, 20), min_length=1)


class RandomForest(Predictive):
    """One forest per LLM, the quality predictor of MixLLM (arXiv 2502.18482); Breiman 2001."""

    category = "predictor"
    Params = RandomForestParams

    def fit(self, minimum_leaf: int) -> None:
        """Grow the forests."""
        from sklearn.ensemble import RandomForestRegressor

        training = self.training
        features = training.projection(training.sample.embeddings).astype(np.float32)
        self.forests = [
            RandomForestRegressor(
                TREES,
                min_samples_leaf=minimum_leaf,
                max_features="sqrt",
                max_samples=SHARE,
                random_state=(training.seed + number) % 2**32,
            ).fit(features, quality)
            for number, quality in zip(training.numbers(), training.outcomes.quality.T, strict=True)
        ]

    def quality(self, sample: Sample) -> np.ndarray:
        """Mean of the trees, (N, L)."""
        features = self.training.projection(sample.embeddings).astype(np.float32)
        return np.column_stack([forest.predict(features) for forest in self.forests])
