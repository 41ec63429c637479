"""Whom to ask for a chat request, in which order, and why."""

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from symbiosis.gateway.config.schema import KeyEntry
from symbiosis.gateway.requests.abilities import able, lacking
from symbiosis.gateway.requests.chat import ChatRequest
from symbiosis.gateway.requests.conversations import Standing
from symbiosis.gateway.requests.policies import Policy
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.problems import Problem
from symbiosis.routing.data.outcomes import CHARACTERS_PER_TOKEN
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.policy.goals import Circumstances
from symbiosis.routing.policy.objectives import Budget
from symbiosis.routing.serving.records import DecisionEntry, DecisionRecord, Mode

INSTRUCTIONS = ("system", "developer")
_OWN = ("decision", "model", "mode", "overhead-ms", "fallbacks", "propensity", "expected-cost", "notice")
TOLD = tuple(f"x-symbiosis-{name}" for name in _OWN)
"""Headers of an answer that say what was decided."""
MOST_EXPLAINED = 40
"""LLMs whose expectations are stored with a decision: the best by score, and the chosen one."""


@dataclass(frozen=True)
class Asked:
    """A chat request and what the gateway knows of it.

    Attributes
    ----------
    request
        As the client sent it.
    api_key
        The key's name.
    conversation
        Its hash.
    policy
        What it is decided for; None: the client names an LLM.
    began
        `time.perf_counter()` when it came.
    """

    request: ChatRequest
    api_key: str | None
    conversation: str
    policy: Policy | None
    began: float

    @property
    def overhead_ms(self) -> float:
        """Milliseconds since it came."""
        return (time.perf_counter() - self.began) * 1e3

    def entry(self, gateway: Gateway, record: DecisionRecord, mode: Mode, **others: Any) -> DecisionEntry:
        """Return what is stored of the decision on it."""
        text = self.request.text
        return DecisionEntry(
            record,
            mode=mode,
            policy="" if self.policy is None else self.policy.name,
            api_key=self.api_key,
            conversation=self.conversation,
            text_sha256=hashlib.sha256(text.encode()).hexdigest(),
            text=text if gateway.config.store_texts else None,
            **others,
        )


@dataclass
class Plan:
    """Whom to ask for a request, in which order, and why.

    Attributes
    ----------
    id
        Of the decision.
    candidates
        Names of LLMs, the first to be asked first.
    mode
        See `symbiosis.routing.serving.records.DecisionEntry`.
    policy
        Its name.
    decision, entry
        What was decided and what is stored of it; None where no router decided.
    notice
        What the client should know, in one line.
    overhead_ms
        Milliseconds from the request to the upstream.
    """

    id: str
    candidates: list[str]
    mode: Mode
    policy: str
    entry: DecisionEntry
    decision: Decision | None = None
    notice: str | None = None
    conversation: str | None = None
    overhead_ms: float = 0.0
    fallbacks: int = 0
    budget: Budget | None = None
    expected_tokens: Mapping[str, float] = field(default_factory=dict)

    def headers(self, llm: str | None) -> list[tuple[bytes, bytes]]:
        """Return the headers that tell a client what was decided."""
        told = {
            "x-symbiosis-decision": self.id,
            "x-symbiosis-model": llm or "",
            "x-symbiosis-mode": self.mode,
            "x-symbiosis-overhead-ms": f"{self.overhead_ms:.2f}",
            "x-symbiosis-fallbacks": str(self.fallbacks),
        }
        if self.decision is not None:
            decision = self.decision
            told["x-symbiosis-propensity"] = f"{decision.propensity:.6g}"
            arm = decision.llms.index(llm) if llm in decision.llms else decision.arm
            told["x-symbiosis-expected-cost"] = f"{decision.cost_usd[arm]:.6g}"
        if self.notice is not None:
            told["x-symbiosis-notice"] = self.notice
        return [(name.encode(), _header(value)) for name, value in told.items()]


def _header(value: str) -> bytes:
    # Names may be of any alphabet; a header may not.
    return value.encode("ascii", "backslashreplace").replace(b"\r", b" ").replace(b"\n", b" ")


async def plan(gateway: Gateway, request: ChatRequest, key: KeyEntry | None, header: str | None, began: float) -> Plan:
    """Decide whom to ask.

    Parameters
    ----------
    gateway, request
        Who decides, and on what.
    key
        The client's.
    header
        The client's own name for the conversation.
    began
        `time.perf_counter()` when the request came.

    Raises
    ------
    BadRequest
        There is no such policy.
    Problem
        There is no such LLM, or none that can serve the request.
    """
    name = None if key is None else key.name
    asked = Asked(request, name, request.conversation(header, name), gateway.policies.parse(request.model), began)
    config = gateway.config
    if asked.policy is None:
        return _explicit(gateway, asked)
    if config.mode == "off":
        return _default(gateway, asked, "off")
    if not request.text.strip():
        return _default(gateway, asked, "failed-open", "there is no text to route: the default LLM answers")
    try:
        routed = await _routed(gateway, asked, asked.policy)
    except Problem:
        raise
    except Exception as error:
        gateway.failed_open(error)
        return _default(
            gateway, asked, "failed-open", f"the router failed ({type(error).__name__}): the default LLM answers"
        )
    if config.default is not None and (config.mode == "observe" or _share(asked.conversation) >= config.share):
        routed.mode = routed.entry.mode = "observe" if config.mode == "observe" else "control"
        routed.candidates = [config.default, *(llm for llm in routed.candidates if llm != config.default)]
    routed.overhead_ms = asked.overhead_ms
    return routed


def _share(conversation: str) -> float:
    """Return a number in [0, 1) that is the same for a whole conversation."""
    return int(hashlib.sha256(f"share {conversation}".encode()).hexdigest()[:13], 16) / 16**13


async def _routed(gateway: Gateway, asked: Asked, policy: Policy) -> Plan:
    """Let the router decide."""
    request, engine = asked.request, gateway.engine
    if not able([gateway.llm(name) for name in engine.names], request.needs).any():
        raise _nobody_able(gateway, request)
    encoded = await engine.encode(request.text)
    # LLMs may come and go in another thread; not between what is known of them and the decision.
    with engine.service.lock:
        names = engine.names
        llms = [gateway.llm(name) for name in names]
        able_to = able(llms, request.needs)
        circumstances, notice = _circumstances(gateway, asked, able_to)
        waits = gateway.upstreams.observed.waits_s(names, [1 if llm is None else llm.workers for llm in llms])
        goal = policy.goal(engine.service.online.goal)
        decision, baseline = engine.decide(request.text, encoded, goal, waits, circumstances)
    record: DecisionRecord = decision.record
    by_score = np.argsort(-np.where(decision.admissible, decision.score, -np.inf), kind="stable")
    details = {"router": decision.router, "version": decision.version, "baseline_usd": baseline}
    return Plan(
        decision.id,
        [decision.llm, *(names[arm] for arm in by_score[able_to[by_score]].tolist() if arm != decision.arm)],
        "apply",
        policy.name,
        asked.entry(gateway, record, "apply", details=explained(decision), **details),
        decision,
        notice,
        asked.conversation,
        budget=goal.objective if isinstance(goal.objective, Budget) else None,
        expected_tokens=dict(zip(names, decision.response_tokens.tolist(), strict=True)),
    )


def _circumstances(gateway: Gateway, asked: Asked, able_to: np.ndarray) -> tuple[Circumstances, str | None]:
    """Return what is so at this moment, and what the client should know of it."""
    request, engine, observed = asked.request, gateway.engine, gateway.upstreams.observed
    names, known, notice = engine.names, engine.service.router.llms, None
    circuits = gateway.upstreams.circuits()
    ready = np.array([circuits.get(name) != "open" and not gateway.is_drained(name) for name in names], dtype=bool)
    # Where all that are able have failed lately, one of them has to try.
    allowed = able_to & ready if (able_to & ready).any() else able_to
    # A first message has no LLM yet, and need not be looked for in the store.
    begun = any(message["role"] != "user" and message["role"] not in INSTRUCTIONS for message in request.messages)
    standing = Standing()
    if begun:
        standing = gateway.conversations.standing(asked.conversation, request, names, gateway.llms)
    if standing.allowed is not None:
        if (allowed & standing.allowed).any():
            allowed = allowed & standing.allowed
        else:
            notice = "the LLM that called the tool cannot be asked: another one gets the tool's result"
    context = max(request.prompt_characters - len(request.text), 0) / CHARACTERS_PER_TOKEN
    extra = context * known.price_prompt
    if standing.extra_usd is not None:
        extra = extra + standing.extra_usd
    now = Circumstances(
        allowed,
        observed.startup_s(names, known.startup_s),
        observed.tokens_per_s(names, known.tokens_per_s),
        observed.response_factor(names),
        extra,
        explores=not begun,
    )
    return now, notice


def explained(decision: Decision) -> dict[str, Any]:
    """Return a decision's explanation for the store; of many LLMs, the best `MOST_EXPLAINED`."""
    if len(decision.llms) <= MOST_EXPLAINED:
        return decision.to_dict()
    best = np.argsort(-np.where(decision.admissible, decision.score, -np.inf), kind="stable")[:MOST_EXPLAINED].tolist()
    return decision.to_dict(sorted({*best, decision.arm}))


def _explicit(gateway: Gateway, asked: Asked) -> Plan:
    """Ask the LLM that the client names, and no other."""
    name = asked.request.model
    llm = gateway.llm(name)
    if llm is None:
        known = ", ".join([*gateway.policies.models, *gateway.llms])
        raise Problem(404, f"there is no LLM {name!r}: name one of {known}", "model_not_found")
    if (lacks := lacking(llm, asked.request.needs)) is not None:
        raise Problem(400, f"{name} lacks {lacks}: name another LLM, or `auto`", "model_cannot_serve")
    return _unrouted(gateway, asked, [name], "explicit")


def _default(gateway: Gateway, asked: Asked, mode: Mode, notice: str | None = None) -> Plan:
    """Ask the default LLM, and the others where it fails or cannot serve the request."""
    default, needs = gateway.config.default, asked.request.needs
    names = [default, *(name for name in gateway.llms if name != default)]
    candidates = [name for name in names if name and (llm := gateway.llm(name)) and lacking(llm, needs) is None]
    if not candidates:
        raise _nobody_able(gateway, asked.request)
    return _unrouted(gateway, asked, candidates, mode, notice)


def _unrouted(gateway: Gateway, asked: Asked, candidates: list[str], mode: Mode, notice: str | None = None) -> Plan:
    tokens = float(asked.request.prompt_tokens)
    record = DecisionRecord(uuid.uuid4().hex[:16], candidates[0], time.time(), 1.0, tokens, 0.0, 0.0, np.zeros(0))
    entry = asked.entry(gateway, record, mode)
    return Plan(
        record.decision,
        candidates,
        mode,
        entry.policy,
        entry,
        notice=notice,
        conversation=asked.conversation,
        overhead_ms=asked.overhead_ms,
    )


def _nobody_able(gateway: Gateway, request: ChatRequest) -> Problem:
    lacks = {name: lacking(llm, request.needs) for name, (_, llm) in gateway.llms.items()}
    reasons = ", ".join(f"{name} lacks {what}" for name, what in lacks.items() if what)
    return Problem(400, f"no LLM can serve this request: {reasons or 'the router knows none of them'}", "no_llm_able")
