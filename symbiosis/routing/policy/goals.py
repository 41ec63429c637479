"""What one decision is made for, and under which circumstances: both may differ from query to query."""

from dataclasses import dataclass, field

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.metrics.utility import utility
from symbiosis.routing.policy.objectives import Deadline, Objective, Paper, TradeOff
from symbiosis.routing.policy.score import Rule


@dataclass(frozen=True)
class Goal:
    """An objective and a deadline, checked, with what a decision needs of them worked out once.

    Attributes
    ----------
    objective
        What is decided for; a `Budget` is paced on.
    deadline
        Whether the time to the answer counts.
    name
        The objective's, for explanations.
    trade_off
        The objective's, if it has one.
    score_unit
        What a quality of 1 is worth in the score.

    Raises
    ------
    InputError
        The published score is to be combined with a deadline.
    """

    objective: Objective
    deadline: Deadline | None = None
    name: str = field(init=False)
    trade_off: float | None = field(init=False, default=None)
    score_unit: float = field(init=False, default=1.0)

    def __post_init__(self) -> None:
        objective = self.objective
        if isinstance(objective, Paper) and self.deadline is not None:
            raise InputError("the published score has its own waiting penalty: leave the deadline out")
        object.__setattr__(self, "name", type(objective).__name__)
        weights = objective.rule if isinstance(objective, Paper) else objective
        if isinstance(weights, Rule | TradeOff):
            unit = float(utility(np.array(1.0), np.array(0.0), weights.trade_off, weights.weighting))
            object.__setattr__(self, "trade_off", weights.trade_off)
            object.__setattr__(self, "score_unit", unit)


@dataclass(frozen=True)
class Circumstances:
    """What a server knows of a query's moment beside the waits; arrays (L,), None: as the router expects.

    Attributes
    ----------
    allowed
        Whether each LLM can serve the query: its abilities suffice, and its upstream answers.
    startup_s, tokens_per_s
        Time to the first token and rate from there, as they are observed.
    response_factor
        Observed over expected response tokens.
    extra_usd
        Cost beside the query's own prompt and response: a conversation so far, less what a prompt cache saves.
    explores
        Whether another LLM than the best may be tried.

    Raises
    ------
    InputError
        No LLM is allowed.
    """

    allowed: np.ndarray | None = None
    startup_s: np.ndarray | None = None
    tokens_per_s: np.ndarray | None = None
    response_factor: np.ndarray | None = None
    extra_usd: np.ndarray | None = None
    explores: bool = True

    def __post_init__(self) -> None:
        if self.allowed is not None and not self.allowed.any():
            raise InputError("no LLM can serve this query: none is both able to and available")


AS_EXPECTED = Circumstances()
"""Nothing is known but what the router expects."""
