"""How a routing service explores, what it remembers, and how it learns from binary feedback."""

from dataclasses import dataclass
from typing import Literal

from symbiosis.routing.policy.exploration import Kind


@dataclass(frozen=True)
class ServiceSettings:
    """What does not change while a service runs.

    Attributes
    ----------
    exploration, amount, tried
        See `symbiosis.routing.policy.exploration.among_best`.
    interval
        Half width of the interval of expected quality in standard deviations: 1.645 for 90 %.
    near_tie
        LLMs whose score is within so much of the best go to the shortest wait.
    burn_in, burn_in_share
        The first so many queries of an added LLM are drawn: each query goes with this probability to one of the
        LLMs that are still new.
    contexts, lifetime_s
        Decisions that are remembered for feedback, at most so many and for so long; as many rewarded ones.
    seed
        Of the draws.
    """

    exploration: Kind = "none"
    amount: float = 0.0
    tried: int = 3
    interval: float = 1.645
    near_tie: float = 0.0
    burn_in: int = 0
    burn_in_share: float = 0.1
    contexts: int = 100_000
    lifetime_s: float = 86_400.0
    seed: int = 0


DEFAULTS = ServiceSettings()

Learning = Literal["posterior", "supervised", "policy_gradient"]
