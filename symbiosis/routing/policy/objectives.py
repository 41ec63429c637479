"""What a decision is made for: a trade-off, a quality floor, a dollar budget, and a limit on the time to the answer.

They stand beside MixLLM's score (`symbiosis.routing.policy.score`), which weighs the bare wait and has no constraint,
and the worth per service cycle.
All work on batches, and no query's decision depends on its batch.
"""

from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import ClassVar, NamedTuple

import numpy as np

from symbiosis.routing.metrics.utility import Weighting, scaled_cost, utility
from symbiosis.routing.model.router import Predictions, Router
from symbiosis.routing.policy.score import Rule, waiting_penalty


class Outlook(NamedTuple):
    """What is expected of each LLM for each query; arrays of shape (N, L), or (L,) for one query.

    Attributes
    ----------
    quality, lower, upper
        Expected quality and its interval.
    uncertainty
        Standard deviation of expected quality in units of the noise, sqrt(x A_l^-1 x^T).
    cost_usd
        Dollars.
    wait_s
        Until a worker of the LLM is free.
    service_s
        From there to the last token, the start-up included.
    startup_s
        (L,), the part of it that does not grow with the answer.
    cost_scale
        Dollars that count as 1, frozen at training.
    """

    quality: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    uncertainty: np.ndarray
    cost_usd: np.ndarray
    wait_s: np.ndarray
    service_s: np.ndarray
    startup_s: np.ndarray
    cost_scale: float

    @classmethod
    def of(
        cls, router: Router, predictions: Predictions, waits_s: np.ndarray | float = 0.0, half_width: float = 0.0
    ) -> "Outlook":
        """Return what a router expects of a batch of queries.

        Parameters
        ----------
        router
            Of L LLMs.
        predictions
            Of N queries.
        waits_s
            Seconds until each LLM is free, (N, L), or anything that spreads to it.
        half_width
            Of the interval of expected quality, in units of the uncertainty.
        """
        quality, uncertainty = predictions.quality, np.sqrt(predictions.variance)
        return cls(
            quality,
            np.maximum(quality - half_width * uncertainty, 0.0),
            np.minimum(quality + half_width * uncertainty, 1.0),
            uncertainty,
            predictions.cost_usd,
            np.broadcast_to(waits_s, quality.shape),
            router.llms.service_s(predictions.response_tokens),
            router.llms.startup_s,
            router.cost_scale,
        )

    @property
    def cost(self) -> np.ndarray:
        """Cost in units of the scale, at most 1."""
        return scaled_cost(self.cost_usd, self.cost_scale)

    @property
    def completion_s(self) -> np.ndarray:
        """Predicted time to the last token: wait, start-up, and response tokens at the LLM's rate."""
        completion: np.ndarray = self.wait_s + self.service_s
        return completion


@dataclass(frozen=True)
class Verdict:
    """Scores and what they are made of.

    Attributes
    ----------
    parts
        Weighted parts of the score by name, (N, L) each.
    total
        Their sum.
    admissible
        (N, L), whether the LLM may be chosen; of each query at least one.
    """

    parts: dict[str, np.ndarray]
    total: np.ndarray
    admissible: np.ndarray

    def choice(self) -> np.ndarray:
        """Return the admissible arm of each query with the highest score, (N,)."""
        return np.where(self.admissible, self.total, -np.inf).argmax(axis=-1)


Parts = tuple[dict[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Paper:
    """MixLLM's score as published (arXiv 2502.18482, Eq. 7 to 10): the wait alone is penalised."""

    rule: Rule

    @property
    def needs_uncertainty(self) -> bool:
        """Whether decisions depend on the outlook's uncertainty or interval."""
        return self.rule.exploration != 0

    def judge(self, outlook: Outlook) -> Parts:
        """Return the parts of the score, (N, L) each, and which LLMs are admissible, (N, L)."""
        rule = self.rule
        uncertainty = outlook.uncertainty if rule.root else outlook.uncertainty**2
        return {
            "trade-off": utility(outlook.quality, outlook.cost, rule.trade_off, rule.weighting),
            "uncertainty": rule.exploration * uncertainty,
            "waiting": -rule.waiting * waiting_penalty(outlook.wait_s, rule),
        }, _all(outlook)


@dataclass(frozen=True)
class TradeOff:
    """Quality bought at a price; see `symbiosis.routing.metrics.utility.utility`."""

    trade_off: float
    weighting: Weighting = "convex"
    needs_uncertainty: ClassVar[bool] = False

    def judge(self, outlook: Outlook) -> Parts:
        """Return the parts of the score, (N, L) each, and which LLMs are admissible, (N, L)."""
        unit = 1.0 if self.weighting == "linear" else 1 / (1 + self.trade_off)
        return {"quality": self.trade_off * unit * outlook.quality, "cost": -unit * outlook.cost}, _all(outlook)


@dataclass(frozen=True)
class QualityFloor:
    """The cheapest LLM whose lower bound of quality reaches the floor; if none does, that with the highest bound.

    Attributes
    ----------
    floor
        0..1.
    """

    floor: float
    needs_uncertainty: ClassVar[bool] = True

    def judge(self, outlook: Outlook) -> Parts:
        """Return the parts of the score, (N, L) each, and which LLMs are admissible, (N, L)."""
        enough = outlook.lower >= self.floor
        met = enough.any(axis=-1, keepdims=True)
        # Not the cut cost: two dear LLMs would cost the same.
        cost = np.where(met, -outlook.cost_usd / outlook.cost_scale, 0.0)
        return {"cost": cost, "lower bound": np.where(met, 0.0, outlook.lower)}, enough | ~met


@dataclass
class Budget:
    """A mean of dollars per query that is kept while the stream runs, by the price of money (primal-dual pacing).

    A query's score is its quality less price times cost over budget. After each query the price rises if the moving
    average of what was spent is above the budget, and falls if it is below: ParetoBandit (arXiv 2604.00136), with its
    constants. Cost counts in units of the budget, so that price and its cap mean the same for any prices.

    Attributes
    ----------
    usd_per_query
        The budget, above 0.
    smoothing, step, cap
        Of the moving average; of the price; its upper bound.
    price, spent
        State: quality that one budget's worth of dollars must bring; moving average of spent dollars over the budget.
    """

    usd_per_query: float
    smoothing: float = 0.05
    step: float = 0.05
    cap: float = 5.0
    price: float = 0.0
    spent: float = 1.0
    needs_uncertainty: ClassVar[bool] = False

    def judge(self, outlook: Outlook) -> Parts:
        """Return the parts of the score, (N, L) each, and which LLMs are admissible, (N, L)."""
        cost = outlook.cost_usd / self.usd_per_query
        return {"quality": outlook.quality, "cost": -self.price * cost}, _all(outlook)

    def charge(self, usd: float, usd_per_query: float | None = None) -> None:
        """Take note of what a query cost, or is expected to cost; the budget it was charged to, if it was another."""
        self.spent += self.smoothing * (usd / (usd_per_query or self.usd_per_query) - self.spent)
        self.price = min(max(self.price + self.step * (self.spent - 1), 0.0), self.cap)

    def correct(self, expected_usd: float, usd: float, usd_per_query: float | None = None) -> None:
        """Take note that a query cost something else than it was charged with."""
        self.spent += self.smoothing * (usd - expected_usd) / (usd_per_query or self.usd_per_query)


@dataclass(frozen=True)
class ServiceCycle:
    """What a query is worth per service cycle (LQM-ContextRoute, arXiv 2605.14241): V = u / (1 + T / L).

    A worker is taken for as long as an answer takes, so by renewal-reward what counts is worth over time, and a fast
    answer cannot make up for a bad one as in a sum. The paper's u is quality alone; here it is the convex mean of
    quality and of what is saved of the cost scale, both 0..1, so that among equally fast LLMs it ranks as `TradeOff`.

    Attributes
    ----------
    trade_off
        See `TradeOff`.
    reference_s
        L, seconds of a cycle that are spent whoever answers.
    """

    trade_off: float
    reference_s: float
    needs_uncertainty: ClassVar[bool] = False

    def judge(self, outlook: Outlook) -> Parts:
        """Return the parts of the score, (N, L) each, and which LLMs are admissible, (N, L)."""
        unit = 1 / (1 + self.trade_off)
        quality, saved = self.trade_off * unit * outlook.quality, unit * (1 - outlook.cost)
        lost = outlook.completion_s / (self.reference_s + outlook.completion_s)
        return {"quality": quality, "saved": saved, "service cycle": -(quality + saved) * lost}, _all(outlook)


Objective = Paper | TradeOff | QualityFloor | Budget | ServiceCycle


@dataclass(frozen=True)
class Deadline:
    """How the predicted time to the answer counts, beside any objective but the published one.

    Attributes
    ----------
    limit_s
        The service level: an answer should be complete after so many seconds.
    weight
        beta of the penalty beta * max(0, T - limit) / limit.
    risk
        delta: LLMs with P(T > limit) >= delta are not admissible, unless all are; 1: none is refused.
    """

    limit_s: float
    weight: float = 0.1
    risk: float = 1.0

    def penalty(self, outlook: Outlook) -> np.ndarray:
        """Return the weighted penalty, (N, L)."""
        over: np.ndarray = np.maximum(outlook.completion_s - self.limit_s, 0.0) / self.limit_s
        return self.weight * over

    def late(self, outlook: Outlook, log_deviation: np.ndarray | float) -> np.ndarray:
        """Probability that an answer takes longer than the limit, (N, L).

        Parameters
        ----------
        outlook
            The expected times.
        log_deviation
            (L,), standard deviation of the log of the response tokens; their expectation is in the outlook. 0 takes
            the expected length for certain.
        """
        from scipy.special import ndtr

        left = self.limit_s - outlook.wait_s - outlook.startup_s
        generation = np.maximum(outlook.service_s - outlook.startup_s, 1e-12)
        deviation = np.broadcast_to(np.maximum(log_deviation, 1e-9), generation.shape)
        # The mean of a log-normal variable is exp(mu + sigma^2 / 2).
        margin = np.log(np.maximum(left, 1e-300)) - (np.log(generation) - deviation**2 / 2)
        late: np.ndarray = np.where(left <= 0, 1.0, ndtr(-margin / deviation))
        return late


def decide(
    objective: Objective,
    outlook: Outlook,
    deadline: Deadline | None = None,
    log_deviation: np.ndarray | float = 0.0,
    allowed: np.ndarray | None = None,
) -> Verdict:
    """Score every LLM for a batch of queries.

    Parameters
    ----------
    objective
        What counts.
    outlook
        Of N queries and L LLMs, or of one query.
    deadline
        Whether and how the time to the answer counts.
    log_deviation
        See `Deadline.late`.
    allowed
        (N, L) or (L,), LLMs that can be asked at all, at least one for each query; None: all.
    """
    refused = None if allowed is None else ~allowed
    if deadline is not None and deadline.risk < 1:
        late = deadline.late(outlook, log_deviation)
        if allowed is not None:  # later than any that can be asked
            late = np.where(allowed, late, 2.0)
        in_time = late < deadline.risk
        # Where all are late, those that are least likely to be.
        refused = ~np.where(in_time.any(axis=-1, keepdims=True), in_time, late <= late.min(axis=-1, keepdims=True))
    if refused is not None and isinstance(objective, QualityFloor):  # the floor is looked for among the others
        outlook = outlook._replace(lower=np.where(refused, -1.0, outlook.lower))
    parts, admissible = objective.judge(outlook)
    if deadline is not None:
        parts["lateness"] = -deadline.penalty(outlook)
    if refused is not None:
        admissible = admissible & ~refused
    total: np.ndarray = reduce(np.add, parts.values())
    return Verdict(parts, total, admissible)


def _all(outlook: Outlook) -> np.ndarray:
    shape = outlook.quality.shape
    return _everyone(shape[0]) if len(shape) == 1 else np.ones(shape, dtype=bool)


@lru_cache(maxsize=8)
def _everyone(n_llms: int) -> np.ndarray:
    everyone = np.ones(n_llms, dtype=bool)
    everyone.flags.writeable = False
    return everyone
