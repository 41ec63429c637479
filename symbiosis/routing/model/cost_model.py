"""Cost of an answer straight from the query's features, for tables whose token counts do not explain the costs.

Usually cost is predicted as tokens times prices (Eq. 5 of MixLLM, arXiv 2502.18482). Where the table has no token
counts, or only estimates, or where prices do not explain what was paid, the logarithm of the cost is predicted by ridge
regression on the router's own features instead; see `docs/methods.md`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from symbiosis.core.rounding import rounded
from symbiosis.routing.data.outcomes import Llms, Outcomes
from symbiosis.routing.metrics.metrics import ratio

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
LARGEST_PRICE_ERROR = 0.05  # of the mean cost: up to here prices explain the costs
BETTER = 0.9  # the model's error must be below this share of that of tokens times prices, which is the simpler
LEAST_ANSWERS = 10  # of an LLM in a partial matrix: with fewer its costs are tokens times prices
LARGEST_ESTIMATED_SHARE = 0.05  # of the outcomes: up to here token counts are taken for counted


@dataclass(frozen=True)
class LogRidge:
    """Ridge regression of the log of what is not negative, one column per LLM: dollars, or tokens of a prompt.

    Attributes
    ----------
    weights, level
        (D, L) and (L,).
    smear
        (L,), mean of exp(error of the log), Duan's (1983) correction; 0 for an LLM where all is 0 (it is free), NaN
        for one of which nothing was seen.
    most
        (L,), the largest value seen; no prediction goes beyond.
    """

    weights: np.ndarray
    level: np.ndarray
    smear: np.ndarray
    most: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, values: np.ndarray, known: np.ndarray | None = None) -> "LogRidge":
        """Fit to queries (N, D) and (N, L), each LLM's penalty chosen by leave-one-out error.

        Where `known`, (N, L) bool, is given, an LLM is fitted to the queries that it has answered.
        """
        from sklearn.linear_model import RidgeCV

        if known is not None:
            fitted = cls(np.zeros((features.shape[1], 0)), *np.zeros((3, 0)))
            for rows, column in zip(known.T, values.T, strict=True):
                one = cls.fit(features[rows], column[rows, None]) if rows.sum() >= LEAST_ANSWERS else None
                fitted = fitted.with_unknown() if one is None else fitted.beside(one)
            return fitted
        logs = _logs(values)
        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(features, logs)
        most = values.max(axis=0)
        smear = np.exp(logs - model.predict(features).reshape(logs.shape)).mean(axis=0)
        weights = model.coef_.reshape(logs.shape[1], -1).T  # of a single LLM it is flat
        return cls(weights, np.atleast_1d(model.intercept_), np.where(most > 0, smear, 0.0), most)

    def __call__(self, features: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
        """Return expected values, (..., L), for features (..., D); `otherwise` (..., L) for LLMs it does not know."""
        logs = np.minimum(features @ self.weights + self.level, np.log(np.maximum(self.most, 1e-300)))
        cost = np.minimum(np.exp(logs) * self.smear, self.most)
        return np.where(np.isnan(self.smear), otherwise, cost)

    def take(self, arms: Sequence[int]) -> "LogRidge":
        """Return the model of the given LLMs, in that order."""
        kept = list(arms)
        return LogRidge(self.weights[:, kept], self.level[kept], self.smear[kept], self.most[kept])

    def beside(self, other: "LogRidge") -> "LogRidge":
        """Return this model followed by that of other LLMs."""
        return LogRidge(
            np.hstack([self.weights, other.weights]),
            np.append(self.level, other.level),
            np.append(self.smear, other.smear),
            np.append(self.most, other.most),
        )

    def with_unknown(self) -> "LogRidge":
        """Return this model with one LLM more, of which nothing was seen."""
        blank = np.zeros((len(self.weights), 1))
        return LogRidge(
            np.hstack([self.weights, blank]),
            np.append(self.level, 0.0),
            np.append(self.smear, np.nan),
            np.append(self.most, 0.0),
        )

    def without(self, arm: int) -> "LogRidge":
        """Return this model with nothing known of one LLM."""
        smear = self.smear.copy()
        smear[arm] = np.nan
        return replace(self, smear=smear)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return all arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def _logs(cost_usd: np.ndarray) -> np.ndarray:
    """Natural logarithm of costs, (N, L); free answers of an LLM count as its cheapest paid one."""
    paid = np.where(cost_usd > 0, cost_usd, np.inf).min(axis=0)
    return np.log(np.maximum(cost_usd, np.where(np.isfinite(paid), paid, 1.0)))


def cross_fitted(
    features: np.ndarray,
    folds: np.ndarray,
    values: np.ndarray,
    known: np.ndarray | None = None,
    otherwise: np.ndarray | None = None,
) -> np.ndarray:
    """Predict each query's values (N, L) by a model of the other folds' queries; features (N, D), folds (N,).

    Where `known`, (N, L) bool, is given, an LLM is fitted to the queries that it has answered; one with too few gives
    the values `otherwise`, (N, L), or 0.
    """
    predicted = np.empty(values.shape)
    for fold in np.unique(folds):
        own = folds == fold
        fitted = LogRidge.fit(features[~own], values[~own], None if known is None else known[~own])
        predicted[own] = fitted(features[own], np.zeros(values[own].shape) if otherwise is None else otherwise[own])
    return predicted


def price_error(outcomes: Outcomes, llms: Llms) -> float:
    """Mean absolute difference of costs and true tokens times prices, as a share of the mean cost; 0 if all is free."""
    explained = llms.cost_usd(outcomes.prompt_tokens, outcomes.response_tokens)
    errors, costs = outcomes.observed(np.abs(explained - outcomes.cost_usd)), outcomes.observed(outcomes.cost_usd)
    return float(ratio(errors.mean(), costs.mean()))


def choose_costs(
    kind: str,
    features: np.ndarray,
    folds: np.ndarray,
    outcomes: Outcomes,
    llms: Llms,
    by_tokens: np.ndarray,
) -> tuple[LogRidge | None, dict[str, Any]]:
    """Choose how costs are predicted, by their error on held-out training queries.

    Parameters
    ----------
    kind
        ``tokens``: predicted tokens times prices; ``features``: a `LogRidge`; ``auto``: tokens, unless token counts
        are estimates or prices do not explain the costs, and the model's error is clearly smaller (`BETTER`).
    features, folds
        (N, D), cross-fitted features of the training queries, and (N,), their folds.
    outcomes, llms
        Of the same N queries.
    by_tokens
        (N, L), dollars expected of held-out queries by tokens times prices.

    Returns
    -------
    LogRidge or None
        None: tokens times prices.
    dict
        For ``reports/router_train.json``: the grounds, and the mean absolute error of both ways as a share of the
        mean cost where both were tried.
    """
    unexplained = price_error(outcomes, llms)
    estimated = 0.0 if outcomes.counted is None else float(1 - outcomes.observed(outcomes.counted).mean())
    report: dict[str, Any] = {
        "kind": "tokens",
        "price_error": rounded(unexplained),
        "estimated_tokens_share": rounded(estimated),
    }
    doubtful = unexplained > LARGEST_PRICE_ERROR or estimated > LARGEST_ESTIMATED_SHARE
    if kind == "tokens" or (kind == "auto" and not doubtful):
        return None, report
    held_out = cross_fitted(features, folds, outcomes.cost_usd, outcomes.known, by_tokens)
    whole = max(float(outcomes.observed(outcomes.cost_usd).mean()), 1e-300)
    errors = {
        name: float(outcomes.observed(np.abs(values - outcomes.cost_usd)).mean()) / whole
        for name, values in (("tokens", by_tokens), ("features", held_out))
    }
    report |= {f"error_by_{name}": rounded(error) for name, error in errors.items()}
    if kind == "auto" and errors["features"] >= BETTER * errors["tokens"]:
        return None, report
    return LogRidge.fit(features, outcomes.cost_usd, outcomes.known), report | {"kind": "features"}
