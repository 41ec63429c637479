"""The quality-cost curve of a policy: one operating point per trade-off weight."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from symbiosis.routing.data.outcomes import Outcomes
from symbiosis.routing.metrics.metrics import aiq, area, cost_at, hull, log_aiq

TRADE_OFFS = np.logspace(-6, 6, 73)
NOBODY = -1  # in a list of calls: the query was answered before


@dataclass(frozen=True)
class Reference:
    """The two single LLMs that curves are measured against, chosen on offline data.

    Attributes
    ----------
    cheapest, best
        Arms with the lowest mean cost and the highest mean quality.
    """

    cheapest: int
    best: int

    def curve(self, outcomes: Outcomes) -> "Curve":
        """Both as the two operating points of a curve."""
        arms = np.array([[self.cheapest], [self.best]])
        return Curve.of(np.broadcast_to(arms, (2, len(outcomes))), outcomes)

    @classmethod
    def choose(cls, outcomes: Outcomes) -> "Reference":
        """Choose on the given outcomes; of LLMs of equal quality the cheapest."""
        cost, quality = outcomes.cost_usd.mean(axis=0), outcomes.quality.mean(axis=0)
        return cls(int(cost.argmin()), int(np.lexsort((cost, -quality))[0]))


@dataclass(frozen=True)
class Curve:
    """What a policy gets and pays at each operating point.

    Attributes
    ----------
    quality, cost
        (P, N), per operating point and query.
    calls
        (P, N, K) int16, the LLMs that are asked one after another, the last of whom answers, then `NOBODY`; None where
        quality and cost are not those of certain calls, but expected of a random choice for instance.
    """

    quality: np.ndarray
    cost: np.ndarray
    calls: np.ndarray | None = None

    @classmethod
    def of(cls, choices: np.ndarray, outcomes: Outcomes) -> "Curve":
        """Look up the outcomes of choices (P, N)."""
        rows = np.arange(len(outcomes))
        calls = choices[..., None].astype(np.int16)
        return cls(outcomes.quality[rows, choices], outcomes.cost_usd[rows, choices], calls)

    def at(self, positions: Sequence[int]) -> "Curve":
        """Return the given operating points alone."""
        rows = list(positions)
        return Curve(self.quality[rows], self.cost[rows], None if self.calls is None else self.calls[rows])

    def points(self, weights: np.ndarray | None = None) -> np.ndarray:
        """Mean cost and quality of each operating point.

        Parameters
        ----------
        weights
            (B, N), weights of the queries in B bootstrap samples; equal weights if not given.

        Returns
        -------
        numpy.ndarray
            (P, 2), or (B, P, 2).
        """
        if weights is None:
            return np.column_stack([self.cost.mean(axis=1), self.quality.mean(axis=1)])
        return np.stack([weights @ self.cost.T, weights @ self.quality.T], axis=2)


def sweep(score: Callable[[float], np.ndarray]) -> np.ndarray:
    """Choose the best arm under each trade-off weight.

    Parameters
    ----------
    score
        From a trade-off weight to scores (N, L).

    Returns
    -------
    numpy.ndarray
        (P, N), arms.
    """
    return np.stack([score(float(trade_off)).argmax(axis=1) for trade_off in TRADE_OFFS])


@dataclass(frozen=True)
class Summary:
    """A curve in a few numbers.

    Attributes
    ----------
    aiq, aiq_to_zero
        Mean quality along the hull between the cost of the cheapest and of the best single LLM; and the same area
        divided by the cost of the best single LLM alone, as RouterBench's code does.
    aiq_log
        Mean quality along the same hull over the logarithm of the cost; NaN if the cheapest LLM is free.
    corners
        (m, 2), the hull.
    cost_at
        Cost, as a share of the best single LLM's, at which the hull reaches a share of its quality.
    """

    aiq: float
    aiq_to_zero: float
    aiq_log: float
    corners: np.ndarray
    cost_at: dict[float, float | None]


SHARES = (0.95, 0.97, 0.9725, 1.0)


def summarise(points: np.ndarray, singles: np.ndarray) -> Summary:
    """Summarise a curve; every policy may also send all to the cheapest LLM, so that point joins its hull.

    Parameters
    ----------
    points
        (P, 2), cost and quality of each operating point.
    singles
        (2, 2), cost and quality of the cheapest and of the best single LLM, over the same queries.
    """
    (low, floor), (high, top) = singles.tolist()
    corners = hull(np.append(points[:, 0], low), np.append(points[:, 1], floor))
    reached = {share: cost_at(corners, share * top) for share in SHARES}
    return Summary(
        aiq(corners, low, high),
        area(corners, low, high) / high if high > low else 0.0,
        log_aiq(corners, low, high),
        corners,
        {share: None if cost is None or high <= 0 else cost / high for share, cost in reached.items()},
    )
