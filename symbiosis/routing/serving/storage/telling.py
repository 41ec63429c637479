"""Feedback as it goes into a store: once per decision, many in one transaction, each with an outcome of its own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from symbiosis.core.errors import InputError, quoted
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.storage import rows, statements


class UnknownDecision(InputError):  # noqa: N818
    """There is no such decision, or it is too old for feedback."""


class FeedbackConflict(InputError):  # noqa: N818
    """The decision has other feedback already."""


class NothingServed(InputError):  # noqa: N818
    """No LLM has answered the decision's query: there is nothing to give feedback on."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What somebody tells of the answer to a decision's query.

    Attributes
    ----------
    decision
        Its id.
    told
        See `symbiosis.routing.serving.inputs.checked`.
    at
        Now, seconds since the epoch.
    source
        ``user``, or ``check:NAME``.
    idempotency_key
        Of the caller's request, at his choice: a request that is sent again counts once.
    """

    decision: str
    told: Feedback
    at: float
    source: str = "user"
    idempotency_key: str | None = None

    def cleaned(self) -> "Telling":
        """Return it with texts as any database keeps them."""
        key = None if self.idempotency_key is None else rows.clean(self.idempotency_key)
        return Telling(rows.clean(self.decision), self.told, self.at, self.source, key)

    def values(self) -> dict[str, Any]:
        """Return a row of the table of feedback."""
        return {
            "decision": self.decision,
            **self.told._asdict(),
            "at": self.at,
            "source": self.source,
            "idempotency_key": self.idempotency_key,
            "lesson": None,
        }


Outcome = bool | InputError
"""Whether it is new; or why it was not taken: `UnknownDecision`, `FeedbackConflict`, `NothingServed` or another."""


@dataclass(slots=True)
class _Decided:
    """A decision and what was told of it so far."""

    at: float
    served: str | None
    told: Feedback | None
    source: str

    @classmethod
    def of(cls, row: Row[Any]) -> "_Decided":
        told = None
        if row.told_source is not None:
            told = Feedback(row.told_quality, row.told_response_tokens, row.told_satisfied)
        return cls(row.at, row.served, told, row.told_source or "")


def tell(
    connection: Connection,
    tellings: Sequence[Telling],
    lifetime_s: float | None = None,
    llms: Collection[str] | None = None,
) -> list[Outcome]:
    """Write feedback, one piece after the other; return what became of each.

    Parameters
    ----------
    connection
        In a transaction.
    tellings
        Cleaned.
    lifetime_s
        Older decisions take no feedback; None: they do.
    llms
        Feedback on others is refused; None: all are known.
    """
    known = {
        row.id: _Decided.of(row)
        for row in connection.execute(statements.DECIDED, {"keys": list({one.decision for one in tellings})})
    }
    keys = list({one.idempotency_key for one in tellings if one.idempotency_key is not None})
    requests = {}
    if keys:
        found = connection.execute(statements.REQUESTED, {"keys": keys})
        requests = {row.idempotency_key: (row.decision, rows.told(row)) for row in found}
    outcomes: list[Outcome] = []
    new: dict[str, dict[str, Any]] = {}
    for one in tellings:
        try:
            outcomes.append(_told(connection, one, known, requests, new, lifetime_s, llms))
        except InputError as error:
            outcomes.append(error)
    if new:
        connection.execute(statements.NEW_FEEDBACK, list(new.values()))
    return outcomes


def _told(
    connection: Connection,
    one: Telling,
    known: dict[str, _Decided],
    requests: dict[str, tuple[str, Feedback]],
    new: dict[str, dict[str, Any]],
    lifetime_s: float | None,
    llms: Collection[str] | None,
) -> bool:
    name, before = quoted(one.decision), requests.get(one.idempotency_key or "")  # nosec B113: a dictionary
    if before is not None:
        if before == (one.decision, one.told):
            return False
        raise FeedbackConflict(f"decision {name}: this idempotency key came with other feedback before: take a new one")
    decided = known.get(one.decision)
    if decided is not None and decided.told is not None:
        if decided.told == one.told:
            return False
        if not (decided.source.startswith("check:") and one.source == "user" and _corrected(connection, one, new)):
            raise FeedbackConflict(f"decision {name} has other feedback already: feedback cannot be changed")
    else:
        if decided is None or (lifetime_s is not None and one.at - decided.at > lifetime_s):
            kept = "" if lifetime_s is None else f" (kept: {lifetime_s:g} s)"
            raise UnknownDecision(
                f"decision {name} is unknown, or too old for feedback{kept}: use the id of a recent decision"
            )
        if decided.served is None:
            raise NothingServed(f"decision {name}: no LLM has answered, so there is nothing to give feedback on")
        if llms is not None and decided.served not in llms:
            raise InputError(f"decision {name}: its LLM {decided.served!r} was removed; nothing can be learned")
        new[one.decision] = one.values()
    decided.told, decided.source = one.told, one.source
    if one.idempotency_key is not None:
        requests[one.idempotency_key] = one.decision, one.told
    return True


def _corrected(connection: Connection, one: Telling, new: dict[str, dict[str, Any]]) -> bool:
    """Put a user's word in the place of a check's, unless a router has learned from that."""
    if one.decision in new:
        new[one.decision] = one.values()
        return True
    values = {f"new_{name}": value for name, value in one.values().items() if name not in ("decision", "lesson")}
    return bool(connection.execute(statements.CORRECTED, {"key": one.decision, **values}).rowcount)
