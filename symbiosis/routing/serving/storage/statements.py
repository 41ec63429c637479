"""Statements that a store repeats for every decision, built once: building one takes longer than running it."""

from typing import Any

from sqlalchemy import JSON, bindparam, case, func, insert, null, select, text, type_coerce, update

from symbiosis.routing.serving.storage.tables import calls, decisions, feedback

NEW_DECISIONS, NEW_CALLS, NEW_FEEDBACK = insert(decisions), insert(calls), insert(feedback)
# As text: SQLAlchemy would compile an insert with a conflict clause anew each time, which takes a millisecond.
CHARGE = text(
    "INSERT INTO spend (api_key, period, usd) VALUES (:api_key, :period, :usd)"
    " ON CONFLICT (api_key, period) DO UPDATE SET usd = spend.usd + excluded.usd"
)
SERVED = update(decisions).where(decisions.c.id == bindparam("key")).values(served=bindparam("by"))

_told = [column.label(f"told_{name}") for name, column in feedback.c.items()]
_joined = decisions.outerjoin(feedback, decisions.c.id == feedback.c.decision)
DECIDED = (
    select(decisions.c.id, decisions.c.at, decisions.c.served, *_told)
    .select_from(_joined)
    .where(decisions.c.id.in_(bindparam("keys", expanding=True)))
)
"""Decisions of these ids, each with its feedback, ``told_...``."""
REQUESTED = select(feedback).where(feedback.c.idempotency_key.in_(bindparam("keys", expanding=True)))
"""Feedback that came with these idempotency keys."""
CORRECTED = (
    update(feedback)
    .where(feedback.c.decision == bindparam("key"), feedback.c.lesson.is_(None))
    .values({name: bindparam(f"new_{name}") for name in ("quality", "response_tokens", "satisfied", "at", "source")})
    .values(idempotency_key=bindparam("new_idempotency_key"))
)
"""What was told before, if it has no number yet, gives way."""

HIGHEST = select(func.max(feedback.c.lesson))
WAITING = select(feedback.c.sequence).where(feedback.c.lesson.is_(None)).order_by(feedback.c.sequence)
WAITS = WAITING.limit(1)
NUMBERED = update(feedback).where(feedback.c.sequence == bindparam("place")).values(lesson=bindparam("number"))
POSITION = select(func.max(decisions.c.sequence))


def _counted(column: Any, name: str) -> Any:
    its_own = (calls.c.decision == decisions.c.id, calls.c.llm == decisions.c.served, calls.c.error.is_(None))
    return select(func.max(column)).where(*its_own).scalar_subquery().label(f"counted_{name}")


LESSONS = (
    select(
        *(column for column in decisions.c if column is not decisions.c.details),
        # Only where another LLM answered than was chosen does a lesson need the explanation.
        type_coerce(
            case((decisions.c.served != decisions.c.llm, decisions.c.details), else_=null()), JSON(none_as_null=True)
        ).label("details"),
        *_told,
        _counted(calls.c.response_tokens, "tokens"),
        _counted(calls.c.prompt_tokens, "prompt"),
        _counted(calls.c.cost_usd, "usd"),
    )
    .select_from(feedback.join(decisions, decisions.c.id == feedback.c.decision))
    .where(feedback.c.lesson > bindparam("after"))
    .order_by(feedback.c.lesson)
    .limit(bindparam("most"))
)
"""Feedback of higher numbers with its decision and what the upstream counted, in order."""
