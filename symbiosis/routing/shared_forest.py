"""A forest that all LLMs share: which queries are alike is learned once, from the outcomes of all LLMs together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from symbiosis.routing.forest import leaves, structure

CHUNK = 512  # queries at a time: bounds memory at CHUNK x trees node numbers
LENGTH_WEIGHT = 0.3  # of the spread of log lengths beside that of quality, where trees are split: quality decides


@dataclass(frozen=True)
class SharedForest:
    """Extremely randomised trees (Geurts, Ernst and Wehenkel 2006) with quality and log length of every LLM in a leaf.

    Two queries count as neighbours as often as they end in the same leaf, and what is predicted is a mean over
    neighbours. Unlike nearest neighbours in the embedding, the trees know which features matter to quality.

    Attributes
    ----------
    roots, feature, threshold, left, right
        The trees, see `symbiosis.routing.forest.Forest`.
    value
        (nodes, L, 2) f32, mean targets at the node.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    @classmethod
    def fit(
        cls, features: np.ndarray, targets: np.ndarray, trees: int, minimum_leaf: int, seed: int
    ) -> tuple["SharedForest", np.ndarray]:
        """Fit with scikit-learn, each tree on a bootstrap sample, the root of the number of features tried at a node.

        Parameters
        ----------
        features
            (N, D).
        targets
            (N, L, 2), quality and log length.
        trees, minimum_leaf, seed
            Number of trees, least queries in a leaf, and the forest's random state.

        Returns
        -------
        SharedForest
        numpy.ndarray
            (N, L, 2), out-of-bag predictions: each query's by the trees that have not seen it.
        """
        from sklearn.ensemble import ExtraTreesRegressor

        mean, spread = targets.mean(axis=0), targets.std(axis=0).mean(axis=0)
        scale = np.where(spread > 0, spread, 1.0) / np.array([1.0, LENGTH_WEIGHT])
        model = ExtraTreesRegressor(
            trees,
            min_samples_leaf=minimum_leaf,
            max_features="sqrt",
            bootstrap=True,
            oob_score=True,
            random_state=seed,
        ).fit(features, ((targets - mean) / scale).reshape(len(targets), -1))
        shape = (-1, *targets.shape[1:])
        value = np.concatenate([estimator.tree_.value[:, :, 0] for estimator in model.estimators_]).reshape(shape)
        held_out = np.asarray(model.oob_prediction_, dtype=np.float64).reshape(shape) * scale + mean
        return cls(**structure(model), value=(value * scale + mean).astype(np.float32)), held_out

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return (N, L, 2) for features (N, D)."""
        result = np.zeros((len(features), *self.value.shape[1:]))
        for start in range(0, len(features), CHUNK):
            part = result[start : start + CHUNK]
            for nodes in leaves(self, features[start : start + CHUNK]):
                part += self.value[nodes]
        return result / len(self.roots)

    def take(self, arms: Sequence[int]) -> "SharedForest":
        """Return the forest with the values of the given LLMs, in that order."""
        return replace(self, value=self.value[:, list(arms)])

    def with_average(self) -> "SharedForest":
        """Return this forest with, for one LLM more, the mean over the others."""
        return replace(self, value=np.concatenate([self.value, self.value.mean(axis=1, keepdims=True)], axis=1))
