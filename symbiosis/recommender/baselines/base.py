"""What every baseline is, and how its settings are chosen.

A new baseline is one module with a `BaselineParams` and a `Baseline`, and one line in
`symbiosis.recommender.baselines.registry`.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field
from scipy.sparse import csr_array

from symbiosis.core.params import StageParams
from symbiosis.core.progress import tqdm
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS, Protocol
from symbiosis.recommender.metrics.ranking import rank_all


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
        grid = {name: values for name, values in self if isinstance(values, list)}
        for combination in itertools.product(*grid.values()):
            yield dict(zip(grid, combination, strict=True))


class IterativeParams(BaselineParams):
    """Of a baseline that learns in epochs: how long each setting may learn.

    Attributes
    ----------
    epochs
        How many at most.
    patience
        A setting is given up after so many epochs that rank validation no better than an earlier one.
    """

    epochs: int = Field(ge=1)
    patience: int = Field(ge=1)


class Baseline(ABC):
    """A recommender that learns from the training data alone.

    Parameters
    ----------
    data
        The constructor does the work that all settings share.
    seed
        Seed of everything random.
    """

    Params: ClassVar[type[BaselineParams]]
    refits: ClassVar[bool] = False
    """Whether `refit` does anything."""

    def __init__(self, data: TrainingData, seed: int) -> None:
        self.data = data
        self.train = self.history = data.interactions
        self.seed = seed

    @abstractmethod
    def fit(self, *_: Any, **setting: Any) -> None:
        """Learn with one setting; what an earlier setting taught is forgotten."""

    def read(self, histories: TrainingData) -> None:
        """Score users by these histories from now on; nothing is learned from them."""
        self.history = histories.interactions

    def refit(self, histories: TrainingData) -> None:
        """Read these histories from now on, and learn from them whatever needs no choice of a setting or an epoch."""
        self.read(histories)

    @abstractmethod
    def scores(self, users: np.ndarray) -> np.ndarray:
        """Score all items, float32 (B, I), for user numbers (B,); larger is better."""


class IterativeBaseline(Baseline):
    """A recommender that learns in epochs: `fit` only prepares the first one."""

    rewinds: ClassVar[bool] = False
    """Whether `rewind` does anything."""

    def rewind(self, epoch: int) -> None:
        """Score as after this epoch; the next call is `fit`."""
        raise NotImplementedError

    @abstractmethod
    def epoch(self) -> None:
        """Pass over the training data once more."""


def learn(baseline: Baseline, params: BaselineParams, setting: dict[str, Any]) -> Iterator[int]:
    """Learn with one setting; yield the epoch, from 1, whenever there is something to rank with."""
    baseline.fit(**setting)
    if not (isinstance(baseline, IterativeBaseline) and isinstance(params, IterativeParams)):
        yield 1
        return
    for epoch in range(1, params.epochs + 1):
        baseline.epoch()
        yield epoch


class Tuned(NamedTuple):
    """What `tune` has found.

    Attributes
    ----------
    ranking
        int32 (U, depth), padded with -1.
    record
        The chosen setting, its validation metrics, its best epoch if it has epochs, and those of every setting tried.
    refitted
        int32 (U, depth) likewise, after the validation items were learned from with all choices left as they were; None
        if the baseline cannot or histories do not grow.
    """

    ranking: np.ndarray
    record: dict[str, Any]
    refitted: np.ndarray | None


def tune(
    baseline: Baseline,
    params: BaselineParams,
    validation: csr_array,
    depth: int,
    protocol: Protocol = HELD_OUT_SETS,
    at_test: TrainingData | None = None,
) -> Tuned:
    """Try every setting and keep the one, and of its epochs the one, that ranks the validation items best.

    The criterion is the protocol's; of equal ones the first wins. For `Tuned.ranking` nothing is fitted again on
    training and validation items together.

    Parameters
    ----------
    baseline
        Holds the training matrix, whose items are left out of the ranking.
    params
        The settings to be tried and, for an `IterativeBaseline`, how long each may learn.
    validation
        (U, I), disjoint from the training matrix.
    depth
        Places of the ranking.
    protocol
        Says what ranks best.
    at_test
        Histories to rank by in the end; if not given, the ranking returned is the one that was measured.
    """
    patience = params.patience if isinstance(params, IterativeParams) else 1
    rewinds = isinstance(baseline, IterativeBaseline) and baseline.rewinds
    best, ranking, refitted, tried = -np.inf, np.empty(0, np.int32), None, []
    chosen: dict[str, Any] = {}

    def at_end(measured: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        if at_test is None:
            return measured, None
        found = []
        for read in (baseline.read, baseline.refit) if baseline.refits else (baseline.read,):
            read(at_test)
            found.append(rank_all(baseline.scores, at_test.interactions, depth, params.seed))
        baseline.read(baseline.data)
        return found[0], found[1] if baseline.refits else None

    with tqdm(list(params.settings()), desc=type(baseline).__name__, unit="setting") as bar:
        for setting in bar:
            record: dict[str, Any] = {}
            best_of_setting, best_epoch, at_best = -np.inf, 0, np.empty(0, np.int32)
            for epoch in learn(baseline, params, setting):
                candidate = rank_all(baseline.scores, baseline.train, depth, params.seed)
                metrics = protocol.means(candidate, validation)
                score = protocol.score(metrics)
                bar.set_postfix({"epoch": epoch, "score": f"{score:.4f}", "best": f"{max(best, score):.4f}"})
                if score > best_of_setting:
                    best_of_setting, best_epoch, at_best = score, epoch, candidate
                    record = {"setting": setting, "validation": metrics}
                    if isinstance(baseline, IterativeBaseline):
                        record["epoch"] = epoch
                    if score > best and not rewinds:
                        best, chosen = score, record
                        ranking, refitted = at_end(candidate)
                elif epoch - best_epoch >= patience:
                    break
            if isinstance(baseline, IterativeBaseline) and rewinds and best_of_setting > best:
                best, chosen = best_of_setting, record
                baseline.rewind(best_epoch)
                ranking, refitted = at_end(at_best)
            tried.append(record)
    return Tuned(ranking, {**chosen, "tried": tried}, refitted)
