"""How a routing service tries LLMs, and what it remembers."""

from dataclasses import dataclass

from symbiosis.routing.learning.online_router import DecisionSettings


@dataclass(frozen=True)
class ServiceSettings(DecisionSettings):
    """What does not change while a service runs.

    Attributes
    ----------
    contexts, lifetime_s
        Decisions that are remembered for feedback, at most so many and for so long; as many rewarded ones.
    """

    contexts: int = 100_000
    lifetime_s: float = 86_400.0


DEFAULTS = ServiceSettings()
