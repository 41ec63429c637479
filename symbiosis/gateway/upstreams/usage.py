"""Tokens that a call used, as the upstream says or estimated, and their price."""

from dataclasses import dataclass
from typing import Any

from symbiosis.gateway.config.schema import LlmConfig
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN

PRICED_TOKENS = 1e6
"""Prices are in USD per so many tokens."""


@dataclass(frozen=True)
class Usage:
    """Tokens that a call used.

    Parameters
    ----------
    prompt_tokens
        In all, the cached ones included.
    cached_tokens
        Those of the prompt that the upstream read from its cache.
    response_tokens
        Of the answer, hidden reasoning included: as the upstream charges for them.
    estimated
        Whether the upstream did not say, so that characters were counted instead.
    """

    prompt_tokens: int
    cached_tokens: int
    response_tokens: int
    estimated: bool = False

    def cost_usd(self, llm: LlmConfig) -> float:
        """Return the call's price in USD; prompt tokens from the cache have a price of their own."""
        cached = llm.price_prompt if llm.price_cached is None else llm.price_cached
        usd = (
            (self.prompt_tokens - self.cached_tokens) * llm.price_prompt
            + self.cached_tokens * cached
            + self.response_tokens * llm.price_response
        )
        return usd / PRICED_TOKENS


def reported(value: Any) -> Usage | None:
    """Read the `usage` of an answer, or None where it is missing or makes no sense.

    Cached tokens stand in `prompt_tokens_details.cached_tokens` (OpenAI, vLLM, OpenRouter) or in
    `prompt_cache_hit_tokens` (DeepSeek).
    """
    if not isinstance(value, dict):
        return None
    prompt, response = _count(value.get("prompt_tokens")), _count(value.get("completion_tokens"))
    if prompt is None or response is None:
        return None
    details = value.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    if cached is None:
        cached = _count(value.get("prompt_cache_hit_tokens")) or 0
    return Usage(prompt, min(cached, prompt), response)


def estimated(prompt_characters: int, response_characters: int) -> Usage:
    """Return what a call used by its characters, for an upstream that does not say."""
    return Usage(_tokens(prompt_characters), 0, _tokens(response_characters), estimated=True)


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _count(value: Any) -> int | None:
    """Return a number of tokens, None for anything else: bool is an int in Python, and 7.0 a count in JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value < 2**53 else None
