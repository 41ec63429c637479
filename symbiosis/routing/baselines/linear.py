"""Ridge regression of quality on the embedding."""

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample


class RidgeParams(BaselineParams):
    """Ridge penalties to be tried."""

    penalty: tuple[float, ...] = Field(default=(3.0, 10.0, 30.0, 100.0, 300.0), min_length=1)


class Ridge(Predictive):
    """One linear model per LLM, squared loss."""

    category = "predictor"
    Params = RidgeParams

    def fit(self, penalty: float) -> None:
        """Solve for the weights."""
        from sklearn.linear_model import Ridge as Model

        self.model = Model(penalty).fit(self.training.sample.embeddings, self.training.outcomes.quality)

    def quality(self, sample: Sample) -> np.ndarray:
        """Linear in the embedding, (N, L)."""
        return np.asarray(self.model.predict(sample.embeddings))
