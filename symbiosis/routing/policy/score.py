"""Which LLM answers: MixLLM's score of quality, cost, uncertainty and waiting time (arXiv 2502.18482, Eq. 6 to 10)."""

from dataclasses import dataclass

import numpy as np

from symbiosis.routing.metrics.utility import Weighting, scaled_cost, utility
from symbiosis.routing.model.router import Predictions

EXPONENT_LIMIT = 20.0  # exp(20) decides any choice; more would only overflow


@dataclass(frozen=True)
class Rule:
    """The weights of the score.

    Attributes
    ----------
    trade_off
        lambda, willingness to pay: 0 buys the cheapest, large the best.
    weighting
        ``convex``: lambda / (1 + lambda) on quality and 1 / (1 + lambda) on cost; ``linear``: lambda and 1.
    exploration
        alpha, weight of the uncertainty.
    root
        Take the root of x A^-1 x^T (LinUCB), or leave it.
    waiting
        beta, weight of the waiting penalty.
    growth_per_s
        gamma of the penalty's exponent.
    onset
        xi, the share of the wait limit at which the penalty is 1.
    limit_s
        tau, seconds after which a waiting query is lost.
    """

    trade_off: float
    weighting: Weighting
    exploration: float
    root: bool
    waiting: float
    growth_per_s: float
    onset: float
    limit_s: float


@dataclass(frozen=True)
class Scores:
    """The parts of the score and their sum, (N, L) each, so that a decision can be explained.

    Attributes
    ----------
    trade_off, uncertainty, penalty
        Eq. 8, 9 and 10, unweighted by alpha and beta.
    total
        Eq. 7.
    """

    trade_off: np.ndarray
    uncertainty: np.ndarray
    penalty: np.ndarray
    total: np.ndarray

    def choice(self) -> np.ndarray:
        """Return the arm of each query with the highest score, (N,); Eq. 6."""
        return self.total.argmax(axis=1)


def waiting_penalty(waits_s: np.ndarray, rule: Rule) -> np.ndarray:
    """Eq. 10 for waits in seconds, any shape; the exponent is limited."""
    exponent = rule.growth_per_s * (waits_s - rule.onset * rule.limit_s)
    return np.exp(np.minimum(exponent, EXPONENT_LIMIT))


def score(predictions: Predictions, waits_s: np.ndarray, rule: Rule, cost_scale: float) -> Scores:
    """Score every LLM for a batch of queries; Eq. 7.

    Parameters
    ----------
    predictions
        Of N queries and L LLMs.
    waits_s
        (L,) or (N, L), seconds until a worker of the LLM is free.
    rule
        The weights.
    cost_scale
        Dollars that count as 1, frozen at training.
    """
    trade = utility(predictions.quality, scaled_cost(predictions.cost_usd, cost_scale), rule.trade_off, rule.weighting)
    uncertainty = np.sqrt(predictions.variance) if rule.root else predictions.variance
    penalty = np.broadcast_to(waiting_penalty(waits_s, rule), trade.shape)
    return Scores(trade, uncertainty, penalty, trade + rule.exploration * uncertainty - rule.waiting * penalty)
