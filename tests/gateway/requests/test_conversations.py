"""Conversations: what staying with an LLM is worth, and that a tool's result goes to who called."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.gateway.config.schema import ConversationsConfig, LlmConfig, UpstreamConfig
from symbiosis.gateway.requests.chat import ChatRequest
from symbiosis.gateway.requests.conversations import Conversations, Remembered

NAMES = ["small", "large", "gone"]
UPSTREAM = UpstreamConfig(
    name="u",
    base_url="http://127.0.0.1/v1",
    llms=(
        LlmConfig(name="small", price_prompt=1, price_response=1),
        LlmConfig(name="large", price_prompt=10, price_cached=1, price_response=30),
    ),
)
LLMS = {llm.name: (UPSTREAM, llm) for llm in UPSTREAM.llms}


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def request(characters: int = 4000, *, tool_result: bool = False) -> ChatRequest:
    messages: list[dict[str, object]] = [{"role": "user", "content": "x" * characters}]
    if tool_result:
        messages.append({"role": "tool", "tool_call_id": "1", "content": ""})
    return ChatRequest.parse(json.dumps({"model": "auto", "messages": messages}).encode())


def conversations(clock: Clock | None = None, **settings: object) -> Conversations:
    return Conversations(ConversationsConfig.model_validate(settings), clock or Clock())


def test_staying_saves_what_the_cache_saves() -> None:
    known = conversations()
    known.remember("a", "large", 600)
    standing = known.standing("a", request(4000), NAMES, LLMS)
    assert standing.llm == "large"
    assert standing.allowed is None
    assert standing.extra_usd is not None
    # 600 tokens at (10 - 1) USD per million; of a prompt of 100 tokens no more than these.
    assert standing.extra_usd.tolist() == pytest.approx([0, -0.0054, 0])
    short = known.standing("a", request(400), NAMES, LLMS).extra_usd
    assert short is not None
    assert short.tolist() == pytest.approx([0, -0.0009, 0])


def test_margin_counts_beside_the_cache() -> None:
    known = conversations(margin=0.5)
    known.remember("a", "small", 600)
    extra = known.standing("a", request(), NAMES, LLMS).extra_usd
    assert extra is not None
    assert extra.tolist() == [-0.5, 0, 0]


def test_nothing_is_known_of_new_rested_and_lost_conversations() -> None:
    clock = Clock()
    known = conversations(clock, lifetime_s=10)
    known.remember("a", "large", 600)
    known.remember("b", "gone", 600)
    assert known.standing("b", request(tool_result=True), NAMES, LLMS) == (None, None, None)
    assert known.standing("c", request(tool_result=True), NAMES, LLMS) == (None, None, None)
    clock.now = 10
    assert known.standing("a", request(), NAMES, LLMS).llm == "large"
    clock.now = 11
    assert known.standing("a", request(), NAMES, LLMS) == (None, None, None)


def test_an_answer_of_the_future_is_not_waited_for() -> None:
    """The clock was a year ahead when it came, and was set back."""
    clock = Clock()
    clock.now = 365 * 86_400.0
    known = conversations(clock)
    known.remember("a", "large", 600)
    assert known.standing("a", request(), NAMES, LLMS).llm == "large"
    clock.now = 0.0
    assert known.standing("a", request(), NAMES, LLMS).llm is None
    known.remember("b", "large", 600)
    assert len(known) == 1


def test_cache_without_a_discount_makes_no_difference() -> None:
    known = conversations()
    known.remember("a", "small", 600)
    assert known.standing("a", request(), NAMES, LLMS) == ("small", None, None)


@pytest.mark.parametrize("keep", [True, False])
def test_tool_result_goes_to_who_called(keep: bool) -> None:
    known = conversations(keep=keep)
    known.remember("a", "large", 600)
    allowed = known.standing("a", request(tool_result=True), NAMES, LLMS).allowed
    assert allowed is not None
    assert allowed.tolist() == [False, True, False]
    assert (known.standing("a", request(), NAMES, LLMS).llm == "large") == keep


def test_what_another_worker_served_is_recalled() -> None:
    clock = Clock()
    store = {"a": Remembered("large", 600, 0.0)}
    known = Conversations(ConversationsConfig(lifetime_s=10), clock, store.get)
    assert known.find("a") == store["a"]
    assert known.find("b") is None
    known.remember("a", "small", 10)
    assert known.find("a") == Remembered("small", 10, 0.0)
    clock.now = 11
    assert known.find("a") is None


@given(
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 5)), max_size=60),
    st.integers(1, 6),
)
def test_latest_are_remembered_within_bound_and_lifetime(answers: list[tuple[int, float]], bound: int) -> None:
    clock = Clock()
    known = conversations(clock, remembered=bound, lifetime_s=8)
    last: dict[str, float] = {}
    for number, pause in answers:
        clock.now += pause
        known.remember(str(number), "small", number)
        last.pop(str(number), None)
        last[str(number)] = clock.now
        assert len(known) <= bound
    alive = {name for name in list(last)[-bound:] if clock.now - last[name] <= 8}
    assert {str(number) for number in range(13) if known.find(str(number)) is not None} == alive
