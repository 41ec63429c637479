"""What every baseline is, and what it learns from.

A new baseline is one class with a `BaselineParams` and a `Baseline`, and one line in
`symbiosis.routing.baselines.registry`.

The cost of an answer before it is written, the same for all baselines that have no way of their own.
"""

import itertools
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from symbiosis.core.params import StageParams
from symbiosis.routing.baselines.projection import Projection
from symbiosis.routing.data.outcomes import Llms, Outcomes, Split
from symbiosis.routing.metrics.curves import Curve, Reference, sweep
from symbiosis.routing.metrics.utility import cost_scale_of, scaled_cost, utility
from symbiosis.routing.model.features import draw_folds

UNSEEDED = ("cost_scale", "reference", "costs", "projection")  # what `Training` computes without its seed
PENALTIES = (3.0, 10.0, 30.0, 100.0)


@dataclass(frozen=True)
class CostModel:
    """Response tokens by ridge regression on the embedding, then prompt and response tokens times prices.

    Squared loss on the tokens themselves, not on their logarithm: what is paid is the mean.

    Attributes
    ----------
    weights, level
        (d, L) and (L,).
    shortest, longest
        (L,), of the responses seen; no prediction lies outside.
    llms
        Their prices.
    """

    weights: np.ndarray
    level: np.ndarray
    shortest: np.ndarray
    longest: np.ndarray
    llms: Llms

    @classmethod
    def fit(cls, embeddings: np.ndarray, response_tokens: np.ndarray, llms: Llms) -> "CostModel":
        """Fit to queries (N, d) and (N, L), each LLM's penalty chosen by leave-one-out error."""
        from sklearn.linear_model import RidgeCV

        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(embeddings, response_tokens)
        limits = response_tokens.min(axis=0), response_tokens.max(axis=0)
        return cls(model.coef_.T, model.intercept_, *limits, llms)

    def __call__(self, embeddings: np.ndarray, prompt_tokens: np.ndarray) -> np.ndarray:
        """Expected dollars, (N, L), for queries (N, d) and (N, L)."""
        return self.llms.cost_usd(prompt_tokens, self.response_tokens(embeddings))

    def response_tokens(self, embeddings: np.ndarray) -> np.ndarray:
        """Expected response tokens, (N, L)."""
        return np.clip(embeddings @ self.weights + self.level, self.shortest, self.longest)


Category = Literal["trivial", "cascade", "classifier", "predictor", "set", "bandit", "cluster", "factorisation"]


@dataclass(frozen=True)
class Sample:
    """Queries, with what may be known of them before an LLM is asked.

    Attributes
    ----------
    embeddings
        (N, d), rows of length 1.
    prompt_tokens
        (N, L).
    domains, subdomains
        N true labels each. At test time only baselines with `told_labels` read them.
    """

    embeddings: np.ndarray
    prompt_tokens: np.ndarray
    domains: list[str]
    subdomains: list[str]

    @classmethod
    def of(cls, split: Split) -> "Sample":
        """Leave out the outcomes."""
        return cls(split.embeddings, split.outcomes.prompt_tokens, split.domains, split.subdomains)

    def __len__(self) -> int:
        return len(self.embeddings)

    def take(self, rows: np.ndarray) -> "Sample":
        """Return the given rows, in that order."""
        return Sample(
            self.embeddings[rows],
            self.prompt_tokens[rows],
            [self.domains[row] for row in rows],
            [self.subdomains[row] for row in rows],
        )


@dataclass(frozen=True)
class Training:
    """What baselines learn from. What several of them need is computed once, when first asked for.

    Attributes
    ----------
    sample, outcomes
        N queries and their outcomes with all L LLMs.
    llms
        The LLMs.
    seed
        Seed of everything random.
    """

    sample: Sample
    outcomes: Outcomes
    llms: Llms
    seed: int

    def take(self, rows: np.ndarray) -> "Training":
        """Return the given queries alone."""
        return Training(self.sample.take(rows), self.outcomes.take(rows), self.llms, self.seed)

    def with_seed(self, seed: int) -> "Training":
        """Return the same queries under another seed; what was computed from them alone is kept."""
        other = Training(self.sample, self.outcomes, self.llms, seed)
        vars(other).update({name: value for name, value in vars(self).items() if name in UNSEEDED})
        return other

    @cached_property
    def cost_scale(self) -> float:
        """Dollars that count as 1."""
        return cost_scale_of(self.outcomes)

    @cached_property
    def reference(self) -> Reference:
        """The cheapest and the best single LLM."""
        return Reference.choose(self.outcomes)

    @cached_property
    def costs(self) -> CostModel:
        """Cost from prompt tokens, predicted response tokens and prices."""
        return CostModel.fit(self.sample.embeddings, self.outcomes.response_tokens, self.llms)

    @cached_property
    def projection(self) -> Projection:
        """Few features of each query."""
        return Projection.fit(self.sample.embeddings)

    @cached_property
    def folds(self) -> list[tuple["Training", np.ndarray]]:
        """For each of 5 folds: the other queries, and the rows (n,) of its own."""
        fold = draw_folds(len(self.sample), self.seed)
        return [(self.take(np.flatnonzero(fold != f)), np.flatnonzero(fold == f)) for f in np.unique(fold)]

    def generators(self) -> list[np.random.Generator]:
        """One random stream per LLM, by its name: the other LLMs and their order do not matter."""
        return [np.random.default_rng([self.seed, number]) for number in self.numbers()]

    def numbers(self) -> list[int]:
        """L numbers below 2^32, one by each LLM's name."""
        return [zlib.crc32(name.encode()) for name in self.llms.names]


class BaselineParams(StageParams):
    """For every key the values to be tried; their defaults are those of the comparison study."""

    def settings(self) -> Iterator[dict[str, Any]]:
        """Yield every combination of the values to be tried, the last key varying fastest."""
        grid = dict(self)
        for combination in itertools.product(*grid.values()):
            yield dict(zip(grid, combination, strict=True))


class NoParams(BaselineParams):
    """Nothing to tune."""


class Baseline(ABC):
    """A way of choosing LLMs, learned from training queries alone.

    Parameters
    ----------
    training
        The training queries. The constructor does the work that all settings share.

    Attributes
    ----------
    category
        The family in the comparison.
    told_labels
        It reads the true labels of test queries, which a router in service would not know.
    told_outcomes
        It reads outcomes before it chooses: a bound, not a policy.
    seeded
        Its choices depend on the seed: where its network or clusters start, or the order of its feedback.
    notes
        What it found out about the queries, for the report.
    """

    category: ClassVar[Category]
    told_labels: ClassVar[bool] = False
    told_outcomes: ClassVar[bool] = False
    seeded: ClassVar[bool] = False
    Params: ClassVar[type[BaselineParams]] = NoParams

    def __init__(self, training: Training) -> None:
        self.training = training
        self.notes: dict[str, Any] = {}

    @abstractmethod
    def fit(self, *_: Any, **setting: Any) -> None:
        """Learn with one setting; what an earlier setting taught is forgotten."""

    @abstractmethod
    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Answer new queries, at every operating point.

        Parameters
        ----------
        sample
            N queries.
        outcomes
            Of the same queries. A baseline sees the outcomes of those LLMs alone that it calls, and pays for all of
            them.

        Returns
        -------
        Curve
            (P, N) each; P does not depend on the data.
        """

    def stream(self, sample: Sample, outcomes: Outcomes, played: Curve) -> Curve:
        """Answer as for `play`, whose result is given, but with certain calls: in a stream they take up time.

        Another answer only of baselines that choose at random.
        """
        return played


class Predictive(Baseline):
    """A baseline that predicts quality and cost of every LLM and then weighs one against the other."""

    @abstractmethod
    def quality(self, sample: Sample) -> np.ndarray:
        """Predict quality, (N, L)."""

    def cost(self, sample: Sample) -> np.ndarray:
        """Predict dollars, (N, L)."""
        return self.training.costs(sample.embeddings, sample.prompt_tokens)

    def predict(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Predict quality and dollars, (N, L) each."""
        return self.quality(sample), self.cost(sample)

    def choices(self, sample: Sample) -> np.ndarray:
        """Choose under each of `symbiosis.routing.metrics.curves.TRADE_OFFS`, (P, N)."""
        quality, cost = self.predict(sample)
        scaled = scaled_cost(cost, self.training.cost_scale)
        return sweep(lambda trade_off: utility(quality, scaled, trade_off))

    def play(self, sample: Sample, outcomes: Outcomes) -> Curve:
        """Call the chosen LLM of each query and trade-off."""
        return Curve.of(self.choices(sample), outcomes)
