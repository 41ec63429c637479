"""How many queries each LLM can bear, how steady it is and how often it fails, from the stream's params."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from symbiosis.errors import InputError
from symbiosis.routing.params import CapacityParams, StreamParams
from symbiosis.routing.queues import RateLimit


@dataclass(frozen=True)
class Capacities:
    """Of every LLM.

    Attributes
    ----------
    workers
        Queries served at once.
    limits
        Rate limits.
    failure
        (L,), probability that an attempt fails.
    jitter
        (L,), standard deviation of the logarithm of the service time around its expectation.
    """

    workers: tuple[int, ...]
    limits: tuple[RateLimit, ...]
    failure: np.ndarray
    jitter: np.ndarray

    @classmethod
    def of(cls, stream: StreamParams, names: Sequence[str], block: str = "online_replay") -> "Capacities":
        """Read the params of a block's stream.

        Raises
        ------
        InputError
            They name an LLM that is not there.
        """
        unknown = sorted(set(stream.llms) - set(names))
        if unknown:
            raise InputError(
                f"params.yaml: `{block}.stream.llms` names the LLM {unknown[0]!r}, which the router does not have"
            )
        own = [stream.llms.get(name, CapacityParams()) for name in names]
        return cls(
            tuple(stream.workers if llm.workers is None else llm.workers for llm in own),
            tuple(RateLimit(llm.requests_per_minute or np.inf, llm.tokens_per_minute or np.inf) for llm in own),
            np.array([stream.failure if llm.failure is None else llm.failure for llm in own]),
            np.array([stream.jitter if llm.jitter is None else llm.jitter for llm in own]),
        )
