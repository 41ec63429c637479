"""Random forests as flat arrays: stored without pickle, evaluated without scikit-learn.

A forest that all LLMs share: which queries are alike is learned once, from the outcomes of all LLMs together.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.ensemble._forest import BaseForest


@dataclass(frozen=True)
class Forest:
    """A regression forest for one target.

    Attributes
    ----------
    roots
        (trees,) i64, node number of each tree's root.
    feature
        (nodes,) i32, the feature that a node asks for, -1 at a leaf.
    threshold
        (nodes,) f64: up to it go left.
    left, right
        (nodes,) i32, children.
    value
        (nodes,) f64, mean target at the node.
    """

    roots: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    @classmethod
    def fit(
        cls,
        features: np.ndarray,
        target: np.ndarray,
        trees: int,
        minimum_leaf: int,
        seed: int,
        weight: np.ndarray | None = None,
    ) -> tuple["Forest", np.ndarray]:
        """Fit with scikit-learn (Breiman 2001), a third of the features tried at each node.

        Parameters
        ----------
        features
            (N, D).
        target
            (N,).
        trees, minimum_leaf, seed
            Number of trees, least queries in a leaf, and the forest's random state.
        weight
            (N,), how many queries each is worth; None: one.

        Returns
        -------
        Forest
        numpy.ndarray
            (N,), out-of-bag predictions: each query's by the trees that have not seen it.
        """
        from sklearn.ensemble import RandomForestRegressor

        model = RandomForestRegressor(
            trees, min_samples_leaf=minimum_leaf, max_features=1 / 3, oob_score=True, random_state=seed
        ).fit(features, target, weight)
        return cls.flatten(model), np.asarray(model.oob_prediction_, dtype=np.float64)

    @classmethod
    def flatten(cls, model: "RandomForestRegressor") -> "Forest":
        """Copy the trees of a fitted scikit-learn forest with one target."""
        value = np.concatenate([estimator.tree_.value[:, 0, 0] for estimator in model.estimators_])
        return cls(**structure(model), value=value.astype(np.float64))

    @classmethod
    def constant(cls, value: float) -> "Forest":
        """Return one tree that is a leaf."""
        leaf = np.array([-1], dtype=np.int32)
        return cls(np.zeros(1, dtype=np.int64), leaf, np.zeros(1), leaf, leaf, np.array([value], dtype=np.float64))

    @property
    def level(self) -> float:
        """Mean of the targets that the trees have seen."""
        return float(self.value[self.roots].mean())

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Mean of the trees, (N,), equal to scikit-learn's.

        Parameters
        ----------
        features
            (N, D).
        """
        total: np.ndarray = self.value[leaves(self, features)].sum(axis=0)
        return total / len(self.roots)


class Trees(Protocol):
    """Trees as flat arrays; see `Forest`."""

    @property
    def roots(self) -> np.ndarray:
        """(trees,), node number of each tree's root."""

    @property
    def feature(self) -> np.ndarray:
        """(nodes,), -1 at a leaf."""

    @property
    def threshold(self) -> np.ndarray:
        """(nodes,), up to it go left."""

    @property
    def left(self) -> np.ndarray:
        """(nodes,)."""

    @property
    def right(self) -> np.ndarray:
        """(nodes,)."""


def structure(model: "BaseForest") -> dict[str, np.ndarray]:
    """Copy the trees of a fitted scikit-learn forest without their values: roots, feature, threshold, left, right."""
    trees = [estimator.tree_ for estimator in model.estimators_]
    roots = np.concatenate([[0], np.cumsum([tree.node_count for tree in trees])[:-1]]).astype(np.int64)

    def children(side: str) -> np.ndarray:
        parts = [getattr(tree, side) for tree in trees]
        return np.concatenate([np.where(p < 0, -1, p + r) for p, r in zip(parts, roots, strict=True)])

    left = children("children_left").astype(np.int32)
    feature = np.concatenate([tree.feature for tree in trees])
    return {
        "roots": roots,
        "feature": np.where(left < 0, -1, feature).astype(np.int32),
        "threshold": np.concatenate([tree.threshold for tree in trees]).astype(np.float64),
        "left": left,
        "right": children("children_right").astype(np.int32),
    }


def leaves(trees: Trees, features: np.ndarray) -> np.ndarray:
    """Node numbers of the leaves that queries end in, (trees, N).

    All trees walk down together, one level per step; who has reached a leaf drops out.

    Parameters
    ----------
    trees
        A forest.
    features
        (N, D).
    """
    # scikit-learn compares features in single with thresholds in double precision.
    table = features.astype(np.float32)
    node = np.repeat(trees.roots, len(table))
    query = np.tile(np.arange(len(table)), len(trees.roots))
    walking = np.flatnonzero(trees.feature[node] >= 0)
    while len(walking):
        here = node[walking]
        goes_left = table[query[walking], trees.feature[here]] <= trees.threshold[here]
        node[walking] = np.where(goes_left, trees.left[here], trees.right[here])
        walking = walking[trees.feature[node[walking]] >= 0]
    return node.reshape(len(trees.roots), len(table))


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
        The trees, see `symbiosis.routing.model.forests.Forest`.
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


class Walk:
    """A shared forest laid out for one query at a time: all trees go down together, and leaves stay where they are.

    The same numbers as `SharedForest` gives, to the last bit, in a fraction of the time.

    Parameters
    ----------
    forest
        Not copied.
    """

    def __init__(self, forest: SharedForest) -> None:
        inner, nodes = forest.feature >= 0, np.arange(len(forest.feature))
        self._roots, self._value = forest.roots, forest.value
        self._feature = np.where(inner, forest.feature, 0)
        self._threshold = np.where(inner, forest.threshold, np.inf)
        children = np.stack([forest.left, forest.right], axis=1)
        self._child = np.where(inner[:, None], children, nodes[:, None]).ravel()
        self._depth, level = 0, forest.roots
        while inner[level].any():
            level = children[level[inner[level]]].ravel()
            self._depth += 1

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return (L, 2) for features (D,)."""
        single, node = x.astype(np.float32), self._roots
        for _ in range(self._depth):
            right = single[self._feature[node]] > self._threshold[node]
            node = self._child[2 * node + right]
        total: np.ndarray = self._value[node].astype(np.float64).sum(axis=0)
        return total / len(node)
