"""What every baseline is, and how its settings are chosen.

A new baseline is one module with a `BaselineParams` and a `Baseline`, and one line in
`symbiosis.recommender.baselines.registry`.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array
from tqdm import tqdm

from symbiosis.recommender.metrics import means
from symbiosis.recommender.ranking import rank_all
from symbiosis.stage import StageParams


class BaselineParams(StageParams):
    """The seed, and for every other key the values to be tried.

    Attributes
    ----------
    seed
        Seed of everything random, the order of ties included.
    """

    seed: int = Field(ge=0)

    def settings(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the values to be tried, the last key varying fastest."""
        grid = {name: values for name, values in self if name != "seed"}
        for combination in itertools.product(*grid.values()):
            yield dict(zip(grid, combination, strict=True))


class Baseline(ABC):
    """A recommender that learns from the training matrix alone.

    Parameters
    ----------
    train
        float32 (U, I), 1 where the user took the item. The constructor does the work that all settings share.
    seed
        Seed of everything random.
    """

    Params: ClassVar[type[BaselineParams]]

    def __init__(self, train: csr_array, seed: int) -> None:
        self.train = train
        self.seed = seed

    @abstractmethod
    def fit(self, *_: Any, **setting: Any) -> None:
        """Learn with one setting; what an earlier setting taught is forgotten."""

    @abstractmethod
    def scores(self, users: np.ndarray) -> np.ndarray:
        """Score all items, float32 (B, I), for user numbers (B,); larger is better."""


def tune(
    baseline: Baseline, params: BaselineParams, validation: csr_array, depth: int
) -> tuple[np.ndarray, dict[str, Any]]:
    """Try every setting and keep the one that ranks the validation items best.

    The criterion is Recall@20 + Recall@40 + NDCG@100; of equal settings the first wins. Nothing is fitted again on
    training and validation items together: the ranking returned is the one that was measured.

    Parameters
    ----------
    baseline
        Holds the training matrix, whose items are left out of the ranking.
    params
        The settings to be tried.
    validation
        (U, I), disjoint from the training matrix.
    depth
        Places of the ranking.

    Returns
    -------
    np.ndarray
        int32 (U, depth), padded with -1.
    dict
        The chosen setting, its validation metrics, and those of every setting tried.
    """
    best, ranking, tried = -np.inf, np.empty(0, np.int32), []
    settings = list(params.settings())
    chosen: dict[str, Any] = {}
    for setting in tqdm(settings, desc=type(baseline).__name__, unit="setting"):
        baseline.fit(**setting)
        candidate = rank_all(baseline.scores, baseline.train, depth, params.seed)
        metrics = means(candidate, validation)
        tried.append({"setting": setting, "validation": metrics})
        if sum(metrics.values()) > best:
            best, ranking, chosen = sum(metrics.values()), candidate, tried[-1]
    return ranking, {**chosen, "tried": tried}
