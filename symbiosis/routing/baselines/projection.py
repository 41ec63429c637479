"""Few features of a query, for baselines whose work grows fast with the number of features."""

from dataclasses import dataclass

import numpy as np

DIMENSION = 64


@dataclass(frozen=True)
class Projection:
    """The leading principal components, scaled alike so that their mean variance is 1.

    Attributes
    ----------
    mean
        (d,).
    components
        (d, k).
    """

    mean: np.ndarray
    components: np.ndarray

    @classmethod
    def fit(cls, embeddings: np.ndarray) -> "Projection":
        """Fit to embeddings (N, d)."""
        from sklearn.decomposition import PCA

        model = PCA(min(DIMENSION, *embeddings.shape), svd_solver="covariance_eigh").fit(embeddings)
        scale = np.sqrt(model.explained_variance_.mean()) or 1.0
        return cls(model.mean_, model.components_.T / scale)

    @property
    def dimension(self) -> int:
        """Number of features D, the constant included."""
        return int(self.components.shape[1]) + 1

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Return (N, D), the last column 1."""
        return np.column_stack([(embeddings - self.mean) @ self.components, np.ones(len(embeddings))])
