"""The weights of MixLLM's score of quality, cost, uncertainty and waiting time (arXiv 2502.18482, Eq. 6 to 10).

The score itself is one of the objectives, `symbiosis.routing.policy.objectives.Paper`.
"""

from dataclasses import dataclass

import numpy as np

from symbiosis.routing.metrics.utility import Weighting

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


def waiting_penalty(waits_s: np.ndarray, rule: Rule) -> np.ndarray:
    """Eq. 10 for waits in seconds, any shape; the exponent is limited."""
    exponent = rule.growth_per_s * (waits_s - rule.onset * rule.limit_s)
    return np.exp(np.minimum(exponent, EXPONENT_LIMIT))
