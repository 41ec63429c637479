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
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.policy.goals import Circumstances
from symbiosis.routing.policy.objectives import Budget
from symbiosis.routing.serving.records import DecisionEntry, DecisionRecord, Mode

INSTRUCTIONS = ("system", "developer")
MOST_EXPLAINED = 40
"""LLMs whose expectations are stored with a decision: the best by score, and the chosen one."""


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

    Raises
    ------
    BadRequest
        There is no such policy.
    Problem
        There is no such LLM, or none that can serve the request.
    """
    policy = gateway.policies.parse(request.model)
    name = None if key is None else key.name
    conversation = request.conversation(header, name)
    if policy is None:
        return _explicit(gateway, request, name, conversation, began)
    if not request.text.strip():
        return _default(gateway, request, policy, name, conversation, "failed-open", "there is no text to route", began)
    config = gateway.config
    if config.mode == "off":
        return _default(gateway, request, policy, name, conversation, "control", None, began)
    try:
        routed = await _routed(gateway, request, policy, name, conversation)
    except Problem:
        raise
    except Exception as error:
        gateway.failed_open(error)
        notice = f"the router failed ({type(error).__name__}): the default LLM answers"
        return _default(gateway, request, policy, name, conversation, "failed-open", notice, began)
    control = config.mode == "observe" or _share(conversation) >= config.share
    if control and config.default is not None:
        routed.mode = "observe" if config.mode == "observe" else "control"
        others = [llm for llm in routed.candidates if llm != config.default]
        routed.candidates = [config.default, *others]
    routed.entry.mode = routed.mode
    routed.overhead_ms = (time.perf_counter() - began) * 1e3
    return routed


def _share(conversation: str) -> float:
    """Return a number in [0, 1) that is the same for a whole conversation."""
    return int(hashlib.sha256(f"share {conversation}".encode()).hexdigest()[:13], 16) / 16**13


async def _routed(gateway: Gateway, request: ChatRequest, policy: Policy, key: str | None, conversation: str) -> Plan:
    engine, config, upstreams = gateway.engine, gateway.config, gateway.upstreams
    names = engine.names
    llms = [gateway.llm(name) for name in names]
    able_to = able(llms, request.needs)
    if not able_to.any():
        raise _nobody_able(gateway, request)
    vector = await engine.vector(request.text)
    circuits = upstreams.circuits()
    ready = np.array([circuits.get(one) != "open" and not gateway.is_drained(one) for one in names], dtype=bool)
    allowed = able_to & ready if (able_to & ready).any() else able_to
    # A first message has no LLM yet, and need not be looked for in the store.
    begun = any(message["role"] != "user" and message["role"] not in INSTRUCTIONS for message in request.messages)
    standing = Standing()
    if begun:
        standing = gateway.conversations.standing(conversation, request, names, gateway.llms)
    notice = None
    if standing.allowed is not None:
        if (allowed & standing.allowed).any():
            allowed = allowed & standing.allowed
        else:
            notice = "the LLM that called the tool cannot be asked: another one gets the tool's result"
    known = engine.service.router.llms
    context = max(request.prompt_characters - len(request.text), 0) / 4
    extra = context * known.price_prompt
    if standing.extra_usd is not None:
        extra = extra + standing.extra_usd
    observed = upstreams.observed
    circumstances = Circumstances(
        allowed,
        observed.startup_s(names, known.startup_s),
        observed.tokens_per_s(names, known.tokens_per_s),
        observed.response_factor(names),
        extra,
    )
    waits = observed.waits_s(names, [1 if llm is None else llm.workers for llm in llms])
    goal = policy.goal(engine.service.online.goal)
    decision, baseline = engine.decide(request.text, vector, goal, waits, circumstances)
    by_score = np.argsort(-np.where(decision.admissible, decision.score, -np.inf), kind="stable")
    later = [names[arm] for arm in by_score[able_to[by_score]].tolist() if arm != decision.arm]
    record = decision.record
    assert record is not None
    entry = DecisionEntry(
        record,
        mode="apply",
        policy=policy.name,
        router=decision.router,
        version=decision.version,
        api_key=key,
        conversation=conversation,
        text_sha256=hashlib.sha256(request.text.encode()).hexdigest(),
        text=request.text if config.store_texts else None,
        details=explained(decision),
        baseline_usd=baseline,
    )
    return Plan(
        decision.id,
        [decision.llm, *later],
        "apply",
        policy.name,
        entry,
        decision,
        notice,
        conversation,
        budget=goal.objective if isinstance(goal.objective, Budget) else None,
        expected_tokens=dict(zip(names, decision.response_tokens.tolist(), strict=True)),
    )


def explained(decision: Decision) -> dict[str, Any]:
    """Return a decision's explanation for the store; of many LLMs, the best `MOST_EXPLAINED`."""
    if len(decision.llms) <= MOST_EXPLAINED:
        return decision.to_dict()
    best = np.argsort(-np.where(decision.admissible, decision.score, -np.inf), kind="stable")[:MOST_EXPLAINED].tolist()
    return decision.to_dict(sorted({*best, decision.arm}))


def _explicit(gateway: Gateway, request: ChatRequest, key: str | None, conversation: str, began: float) -> Plan:
    """Ask the LLM that the client names, and no other."""
    llm = gateway.llm(request.model)
    if llm is None:
        known = ", ".join([*gateway.policies.models, *gateway.llms])
        raise Problem(404, f"there is no LLM {request.model!r}: name one of {known}", "model_not_found")
    if (lacks := lacking(llm, request.needs)) is not None:
        raise Problem(400, f"{request.model} lacks {lacks}: name another LLM, or `auto`", "model_cannot_serve")
    return _unrouted(gateway, request, [request.model], "explicit", "", key, conversation, None, began)


def _default(
    gateway: Gateway,
    request: ChatRequest,
    policy: Policy,
    key: str | None,
    conversation: str,
    mode: Mode,
    notice: str | None,
    began: float,
) -> Plan:
    """Ask the default LLM, and the others where it fails or cannot serve the request."""
    default = gateway.config.default
    names = [default, *(name for name in gateway.llms if name != default)]
    candidates = [name for name in names if name and (llm := gateway.llm(name)) and lacking(llm, request.needs) is None]
    if not candidates:
        raise _nobody_able(gateway, request)
    return _unrouted(gateway, request, candidates, mode, policy.name, key, conversation, notice, began)


def _unrouted(
    gateway: Gateway,
    request: ChatRequest,
    candidates: list[str],
    mode: Mode,
    policy: str,
    key: str | None,
    conversation: str,
    notice: str | None,
    began: float,
) -> Plan:
    decision_id = uuid.uuid4().hex[:16]
    tokens = float(request.prompt_tokens)
    record = DecisionRecord(decision_id, candidates[0], time.time(), 1.0, tokens, 0.0, 0.0, np.zeros(0))
    entry = DecisionEntry(
        record,
        mode=mode,
        policy=policy,
        api_key=key,
        conversation=conversation,
        text_sha256=hashlib.sha256(request.text.encode()).hexdigest(),
        text=request.text if gateway.config.store_texts else None,
    )
    overhead = (time.perf_counter() - began) * 1e3
    return Plan(
        decision_id, candidates, mode, policy, entry, notice=notice, conversation=conversation, overhead_ms=overhead
    )


def _nobody_able(gateway: Gateway, request: ChatRequest) -> Problem:
    lacks = {name: lacking(llm, request.needs) for name, (_, llm) in gateway.llms.items()}
    reasons = ", ".join(f"{name} lacks {what}" for name, what in lacks.items() if what)
    return Problem(400, f"no LLM can serve this request: {reasons or 'the router knows none of them'}", "no_llm_able")
