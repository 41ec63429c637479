"""Clients of a gateway that ask, leave, come back and give feedback; they take down what they heard."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

DECISION, QUALITY, OVERHEAD = "x-symbiosis-decision", "x-simulated-quality", "x-symbiosis-overhead-ms"
LEAVING, TELLING, REPEATING, TALKING = 0.04, 0.5, 0.1, 0.2
"""Shares: clients that leave before the end, answers that get feedback, feedback sent twice, second messages."""
PATIENCE_S = 90.0
LAST_WORDS = {"upstream_failed", "upstream_broken", "circuit_open", "no_llm", "rate_limit_exceeded", "simulated"}
"""Codes of errors that an upstream has caused."""


@dataclass
class Heard:
    """What the clients heard.

    Attributes
    ----------
    whole
        Decisions whose answer came to its end, and the second in which it did.
    begun
        Decisions of which at least the head came.
    feedback, new
        What was acknowledged, and how often as new.
    outcomes
        Answers by status and code, and how others ended.
    wrong
        What must not happen, in words.
    overhead
        Second and milliseconds.
    sent
        Requests.
    """

    whole: dict[str, float] = field(default_factory=dict)
    begun: set[str] = field(default_factory=set)
    feedback: dict[str, float] = field(default_factory=dict)
    new: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    overhead: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0


class Client:
    """One client: asks, waits a little, asks again.

    Parameters
    ----------
    web
        At the gateway's address, with a key.
    heard
        Shared with the others.
    models, words
        What to ask for, and what texts are made of.
    seed, pause_s
        Of its choices; mean seconds between two requests.
    """

    def __init__(
        self, web: httpx.AsyncClient, heard: Heard, models: list[str], words: list[str], seed: int, pause_s: float
    ) -> None:
        self._web, self._heard, self._models, self._words = web, heard, models, words
        self._dice, self._pause_s = random.Random(seed), pause_s
        self._talk: list[dict[str, str]] = []

    async def work(self, enough: Callable[[], bool]) -> None:
        """Ask until there is enough."""
        while not enough():
            await asyncio.sleep(self._dice.expovariate(1 / self._pause_s))
            try:
                await self._ask()
            except httpx.TransportError as error:
                self._talk = []
                self._heard.outcomes[type(error).__name__] += 1

    async def _ask(self) -> None:
        dice, heard = self._dice, self._heard
        if not self._talk:
            self._talk = [{"role": "user", "content": " ".join(dice.choices(self._words, k=dice.choice((3, 12, 40))))}]
        stream = dice.random() < 0.5
        body = {"model": dice.choice(self._models), "messages": self._talk, "stream": stream, "max_tokens": 24}
        leaves = dice.random() < LEAVING
        heard.sent += 1
        async with self._web.stream("POST", "/v1/chat/completions", json=body) as answer:
            decision = answer.headers.get(DECISION)
            if decision is not None:
                if decision in heard.begun:
                    heard.wrong.append(f"two answers have the id {decision}")
                heard.begun.add(decision)
            if leaves:
                self._talk = []
                if stream:
                    async for _ in answer.aiter_bytes():
                        break
                heard.outcomes["left"] += 1
                return
            content = await answer.aread()
        self._take_down(answer, content, decision, stream)
        if answer.status_code == 200 and decision is not None and b'"error"' not in content:
            self._go_on(content, stream)
            if dice.random() < TELLING:
                await self._tell(decision, float(answer.headers.get(QUALITY, "0.5")))

    def _take_down(self, answer: httpx.Response, content: bytes, decision: str | None, stream: bool) -> None:
        heard, status = self._heard, answer.status_code
        code = _code(content, stream and status == 200)
        heard.outcomes[f"{status}{f' {code}' if code else ''}"] += 1
        if decision is not None:
            heard.whole[decision] = time.time()
            heard.overhead.append((time.time(), float(answer.headers[OVERHEAD])))
        elif status == 200:
            heard.wrong.append(f"an answer without a decision: {answer.headers.get('x-symbiosis-notice')}")
        # What is no completion passes in a stream: the upstream's word, from the first byte on.
        allowed = LAST_WORDS | {"unreadable"} if stream and status == 200 else LAST_WORDS
        if (status >= 500 or code) and code not in allowed:
            heard.wrong.append(f"{status} {code}: {content[-200:]!r}")
        if status != 200:
            self._talk = []

    def _go_on(self, content: bytes, stream: bool) -> None:
        if self._dice.random() < TALKING and not stream:
            message = json.loads(content)["choices"][0]["message"]["content"]
            self._talk = [
                *self._talk[-4:],
                {"role": "assistant", "content": message},
                {"role": "user", "content": "and"},
            ]
        else:
            self._talk = []

    async def _tell(self, decision: str, quality: float) -> None:
        """Give feedback until it is acknowledged, and sometimes once more."""
        deadline, heard = time.monotonic() + PATIENCE_S, self._heard
        for _ in range(1 + (self._dice.random() < REPEATING)):
            while True:
                try:
                    told = await self._web.post("/v1/feedback", json={"decision": decision, "quality": quality})
                except httpx.TransportError:
                    told = None
                if told is not None and told.status_code == 200:
                    heard.feedback[decision] = quality
                    heard.new[decision] += told.json()["accepted"] == "new"
                    break
                if told is not None and told.status_code not in (429, 503):
                    heard.wrong.append(f"feedback: {told.status_code} {told.text[:200]}")
                    return
                if time.monotonic() > deadline:
                    heard.wrong.append(f"no acknowledgement of feedback on {decision}")
                    return
                await asyncio.sleep(0.2)


def _code(content: bytes, stream: bool) -> str:
    """Return the code of an error, of the last event of a stream; empty without one."""
    if stream:
        events = [line[6:] for line in content.split(b"\n") if line.startswith(b"data: {")]
        content = events[-1] if events else b"{}"
    try:
        document: dict[str, Any] = json.loads(content)
    except ValueError:
        return "unreadable"
    error = document.get("error")
    return str(error.get("code")) if isinstance(error, dict) else ""
