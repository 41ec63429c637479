"""The router in a gateway's process: encodes, decides under today's circumstances, and takes over newer versions."""

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import GatewayConfig, LlmConfig
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.policy.goals import Circumstances, Goal
from symbiosis.routing.queries.query_encoder import QueryEncoder
from symbiosis.routing.queries.vector_form import VectorForm
from symbiosis.routing.serving.service import RoutingService
from symbiosis.text.batching import BatchingEncoder

PER_MILLION = 1e6


@dataclass(frozen=True)
class EncodedText:
    """A text as an encoder sees it.

    Attributes
    ----------
    vector
        (d,).
    form
        Of the vector.
    """

    vector: np.ndarray
    form: VectorForm


class Engine:
    """Decides in one process of a gateway.

    Parameters
    ----------
    service
        Decides; it learns by taking over versions, and another encoder may come with one.
    batch
        Texts that wait are encoded together, so many at most.

    Raises
    ------
    InputError
        The service has no encoder.
    """

    def __init__(self, service: RoutingService, batch: int) -> None:
        self.service, self._batch = service, batch
        self._encoder = self._needed()
        self._batches = BatchingEncoder(self._encoder.many, batch)
        self._closing: list[threading.Thread] = []
        self._quality = np.zeros(0)
        self._names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The LLMs that the router knows."""
        return self.service.router.llms.names

    def _needed(self) -> QueryEncoder:
        encoder = self.service.encode
        if not isinstance(encoder, QueryEncoder):
            raise InputError("the router was trained without an encoder: run `make repro`")
        return encoder

    async def encode(self, text: str) -> EncodedText:
        """Return a text's vector; a text seen before costs nothing."""
        encoder = self._needed()
        if encoder is not self._encoder:  # it came with a newer version
            self._closing.append(threading.Thread(target=self._batches.close, name="closing"))
            self._closing[-1].start()
            self._encoder, self._batches = encoder, BatchingEncoder(encoder.many, self._batch)
        known = encoder.remembered(text)
        vector = await asyncio.wrap_future(self._batches.submit(text)) if known is None else known
        return EncodedText(vector, encoder.form)

    def decide(
        self, text: str, encoded: EncodedText, goal: Goal | None, waits_s: np.ndarray, circumstances: Circumstances
    ) -> tuple[Decision, float]:
        """Decide one query; return the decision and what the best single LLM would cost, in USD.

        The best single LLM is the one of the highest mean expected quality over the queries that this process has seen.
        A text that was encoded while another encoder came is encoded anew.
        """
        vector = encoded.vector if encoded.form == self.service.form else self._needed()(text)
        decision = self.service.route(text, waits_s=waits_s, vector=vector, goal=goal, circumstances=circumstances)
        if decision.llms != self._names:
            self._names, self._quality = decision.llms, np.zeros(len(decision.llms))
        self._quality += decision.quality
        return decision, float(decision.cost_usd[self._quality.argmax()])

    def close(self) -> None:
        """End the encoder's threads."""
        self._batches.close()
        for thread in self._closing:
            thread.join()


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
