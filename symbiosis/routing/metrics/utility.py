"""Quality bought at a price: the utility of MixLLM (arXiv 2502.18482, Eq. 8), which regret is counted in."""

from typing import Literal

import numpy as np

from symbiosis.routing.data.outcomes import Outcomes

COST_QUANTILE = 0.999

Weighting = Literal["convex", "linear"]


def utility(quality: np.ndarray, cost: np.ndarray, trade_off: float, weighting: Weighting = "convex") -> np.ndarray:
    """Quality bought at a price, Eq. 8; also what regret is counted in.

    Parameters
    ----------
    quality
        0..1, any shape.
    cost
        The same shape, in units of the cost scale.
    trade_off
        lambda.
    weighting
        See `Rule`.
    """
    if weighting == "linear":
        return trade_off * quality - cost
    value: np.ndarray = trade_off / (1 + trade_off) * quality - cost / (1 + trade_off)
    return value


def scaled_cost(cost_usd: np.ndarray, cost_scale: float) -> np.ndarray:
    """Cost in units of the frozen scale, at most 1, so that one query's score does not depend on its batch."""
    return np.minimum(cost_usd / cost_scale, 1.0)


def cost_scale_of(outcomes: Outcomes) -> float:
    """Dollars that count as 1: the 99.9th percentile of the most expensive LLM's costs; 1 if all are free."""
    most_expensive = outcomes.cost_usd.mean(axis=0).argmax()
    return float(np.quantile(outcomes.cost_usd[:, most_expensive], COST_QUANTILE)) or 1.0
