"""The simulated LLMs: names, prices and speeds as the router knows them, and what each one can serve."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from symbiosis.core.layout import ROUTER
from symbiosis.core.serving import serving_folder
from symbiosis.gateway.config.schema import LlmConfig, UpstreamConfig
from symbiosis.routing.data.outcomes import Llms
from symbiosis.routing.data.synthetic import LLMS

MILLION = 1e6
CONTEXT, SMALL_CONTEXT = 128_000, 16_000
WORKERS = 8
WITH_VISION = 2
"""So many of the most expensive LLMs accept images."""
UPSTREAM = "simulated"


@dataclass(frozen=True)
class SimulatedLlm:
    """One LLM that is played.

    Attributes
    ----------
    name
        As the router and the upstream call it.
    price_prompt, price_cached, price_response
        USD per token.
    startup_s, tokens_per_s
        Seconds to the first token, and response tokens per second from there.
    context
        Tokens of prompt and response together.
    tools, vision, json_mode
        What it can serve.
    workers
        Queries that it answers at once; others wait.
    """

    name: str
    price_prompt: float
    price_cached: float
    price_response: float
    startup_s: float
    tokens_per_s: float
    context: int = CONTEXT
    tools: bool = True
    vision: bool = False
    json_mode: bool = True
    workers: int = WORKERS


def router_llms(folder: Path = Path()) -> Llms:
    """Return the LLMs of the trained router in a data folder; without one, those of the synthetic table.

    Raises
    ------
    InputError
        There is a trained router, but it is damaged.
    """
    trained = serving_folder("router", folder) / ROUTER
    if trained.exists():
        from symbiosis.routing.model.router import Router

        return Router.load(trained).llms
    known = sorted(LLMS, key=lambda llm: llm.name)
    return Llms(
        tuple(llm.name for llm in known),
        np.array([llm.price_prompt for llm in known]) / MILLION,
        np.array([llm.price_response for llm in known]) / MILLION,
        np.array([llm.startup for llm in known]),
        np.array([llm.rate for llm in known]),
    )


def simulated_llms(llms: Llms) -> tuple[SimulatedLlm, ...]:
    """Return what is played for the LLMs of a router.

    Abilities follow the price, so that something is to be seen: the two most expensive LLMs accept images; the
    cheapest has a small context and neither tools nor JSON mode. A single LLM can do everything.
    """
    assert llms.price_cached is not None
    by_price = sorted(range(len(llms)), key=lambda arm: (-llms.price_response[arm], llms.names[arm]))
    cheapest = by_price[-1] if len(llms) > 1 else None
    return tuple(
        SimulatedLlm(
            name,
            float(llms.price_prompt[arm]),
            float(llms.price_cached[arm]),
            float(llms.price_response[arm]),
            float(llms.startup_s[arm]),
            float(llms.tokens_per_s[arm]),
            context=SMALL_CONTEXT if arm == cheapest else CONTEXT,
            tools=arm != cheapest,
            vision=arm in by_price[:WITH_VISION],
            json_mode=arm != cheapest,
        )
        for arm, name in enumerate(llms.names)
    )


def upstream_config(base_url: str, folder: Path = Path()) -> UpstreamConfig:
    """Return the upstream of a ``gateway.yaml`` that asks the simulated LLMs at `base_url`.

    Raises
    ------
    InputError
        The data folder has a trained router, but it is damaged.
    """
    llms = tuple(
        LlmConfig(
            name=llm.name,
            price_prompt=_per_million(llm.price_prompt),
            price_cached=_per_million(llm.price_cached),
            price_response=_per_million(llm.price_response),
            context=llm.context,
            tools=llm.tools,
            vision=llm.vision,
            json_mode=llm.json_mode,
            workers=llm.workers,
        )
        for llm in simulated_llms(router_llms(folder))
    )
    return UpstreamConfig(name=UPSTREAM, base_url=base_url, llms=llms)


def _per_million(price: float) -> float:
    return round(price * MILLION, 9)
