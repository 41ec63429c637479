"""A conversation keeps its LLM as long as that is worth it: the provider's prompt cache makes staying cheaper.

Staying saves, per token of the prompt that the LLM has seen before, the price of a prompt token less that of a cached
one. The decision takes this as a cost that the other LLMs have and the present one has not, so that it switches only
for a greater gain. A tool's result always goes to the LLM that called the tool.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from symbiosis.gateway.config.schema import ConversationsConfig, LlmConfig, UpstreamConfig
from symbiosis.gateway.requests.chat import ChatRequest

_MILLION = 1_000_000


class Remembered(NamedTuple):
    """Which LLM a conversation has, how many of its tokens that LLM has seen, and when."""

    llm: str
    tokens: int
    at: float


class Standing(NamedTuple):
    """What a conversation means for the next decision.

    Attributes
    ----------
    llm
        That it has, None for a new conversation.
    extra_usd
        (L,), 0 but for that LLM, where it is negative; None: no difference.
    allowed
        (L,), that LLM alone inside a tool loop; None: all.
    """

    llm: str | None = None
    extra_usd: np.ndarray | None = None
    allowed: np.ndarray | None = None


class Conversations:
    """The conversations of the last hours, the oldest forgotten first."""

    def __init__(
        self,
        config: ConversationsConfig,
        clock: Callable[[], float] = time.time,
        recall: Callable[[str], Remembered | None] | None = None,
    ) -> None:
        """Start without any.

        Parameters
        ----------
        config
            The block ``conversations``.
        clock
            Seconds.
        recall
            Asked for a conversation that this process does not know: another worker may have served it.
        """
        self.config = config
        self._clock = clock
        self._recall = recall
        # In the order of their last answer.
        self._known: OrderedDict[str, Remembered] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._known)

    def remember(self, conversation: str, llm: str, tokens: int) -> None:
        """Take note of an answer.

        Parameters
        ----------
        conversation
            Its hash.
        llm
            That answered.
        tokens
            Of prompt and response together: what its cache may hold now.
        """
        now = self._clock()
        self._known[conversation] = Remembered(llm, tokens, now)
        self._known.move_to_end(conversation)
        while self._known and (
            len(self._known) > self.config.remembered or self._expired(next(iter(self._known.values())), now)
        ):
            self._known.popitem(last=False)

    def find(self, conversation: str) -> Remembered | None:
        """Return what is remembered of a conversation, unless it has rested too long."""
        found = self._known.get(conversation)
        if found is None and self._recall is not None:
            found = self._recall(conversation)
        return None if found is None or self._expired(found, self._clock()) else found

    def standing(
        self,
        conversation: str,
        request: ChatRequest,
        names: Sequence[str],
        llms: Mapping[str, tuple[UpstreamConfig, LlmConfig]],
    ) -> Standing:
        """Return what a conversation means for the decision on its next request.

        Parameters
        ----------
        conversation
            Its hash.
        request
            The next.
        names
            Of the router's L LLMs.
        llms
            Their prices.
        """
        if not self.config.keep and not request.inside_tool_loop:
            return Standing()
        found = self.find(conversation)
        if found is None or found.llm not in names or found.llm not in llms:
            return Standing()
        arm, (_, llm) = names.index(found.llm), llms[found.llm]
        if request.inside_tool_loop:
            allowed = np.zeros(len(names), dtype=bool)
            allowed[arm] = True
            return Standing(found.llm, self._extra(arm, len(names), llm, found, request), allowed)
        return Standing(found.llm, self._extra(arm, len(names), llm, found, request))

    def _extra(
        self, arm: int, n_llms: int, llm: LlmConfig, found: Remembered, request: ChatRequest
    ) -> np.ndarray | None:
        seen = min(found.tokens, request.prompt_tokens)
        saved = seen * max(llm.price_prompt - llm.price_cached, 0.0) / _MILLION + self.config.margin
        if saved == 0:
            return None
        extra = np.zeros(n_llms)
        extra[arm] = -saved
        return extra

    def _expired(self, remembered: Remembered, now: float) -> bool:
        # An answer may lie in the future: the clock was ahead then and has been set back since.
        return abs(now - remembered.at) > self.config.lifetime_s
