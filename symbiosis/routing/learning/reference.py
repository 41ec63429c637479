"""What the training queries of a router were like, kept beside it: later queries are compared with them.

Two distances. Of the mix of tags: Jensen-Shannon, between the shares of the router's tags. Of the vectors: maximum mean
discrepancy with a Gaussian kernel (Gretton et al. 2012, JMLR 13), by random Fourier features (Rahimi and Recht 2007).
Each comes with the threshold that it exceeds with the probability `LEVEL` although nothing has changed, for just so
many queries, by simulation from the training queries. Both hold for queries that come independently of each other; an
encoder that was fine-tuned on the training queries lets new ones look a little farther away than they are.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.model import features
from symbiosis.routing.model.features import FeatureMap

FILE, TENSORS = "reference.json", "reference.safetensors"
LEVEL = 0.002
"""Probability of a false alarm of each check: five of them give at most one in a hundred windows."""
FREQUENCIES = 64
"""Random frequencies; each gives two features."""
PAIRS = 1000
"""Pairs of queries that the kernel's width is taken from."""
DRAWS = 5000
"""Simulated windows for a threshold."""


@dataclass(frozen=True)
class Distance:
    """How far a window of queries is from the training queries.

    Attributes
    ----------
    value
        The distance, from 0 on.
    threshold
        What it exceeds with the probability `LEVEL` if nothing has changed.
    """

    value: float
    threshold: float


class Expectations(BaseModel):
    """How far expectations of the LLM that the router would choose were off, cross-validated on training queries.

    Attributes
    ----------
    ece
        Expected calibration error.
    bias
        Observed less expected quality.
    cost_log_ratio
        Mean log of actual over expected cost; None: all was free.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    ece: float = 0.0
    bias: float = 0.0
    cost_log_ratio: float | None = None


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    format: Literal[1] = 1
    queries: int = Field(ge=1)
    tags: dict[str, int]
    spread: float = Field(ge=0)
    served: Expectations
    tensors_sha256: str


@dataclass(frozen=True)
class Reference:
    """A summary of N training queries.

    Attributes
    ----------
    queries
        N.
    tags
        Names of the T tags.
    counts
        (T,), queries of each tag as the router would see them if they were new.
    tag_weights, tag_bias
        (d, T) and (T,), the router's classifier of tags.
    mean, spread
        (d,), mean vector, and root mean squared distance from it.
    frequencies
        (d, m), of the random features.
    feature_mean, eigenvalues
        (2 m,), mean of the features, and eigenvalues of their covariance.
    served
        See `Expectations`.
    """

    queries: int
    tags: tuple[str, ...]
    counts: np.ndarray
    tag_weights: np.ndarray
    tag_bias: np.ndarray
    mean: np.ndarray
    spread: float
    frequencies: np.ndarray
    feature_mean: np.ndarray
    eigenvalues: np.ndarray
    served: Expectations

    @classmethod
    def fit(
        cls, feature_map: FeatureMap, offline: Split, logged: np.ndarray, report: dict[str, Any], seed: int
    ) -> "Reference":
        """Summarise the queries that a router was trained on.

        Parameters
        ----------
        feature_map
            Of the router.
        offline
            Queries of the table; a tag is named after the sub-domain that most of its queries have.
        logged
            (M, d), vectors of the queries whose feedback it was trained on, too; with M = 0 of any width.
        report
            Of the training, `symbiosis.routing.fitting.training.train`.
        seed
            Of folds and frequencies.
        """
        rng = np.random.default_rng(seed)
        vectors = np.vstack([offline.embeddings, logged]) if len(logged) else offline.embeddings
        own = feature_map.logits(vectors).argmax(axis=1)
        one, other = rng.integers(len(vectors), size=(2, PAIRS))
        width = float(np.median(np.linalg.norm(vectors[one] - vectors[other], axis=1))) or 1.0
        frequencies = rng.standard_normal((vectors.shape[1], FREQUENCIES)) / width
        random = _random_features(vectors, frequencies)
        covariance = np.atleast_2d(np.cov(random, rowvar=False)) if len(vectors) > 1 else np.zeros((1, 1))
        mean = vectors.mean(axis=0)
        return cls(
            len(vectors),
            _names(own[: len(offline)], offline.subdomains, feature_map.n_tags),
            np.bincount(_as_if_new(vectors, own, feature_map.n_tags, seed), minlength=feature_map.n_tags),
            feature_map.tag_weights,
            feature_map.tag_bias,
            mean,
            rounded(float(np.sqrt(((vectors - mean) ** 2).sum(axis=1).mean()))),
            frequencies,
            random.mean(axis=0),
            np.maximum(np.linalg.eigvalsh(covariance), 0.0),
            Expectations.model_validate(report.get("served", {})),
        )

    def tag_counts(self, vectors: np.ndarray) -> np.ndarray:
        """Return how many of the queries with vectors (n, d) have each tag, (T,)."""
        tags = (vectors @ self.tag_weights + self.tag_bias).argmax(axis=1)
        return np.bincount(tags, minlength=len(self.tags))

    def tag_distance(self, counts: np.ndarray) -> Distance | None:
        """Compare the mix of tags, from `tag_counts`; None: the router has no tags.

        Returns
        -------
        Distance
            Jensen-Shannon distance in bits^.5, 0..1.
        """
        if len(self.tags) < 2:
            return None
        value = _jensen_shannon(counts[None], self.counts[None])[0]
        return Distance(float(value), _tag_threshold(tuple(self.counts.tolist()), int(counts.sum())))

    def vector_distance(self, vectors: np.ndarray) -> Distance:
        """Compare vectors, (n, d).

        Returns
        -------
        Distance
            Maximum mean discrepancy, 0..1.5.
        """
        gap = _random_features(vectors, self.frequencies).mean(axis=0) - self.feature_mean
        # Under no change the gap is normal with the features' covariance times (1/n + 1/N), by the central limit.
        normal = np.random.default_rng(len(vectors)).standard_normal((DRAWS, len(self.eigenvalues)))
        drawn = (normal**2 @ self.eigenvalues) * (1 / len(vectors) + 1 / self.queries)
        return Distance(float(np.linalg.norm(gap)), float(np.sqrt(np.quantile(drawn, 1 - LEVEL))))

    def shift(self, vectors: np.ndarray) -> tuple[float, float]:
        """Return what people can picture of vectors, (n, d).

        Returns
        -------
        float
            Distance of the means in units of the training queries' spread.
        float
            Spread in the same units: 1 is as wide as in training.
        """
        mean, unit = vectors.mean(axis=0), self.spread or 1.0
        spread = np.sqrt(((vectors - mean) ** 2).sum(axis=1).mean())
        return float(np.linalg.norm(mean - self.mean) / unit), float(spread / unit)

    def save(self, folder: Path) -> None:
        """Write the summary beside the router."""
        from safetensors.numpy import save_file

        tensors = {
            name: np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            for name in ("eigenvalues", "feature_mean", "frequencies", "mean", "tag_bias", "tag_weights")
        }
        save_file(tensors, folder / TENSORS)
        manifest = _Manifest(
            queries=self.queries,
            tags=dict(zip(self.tags, self.counts.tolist(), strict=True)),
            spread=self.spread,
            served=self.served,
            tensors_sha256=sha256_of(folder / TENSORS),
        )
        write_json(folder / FILE, manifest.model_dump())

    @classmethod
    def load(cls, folder: Path | str) -> "Reference | None":
        """Read the summary of a trained router; None: an earlier release trained it, without one.

        Raises
        ------
        InputError
            It is damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        remedy = f"delete {folder} and run `dvc repro router-train`"
        try:
            manifest = _Manifest.model_validate(read_json(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{path}: `{'.'.join(map(str, first['loc']))}`: {first['msg']}; {remedy}") from None
        tensors = path.with_name(TENSORS)
        if not tensors.is_file() or sha256_of(tensors) != manifest.tensors_sha256:
            raise InputError(f"{tensors} is missing or damaged (its digest differs); {remedy}")
        from safetensors.numpy import load_file

        arrays = {name: array.astype(np.float64) for name, array in load_file(tensors).items()}
        return cls(
            queries=manifest.queries,
            tags=tuple(manifest.tags),
            counts=np.array(list(manifest.tags.values()), dtype=np.int64),
            spread=manifest.spread,
            served=manifest.served,
            **arrays,
        )


def _random_features(vectors: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    angles = vectors @ frequencies
    return np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(frequencies.shape[1])


def _as_if_new(vectors: np.ndarray, tags: np.ndarray, n_tags: int, seed: int) -> np.ndarray:
    """Tags, (N,), as a classifier of the other folds sees each query.

    With many numbers to a vector, a classifier knows nearly every query that it was trained on: their shares are not
    those that it sees of new ones.
    """
    folds = features.draw_folds(len(vectors), seed)
    seen = tags.copy()
    for fold in np.unique(folds):
        own = folds == fold
        seen[own] = features.classify(vectors[~own], tags[~own], n_tags, vectors[own])
    return seen


def _names(tags: np.ndarray, labels: Sequence[str], n_tags: int) -> tuple[str, ...]:
    """Name each tag after the label that most of its queries have; a name that is taken gets the tag's number."""
    named: dict[str, None] = {}
    for tag in range(n_tags):
        counted = Counter(labels[row] for row in np.flatnonzero(tags == tag).tolist())
        name = counted.most_common(1)[0][0] if counted else "unseen"
        named[f"{name} (tag {tag})" if name in named else name] = None
    return tuple(named)


def _jensen_shannon(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distances of rows of counts, (R, T) each, to the base 2."""
    p, q = some / some.sum(axis=1, keepdims=True), others / others.sum(axis=1, keepdims=True)
    middle = (p + q) / 2

    def divergence(shares: np.ndarray) -> np.ndarray:
        ratio = np.divide(shares, middle, out=np.ones_like(shares), where=shares > 0)
        return np.asarray((shares * np.log2(ratio)).sum(axis=1))

    return np.sqrt(np.maximum((divergence(p) + divergence(q)) / 2, 0.0))


@lru_cache(maxsize=32)
def _tag_threshold(counts: tuple[int, ...], n: int) -> float:
    """Quantile of the distance between a window of n queries and the training queries, drawn from the same shares."""
    shares, total = np.array(counts) / sum(counts), sum(counts)
    rng = np.random.default_rng(n)
    drawn = _jensen_shannon(rng.multinomial(n, shares, DRAWS), rng.multinomial(total, shares, DRAWS))
    return float(np.quantile(drawn, 1 - LEVEL))
