"""The router in a gateway's process: encodes, decides under today's circumstances, and takes over newer versions."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from symbiosis.gateway.config.schema import GatewayConfig, LlmConfig
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.policy.goals import Circumstances, Goal
from symbiosis.routing.serving.service import RoutingService

PER_MILLION = 1e6
ROUTED_CHARACTERS = 1 << 16
"""The end of a text that is encoded: encoders read the last hundreds of tokens, and cutting ten megabytes into words
would hold the process for ten seconds and take a gigabyte."""


class Engine:
    """Decides in one process of a gateway.

    Parameters
    ----------
    service
        Decides; it learns by taking over versions.
    encode
        From a text to its vector (d,), float64; called from one thread.
    remembered
        Texts whose vectors are kept.
    """

    def __init__(self, service: RoutingService, encode: Callable[[str], np.ndarray], remembered: int) -> None:
        self.service = service
        self._encode, self._remembered = encode, remembered
        self._vectors: OrderedDict[str, np.ndarray] = OrderedDict()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._quality = np.zeros(0)
        self._names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The LLMs that the router knows."""
        return self.service.router.llms.names

    async def vector(self, text: str) -> np.ndarray:
        """Return a text's vector (d,), of its last `ROUTED_CHARACTERS`; a text seen before costs nothing."""
        text = text[-ROUTED_CHARACTERS:]
        known = self._vectors.get(text)
        if known is not None:
            self._vectors.move_to_end(text)
            return known
        vector = await asyncio.get_running_loop().run_in_executor(self._thread, self._encode, text)
        if self._remembered:
            self._vectors[text] = vector
            if len(self._vectors) > self._remembered:
                self._vectors.popitem(last=False)
        return vector

    def decide(
        self, text: str, vector: np.ndarray, goal: Goal | None, waits_s: np.ndarray, circumstances: Circumstances
    ) -> tuple[Decision, float]:
        """Decide one query; return the decision and what the best single LLM would cost, in USD.

        The best single LLM is the one of the highest mean expected quality over the queries that this process has seen.
        """
        decision = self.service.route(text, waits_s=waits_s, vector=vector, goal=goal, circumstances=circumstances)
        if decision.llms != self._names:
            self._names, self._quality = decision.llms, np.zeros(len(decision.llms))
        self._quality += decision.quality
        return decision, float(decision.cost_usd[self._quality.argmax()])

    def close(self) -> None:
        """End the encoder's thread."""
        self._thread.shutdown(cancel_futures=True)


def reprice(service: RoutingService, config: GatewayConfig, prices: Mapping[str, LlmConfig] | None = None) -> list[str]:
    """Let a service count with the config's prices; return the names of the LLMs whose prices have changed.

    Parameters
    ----------
    service
        Knows the prices that it was trained with.
    config
        Of the gateway.
    prices
        Of single LLMs, in the place of the config's.
    """
    changed = []
    with service.lock:
        known = service.router.llms
        for arm, name in enumerate(known.names):
            if name not in config.llms:
                continue
            llm = (prices or {}).get(name) or config.llms[name][1]
            new = llm.price_prompt / PER_MILLION, llm.price_response / PER_MILLION
            old = known.price_prompt[arm], known.price_response[arm]
            # A price per million that was a price per token before is not another price.
            if not np.allclose(new, old, rtol=1e-6, atol=0.0):
                service.online.reprice(name, *new)
                changed.append(name)
    return changed
