"""Decisions that await feedback, and those that have had it: bounded, and no feedback counts twice."""

import math
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from symbiosis.errors import InputError

Told = list[float | bool | None]
"""Quality, response tokens, satisfied: what a piece of feedback says, None where it says nothing."""


class Context(NamedTuple):
    """What is remembered of a decision until its feedback.

    Attributes
    ----------
    llm
        The LLM that was chosen.
    x
        (D,), the query's features.
    at
        Seconds since the epoch.
    prompt_tokens, cost_usd
        Of the chosen LLM, the cost as it was expected.
    propensity
        With which it was chosen.
    quality
        Expected of it.
    """

    llm: str
    x: np.ndarray
    at: float
    prompt_tokens: float
    cost_usd: float
    propensity: float
    quality: float


class Memory:
    """Contexts by the decision's id, oldest first, and the feedback that others have had.

    Parameters
    ----------
    most, lifetime_s
        At most so many of each, and contexts for so long.
    """

    def __init__(self, most: int, lifetime_s: float) -> None:
        self.most, self.lifetime_s = most, lifetime_s
        self.contexts: OrderedDict[str, Context] = OrderedDict()
        self.rewarded: OrderedDict[str, Told] = OrderedDict()

    def remember(self, key: str, context: Context) -> None:
        """Keep a decision; what is too old or too much goes."""
        contexts = self.contexts
        contexts[key] = context
        too_old = context.at - self.lifetime_s
        while contexts:
            oldest = next(iter(contexts))
            if len(contexts) <= self.most and contexts[oldest].at >= too_old:
                break
            del contexts[oldest]

    def recall(self, key: str, told: Told, now: float) -> Context | None:
        """Return the context that feedback is for; None if it has had this very feedback.

        Raises
        ------
        InputError
            Unknown, expired or otherwise rewarded decision.
        """
        if (before := self.rewarded.get(key)) is not None:
            if before == told:
                return None
            raise InputError(f"decision {key!r} has other feedback already: feedback cannot be changed")
        context = self.contexts.get(key)
        if context is None or now - context.at > self.lifetime_s:
            raise InputError(
                f"decision {key!r} is unknown, or too old for feedback (kept: {self.lifetime_s:g} s, {self.most} "
                "decisions): use the id of a recent decision"
            )
        return context

    def reward(self, key: str, told: Told) -> None:
        """Take note that a decision has had its feedback."""
        del self.contexts[key]
        self.rewarded[key] = told
        while len(self.rewarded) > self.most:
            self.rewarded.popitem(last=False)


def checked(key: str, quality: float | None, response_tokens: float | None, satisfied: bool | None) -> Told:
    """Make sure that feedback is refined or binary and that its values are some.

    Raises
    ------
    InputError
        Names the decision and the value.
    """
    if (quality is None) == (satisfied is None):
        raise InputError(f"feedback for decision {key!r}: give either `quality` or `satisfied`")
    if quality is not None and not 0 <= quality <= 1:  # NaN too
        raise InputError(f"feedback for decision {key!r}: quality {quality} must lie in 0..1")
    if satisfied is not None and satisfied not in (True, False):
        raise InputError(f"feedback for decision {key!r}: satisfied {satisfied} must be true or false")
    if response_tokens is not None and not 0 <= response_tokens < math.inf:
        raise InputError(
            f"feedback for decision {key!r}: response_tokens {response_tokens} must be a number not below 0"
        )
    return [
        None if quality is None else float(quality),
        None if response_tokens is None else float(response_tokens),
        None if satisfied is None else bool(satisfied),
    ]
