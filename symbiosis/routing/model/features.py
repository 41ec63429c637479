"""From a query's vector to the features that all predictors share: what it is about, and where it lies.

The features are the probabilities of the query's tag, read off the vector by a linear classifier, those of the tag's
group (the domain of a sub-domain), a constant, and the leading principal components. Tags come from the offline
queries' metadata (or from clusters where there is none) and are needed for training only, as in MixLLM
(arXiv 2502.18482), section on tag-enhanced embeddings: at serving time only the encoder runs.
"""

from dataclasses import dataclass

import numpy as np

FOLDS = 5
SHRINKAGE = 0.01  # of the classifier's covariance towards a multiple of the identity
TEMPERATURES = np.geomspace(1.0, 64.0, 25)


@dataclass(frozen=True)
class FeatureMap:
    """Map vectors of queries to features.

    Attributes
    ----------
    tag_weights, tag_bias
        (d, T) and (T,), the linear classifier of tags.
    groups
        (T, G), 1 where a tag belongs to a group.
    mean, components
        (d,) and (d, k), the principal components.
    """

    tag_weights: np.ndarray
    tag_bias: np.ndarray
    groups: np.ndarray
    mean: np.ndarray
    components: np.ndarray

    @property
    def n_tags(self) -> int:
        """Number of tags T."""
        return int(self.tag_weights.shape[1])

    @property
    def dimension(self) -> int:
        """Number of features D = T + G + 1 + k."""
        return self.n_tags + int(self.groups.shape[1]) + 1 + int(self.components.shape[1])

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return the features, (N, D): T tag probabilities, G group probabilities, 1, then k components.

        Parameters
        ----------
        vectors
            (N, d).
        """
        return self._features(_softmax(self.logits(vectors)), vectors)

    def logits(self, vectors: np.ndarray) -> np.ndarray:
        """Return the classifier's logits, (N, T)."""
        logits: np.ndarray = vectors @ self.tag_weights + self.tag_bias
        return logits

    def told(self, vectors: np.ndarray, tags: np.ndarray) -> np.ndarray:
        """Return the features of queries whose tags (N,) are known, (N, D)."""
        return self._features(np.eye(self.n_tags)[tags], vectors)

    def penalties(self, of_tags: float, of_components: float) -> np.ndarray:
        """Ridge penalties of the features, (D,): so many queries without a difference are added to those seen.

        A tag's coefficient counts what is special about it, its group's what is special about the group. So a tag with
        few queries is taken to be like its group, and a group with few like all queries: the hierarchical shrinkage of
        empirical Bayes. The constant is almost free.
        """
        sizes = (self.n_tags + self.groups.shape[1], 1, self.components.shape[1])
        return np.repeat([of_tags, CONSTANT_PENALTY, of_components], sizes)

    def _features(self, tags: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        return np.hstack(
            [tags, tags @ self.groups, np.ones((len(vectors), 1)), (vectors - self.mean) @ self.components]
        )


CONSTANT_PENALTY = 0.1


def fit(
    vectors: np.ndarray, tags: np.ndarray, groups: np.ndarray, dimension: int, folds: np.ndarray
) -> tuple[FeatureMap, np.ndarray]:
    """Fit the feature map, and give features for its own training queries as if they were new.

    A classifier is surer of queries that it was trained on than of new ones. Predictors judged on such features would
    trust the tags too much, so each training query's probabilities come from a classifier of the other folds. The
    same probabilities tell how sure the classifier may be: its logits are divided by the temperature that gives them
    the least log loss (Guo et al. 2017, arXiv 1706.04599).

    Parameters
    ----------
    vectors
        (N, d).
    tags
        (N,), 0..T-1.
    groups
        (T, G), see `groups_of`. With one tag the only tag feature is the constant 1.
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
    n_tags = len(groups)
    mean = vectors.mean(axis=0)
    dimension = min(dimension, vectors.shape[1], len(vectors) - 1)
    _, _, axes = np.linalg.svd(vectors - mean, full_matrices=False)
    components = axes[:dimension].T
    # Singular vectors are unique up to their sign: fix it, for the same components on every machine.
    largest = np.abs(components).argmax(axis=0)
    components = components * np.sign(components[largest, np.arange(dimension)])
    logits = np.empty((len(vectors), n_tags))
    for fold in np.unique(folds):
        held_out = folds == fold
        weights, bias = _classifier(vectors[~held_out], tags[~held_out], n_tags)
        logits[held_out] = vectors[held_out] @ weights + bias
    temperature = _temperature(logits, tags)
    weights, bias = _classifier(vectors, tags, n_tags)
    whole = FeatureMap(weights / temperature, bias / temperature, groups, mean, components)
    return whole, whole._features(_softmax(logits / temperature), vectors)


def classify(vectors: np.ndarray, tags: np.ndarray, n_tags: int, others: np.ndarray) -> np.ndarray:
    """Train a classifier of tags on vectors, (N, d) and (N,), and return the likeliest tag of others, (M, d)."""
    weights, bias = _classifier(vectors, tags, n_tags)
    return np.asarray((others @ weights + bias).argmax(axis=1))


def _temperature(logits: np.ndarray, tags: np.ndarray) -> float:
    """Return the temperature under which the tags are likeliest."""
    rows = np.arange(len(tags))

    def loss(temperature: float) -> float:
        likelihood = _softmax(logits / temperature)[rows, tags]
        return float(-np.log(np.maximum(likelihood, 1e-12)).mean())  # a tag unseen by the other folds has none

    return float(min(TEMPERATURES, key=loss))


def _classifier(vectors: np.ndarray, tags: np.ndarray, n_tags: int) -> tuple[np.ndarray, np.ndarray]:
    """Linear discriminant analysis with a shrunken covariance.

    A tag without queries gets probability 0; so does one with a single query, which has no covariance. Where all have
    one alone, they are equally likely.
    """
    present, counts = np.unique(tags, return_counts=True)
    weights = np.zeros((vectors.shape[1], n_tags))
    bias = np.full(n_tags, -np.inf)
    if len(present) == 1 or counts.max() == 1:
        bias[present] = 0.0
        return weights, bias
    present = present[counts > 1]
    known = np.isin(tags, present)
    vectors, tags = vectors[known], tags[known]
    if len(present) == 1:
        bias[present] = 0.0
        return weights, bias
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(vectors, tags)
    if len(present) == 2:  # one column: the log odds of the second tag
        weights[:, present[1]], bias[present] = model.coef_[0], [0.0, model.intercept_[0]]
    else:
        weights[:, present], bias[present] = model.coef_.T, model.intercept_
    return weights, bias


def _softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def draw_folds(n: int, seed: int) -> np.ndarray:
    """Draw the cross-validation fold (0..4) of each of `n` queries, folds of equal size."""
    folds: np.ndarray = np.random.default_rng(seed).permutation(np.arange(n) % FOLDS)
    return folds
