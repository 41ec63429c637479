"""Choosing for a whole set of queries at once, under a budget."""

import numpy as np
from pydantic import Field

from symbiosis.routing.baselines.base import BaselineParams, Predictive, Sample

BUDGETS = 25
REPLICATES = 20


class OptLLMParams(BaselineParams):
    """Settings to be tried.

    Attributes
    ----------
    penalty
        Ridge penalty.
    caution
        So many standard deviations of the bootstrap are taken off the predicted quality.
    """

    penalty: tuple[float, ...] = Field(default=(100.0, 1000.0, 10000.0), min_length=1)
    caution: tuple[float, ...] = Field(default=(0.0, 1.0), min_length=1)


class OptLLM(Predictive):
    """The best assignment of a set of queries for each of several budgets (OptLLM, arXiv 2405.15130).

    Quality is predicted with its spread by a bootstrap of ridge regressions; then a linear programme (HiGHS) finds the
    assignment with the highest predicted quality that the budget pays for, in place of OptLLM's heuristic search. A
    query's choice depends on the set that it comes in.
    """

    category = "set"
    seeded = True
    Params = OptLLMParams

    def fit(self, penalty: float, caution: float) -> None:
        """Fit the replicates."""
        self.caution = caution
        training = self.training
        features, quality = training.projection(training.sample.embeddings), training.outcomes.quality
        eye = penalty * np.eye(features.shape[1])
        eye[-1, -1] = 1e-6  # the level is not held back
        rng = np.random.default_rng(training.seed)
        weights = []
        for _ in range(REPLICATES):
            count = rng.multinomial(len(features), np.full(len(features), 1 / len(features)))[:, None]
            weights.append(np.linalg.solve(features.T @ (count * features) + eye, features.T @ (count * quality)))
        self.weights = np.stack(weights)

    def quality(self, sample: Sample) -> np.ndarray:
        """Mean of the replicates less their spread, (N, L)."""
        predicted = np.clip(self.training.projection(sample.embeddings) @ self.weights, 0, 1)
        return np.asarray(predicted.mean(axis=0) - self.caution * predicted.std(axis=0))

    def choices(self, sample: Sample) -> np.ndarray:
        """Assign under each budget, (P, N)."""
        quality, cost = self.predict(sample)
        least = cost.min(axis=1).sum()
        most = np.take_along_axis(cost, quality.argmax(axis=1)[:, None], axis=1).sum()
        budgets = least * (max(most, least) / least) ** np.linspace(0, 1, BUDGETS) if least > 0 else [most] * BUDGETS
        return np.stack([assign(quality, cost, float(budget)) for budget in budgets])


def assign(quality: np.ndarray, cost: np.ndarray, budget: float) -> np.ndarray:
    """Choose one LLM per query: highest total quality within a budget.

    The linear relaxation with one budget leaves at most one query undecided between two LLMs; it gets the cheaper
    one. So the total falls short of the optimum by less than one query's quality.

    Parameters
    ----------
    quality, cost
        (N, L).
    budget
        For all queries together; at least the cost of the cheapest assignment.

    Returns
    -------
    numpy.ndarray
        (N,), arms.
    """
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    # An LLM that another one beats in both ways has no place in the solution.
    better, cheaper = quality[:, None, :] - quality[:, :, None], cost[:, :, None] - cost[:, None, :]
    beaten = ((better >= 0) & (cheaper >= 0) & ((better > 0) | (cheaper > 0))).any(axis=2)
    queries, arms = np.nonzero(~beaten)
    once = csr_array((np.ones(len(queries)), (queries, np.arange(len(queries)))))
    unit = budget or 1.0
    result = linprog(
        -quality[queries, arms],
        A_ub=cost[queries, arms][None] / unit,
        b_ub=[1.0 + 1e-9],
        A_eq=once,
        b_eq=np.ones(len(quality)),
        method="highs-ipm",
    )
    share = np.zeros(quality.shape)
    share[queries, arms] = result.x
    return np.where(share > 1e-6, cost, np.inf).argmin(axis=1)
