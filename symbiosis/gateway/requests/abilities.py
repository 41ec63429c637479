"""Whether an LLM can serve a request at all: tools, vision, JSON, and the length of its context."""

from collections.abc import Iterable

import numpy as np

from symbiosis.gateway.config.schema import LlmConfig
from symbiosis.gateway.requests.chat import Needs


def lacking(llm: LlmConfig, needs: Needs) -> str | None:
    """Return the first thing that an LLM lacks for a request, None if it can serve it.

    Examples
    --------
    >>> llm = LlmConfig(name="small", price_prompt=0.1, price_response=0.4, context=1000)
    >>> lacking(llm, Needs(vision=True, tokens=10))
    'vision'
    >>> lacking(llm, Needs(tokens=2000))
    'context of 2,000 tokens (it has 1,000)'
    """
    if needs.tools and not llm.tools:
        return "tools"
    if needs.vision and not llm.vision:
        return "vision"
    if needs.json_mode and not llm.json_mode:
        return "json_mode"
    if llm.context is not None and needs.tokens > llm.context:
        return f"context of {needs.tokens:,} tokens (it has {llm.context:,})"
    return None


def serves(llm: LlmConfig, needs: Needs) -> bool:
    """Tell whether an LLM can serve a request."""
    return lacking(llm, needs) is None


def able(llms: Iterable[LlmConfig | None], needs: Needs) -> np.ndarray:
    """Tell which of L LLMs can serve a request, bool (L,); None stands for one that no upstream has."""
    return np.array([llm is not None and serves(llm, needs) for llm in llms], dtype=bool)
