"""What is kept of a decision, of the calls that followed it and of what was told of the answer."""

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, PlainSerializer, with_config

from symbiosis.routing.learning.feedback import Feedback

Mode = Literal["apply", "observe", "control", "off", "explicit", "failed-open", "library"]
NOT_ROUTED: tuple[Mode, ...] = ("off", "explicit", "failed-open")
"""Modes in which no router decided."""
ROUTED: tuple[Mode, ...] = ("apply", "library")
"""Modes in which the LLM that a router chose was asked: propensities are those of the answers."""
Told = dict[str, Any]


def vector_text(vector: np.ndarray) -> str:
    """Return a vector as text, in float32 where that loses nothing."""
    kind, numbers = packed(vector)
    return f"{kind}:{base64.b64encode(numbers).decode()}"


def packed(vector: np.ndarray) -> tuple[str, bytes]:
    """Return the number format, ``f4`` or ``f8``, and the bytes of a vector; float32 where that loses nothing."""
    short = vector.astype("<f4")
    kind = "f4" if (short == vector).all() else "f8"
    return kind, (short if kind == "f4" else vector.astype("<f8")).tobytes()


def unpacked(kind: str, numbers: bytes) -> np.ndarray:
    """Return the vector in float64 that `packed` was given."""
    return np.frombuffer(numbers, dtype=f"<{kind}").astype(np.float64)


def _to_vector(text: Any) -> np.ndarray:
    if isinstance(text, np.ndarray):
        return text
    if not isinstance(text, str) or not text.startswith(("f4:", "f8:")):
        raise ValueError("vector: must begin with f4: or f8:")
    return unpacked(text[:2], base64.b64decode(text[3:]))


Vector = Annotated[Any, BeforeValidator(_to_vector), PlainSerializer(vector_text)]
_LINES = ConfigDict(extra="forbid", allow_inf_nan=False)


@with_config(_LINES)
@dataclass(slots=True)
class DecisionRecord:
    """What is needed of a decision to learn from its feedback.

    Attributes
    ----------
    decision
        Its id.
    llm
        The LLM that was chosen; in a `Lesson` the one that answered.
    at
        Seconds since the epoch.
    propensity
        With which it was chosen.
    prompt_tokens, cost_usd
        Of the chosen LLM, the cost as it was expected.
    quality
        Expected of it.
    vector
        (d,), the query's; another router of the same form of vectors can learn from it, too.
    budget_usd
        Per query, if the decision was charged to a budget.
    """

    decision: str
    llm: str
    at: float
    propensity: float
    prompt_tokens: float
    cost_usd: float
    quality: float
    vector: Vector
    budget_usd: float | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """Feedback that a router learns from.

    Attributes
    ----------
    number
        1, 2, 3, ... in the order of learning.
    sequence
        The decision's place among all decisions.
    at
        When the feedback came, seconds since the epoch.
    record
        The decision, `llm` being the one that answered.
    told
        What was told of its answer.
    """

    number: int
    sequence: int
    at: float
    record: DecisionRecord
    told: Feedback


@dataclass(frozen=True, slots=True)
class Answer:
    """A lesson with all that training needs of its decision.

    Attributes
    ----------
    lesson
        The feedback and whom it is about.
    chosen
        The LLM that was decided for.
    propensity
        With which the LLM that answered was chosen; None where it was not asked because a router chose it.
    mode, policy, router, version, text_sha256, text
        See `DecisionEntry`.
    source
        Who gave the feedback, see `StoredFeedback`.
    prompt_tokens, cost_usd
        Of the answer as its upstream counted it; None: not known.
    """

    lesson: Lesson
    chosen: str
    propensity: float | None
    mode: str
    policy: str
    router: str
    version: int
    text_sha256: str
    text: str | None
    source: str
    prompt_tokens: float | None
    cost_usd: float | None


@dataclass(slots=True)
class DecisionEntry:
    """A decision as it is written to a store.

    Attributes
    ----------
    record
        What is needed to learn from it.
    served
        The LLM that answered, which feedback is about; None: not known yet.
    mode
        How the query was served: `apply` as the router chose; `observe` by the default, the choice only logged;
        `control` by the default as the other side of an A/B test; `off` by the default, as routing is switched off;
        `explicit` by the LLM that was asked for; `failed-open` by the default because the router failed; `library` by
        the caller himself.
    policy
        Name of what was decided for.
    router, version
        Digest of the trained router, and the version of the state.
    api_key
        The key's name, never the secret.
    conversation
        Hash that the queries of one conversation share.
    text_sha256, text
        Hash of the query's text, and the text where it may be kept.
    details
        The explanation, `Decision.to_dict()`.
    overhead_ms
        Milliseconds that the decision took.
    baseline_usd
        Expected cost of the best single LLM.
    """

    record: DecisionRecord
    served: str | None = None
    mode: Mode = "library"
    policy: str = ""
    router: str = ""
    version: int = 0
    api_key: str | None = None
    conversation: str | None = None
    text_sha256: str = ""
    text: str | None = None
    details: dict[str, Any] | None = None
    overhead_ms: float | None = None
    baseline_usd: float | None = None


@dataclass(slots=True)
class CallEntry:
    """A call of an LLM as it is written to a store.

    Attributes
    ----------
    decision, attempt
        The decision it served, and its place among the calls for it, from 0. The pair is written once.
    llm, upstream
        What was called, and where.
    at
        Seconds since the epoch.
    status
        HTTP status; None: there was no answer.
    error
        What went wrong.
    first_token_s, total_s
        Seconds to the first and to the last byte of the answer.
    prompt_tokens, cached_tokens, response_tokens
        As the upstream counted them.
    cost_usd
        By these counts; it is added to what the key has spent.
    streamed
        Whether the answer was a stream.
    api_key
        The key's name.
    """

    decision: str | None
    attempt: int
    llm: str
    upstream: str
    at: float
    status: int | None = None
    error: str | None = None
    first_token_s: float | None = None
    total_s: float | None = None
    prompt_tokens: float | None = None
    cached_tokens: float | None = None
    response_tokens: float | None = None
    cost_usd: float | None = None
    streamed: bool = False
    api_key: str | None = None


@dataclass(slots=True)
class ServedEntry:
    """Which LLM answered a decision's query; a decision that is not in the store is passed over."""

    decision: str
    llm: str


StoreEntry = DecisionEntry | CallEntry | ServedEntry


@dataclass(frozen=True, slots=True)
class StoredFeedback:
    """Feedback as it lies in a store.

    Attributes
    ----------
    told
        What was told.
    at
        When, seconds since the epoch.
    source
        ``user``, or ``check:NAME``.
    lesson
        Its number; None: no router has learned from it yet.
    """

    told: Feedback
    at: float
    source: str
    lesson: int | None


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """A decision as it lies in a store.

    Attributes
    ----------
    sequence
        Its place among all decisions.
    entry
        What was written, `served` as it is by now.
    calls
        Of LLMs, in order.
    feedback
        What was told of the answer, if anything.
    """

    sequence: int
    entry: DecisionEntry
    calls: tuple[CallEntry, ...] = ()
    feedback: StoredFeedback | None = None

    def to_dict(self, *, vector: bool = False) -> Told:
        """Return plain values; with `vector` the query's vector as text, too."""
        record = self.entry.record
        columns = {name: getattr(record, name) for name in _RECORD if name not in ("decision", "vector")}
        others = {name: getattr(self.entry, name) for name in _ENTRY if name != "record"}
        told: Told = {"sequence": self.sequence, "id": record.decision, **columns, **others}
        if vector:
            told["vector"] = vector_text(record.vector)
        told["calls"] = [{name: getattr(call, name) for name in _CALL if name != "decision"} for call in self.calls]
        given = self.feedback
        told["feedback"] = (
            None
            if given is None
            else {**given.told._asdict(), "at": given.at, "source": given.source, "lesson": given.lesson}
        )
        return told


_RECORD, _ENTRY, _CALL = (tuple(kind.__dataclass_fields__) for kind in (DecisionRecord, DecisionEntry, CallEntry))
