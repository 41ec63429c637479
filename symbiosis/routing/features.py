"""From the embedding of a query to the features that all predictors share: what it is about, and where it lies.

The features are the probabilities of the query's tag, read off the embedding by a linear classifier, and the leading
principal components. Tags come from the offline queries' metadata (or from clusters where there is none) and are
needed for training only, as in MixLLM (arXiv 2502.18482), section on tag-enhanced embeddings: at serving time only
the encoder runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FOLDS = 5
SHRINKAGE = 0.01  # of the classifier's covariance towards a multiple of the identity


@dataclass(frozen=True)
class FeatureMap:
    """Map embeddings to features.

    Attributes
    ----------
    tag_weights, tag_bias
        (d, T) and (T,), the linear classifier of tags.
    mean, components
        (d,) and (d, k), the principal components.
    """

    tag_weights: np.ndarray
    tag_bias: np.ndarray
    mean: np.ndarray
    components: np.ndarray

    @property
    def n_tags(self) -> int:
        """Number of tags T."""
        return int(self.tag_weights.shape[1])

    @property
    def dimension(self) -> int:
        """Number of features D = T + k."""
        return self.n_tags + int(self.components.shape[1])

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """Return the features, (N, D): T tag probabilities that sum to 1, then k components.

        Parameters
        ----------
        embeddings
            (N, d).
        """
        logits = embeddings @ self.tag_weights + self.tag_bias
        return np.hstack([_softmax(logits), (embeddings - self.mean) @ self.components])


def fit(
    embeddings: np.ndarray, tags: np.ndarray, n_tags: int, dimension: int, folds: np.ndarray
) -> tuple[FeatureMap, np.ndarray]:
    """Fit the feature map, and give features for its own training queries as if they were new.

    A classifier is surer of queries that it was trained on than of new ones. Predictors trained on such features
    would trust the tags too much, so each training query's probabilities come from a classifier of the other folds.

    Parameters
    ----------
    embeddings
        (N, d).
    tags
        (N,), 0..n_tags-1.
    n_tags
        T; with 1 the only tag feature is the constant 1.
    dimension
        Number of principal components k, at most d and N - 1.
    folds
        (N,), the fold of each query.

    Returns
    -------
    FeatureMap
        Fitted to all queries.
    numpy.ndarray
        (N, D), cross-fitted features of the training queries.
    """
    mean = embeddings.mean(axis=0)
    dimension = min(dimension, embeddings.shape[1], len(embeddings) - 1)
    _, _, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    components = axes[:dimension].T
    # Singular vectors are unique up to their sign: fix it, for the same components on every machine.
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(dimension)])
    whole = FeatureMap(*_classifier(embeddings, tags, n_tags), mean, components)
    features = whole(embeddings)
    for fold in np.unique(folds):
        held_out = folds == fold
        part = FeatureMap(*_classifier(embeddings[~held_out], tags[~held_out], n_tags), mean, components)
        features[held_out] = part(embeddings[held_out])
    return whole, features


def _classifier(embeddings: np.ndarray, tags: np.ndarray, n_tags: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear discriminant analysis with a shrunken covariance; a tag without queries gets probability 0."""
    present = np.unique(tags)
    weights = np.zeros((embeddings.shape[1], n_tags))
    bias = np.full(n_tags, -np.inf)
    if len(present) == 1:
        bias[present] = 0.0
        return weights, bias
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(embeddings, tags)
    if len(present) == 2:  # one column: the log odds of the second tag
        weights[:, present[1]], bias[present] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[:, present], bias[present] = model.coef_.T, model.intercept_
    return weights, bias


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def number_tags(domains: Sequence[str], subdomains: Sequence[str | None], minimum: int) -> tuple[np.ndarray, list[str]]:
    """Number the sub-domains; one with too few queries counts as its domain, a domain with too few as the rest.

    Parameters
    ----------
    domains, subdomains
        Of each query.
    minimum
        A tag needs so many queries.

    Returns
    -------
    numpy.ndarray
        (N,), tag numbers 0..T-1.
    list of str
        T names, sorted: ``domain / subdomain``, ``domain`` or ``other``.
    """
    names = np.array([f"{d} / {s}" if s else d for d, s in zip(domains, subdomains, strict=True)], dtype=object)
    for fallback in (np.array(domains, dtype=object), np.full(len(names), "other", dtype=object)):
        values, inverse, counts = np.unique(names, return_inverse=True, return_counts=True)
        rare = counts[inverse] < minimum
        names = np.where(rare, fallback, names)
    values, inverse = np.unique(names, return_inverse=True)
    return inverse, [str(value) for value in values]


def cluster_tags(embeddings: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Tags where there is no metadata: k-means clusters of the embeddings, (N,)."""
    from sklearn.cluster import KMeans

    model = KMeans(min(clusters, len(embeddings)), n_init=4, random_state=seed).fit(embeddings)
    return np.unique(model.labels_, return_inverse=True)[1]


def draw_folds(n: int, seed: int) -> np.ndarray:
    """Draw the cross-validation fold (0..4) of each of `n` queries, folds of equal size."""
    folds: np.ndarray = np.random.default_rng(seed).permutation(np.arange(n) % FOLDS)
    return folds
