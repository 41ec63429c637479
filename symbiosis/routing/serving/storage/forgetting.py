"""Delete old rows from a store, some at a time: nobody who writes waits for long."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Select, delete, exists, null, select, update

from symbiosis.routing.serving.storage.tables import calls, decisions, feedback, meta

if TYPE_CHECKING:
    from symbiosis.routing.serving.storage.database import Database

ROWS = 1000
"""Of one transaction."""
SEEN = "seen "
"""How keys of the table `meta` begin that say up to which sequence something was deleted."""


def without_feedback(database: "Database", until: int) -> int:
    """Delete the decisions up to a sequence that have no feedback, with their calls; return how many."""
    bare = ~exists().where(feedback.c.decision == decisions.c.id)

    def page(after: int) -> Select[Any]:
        below = decisions.c.sequence > after, decisions.c.sequence <= until
        return select(decisions.c.sequence, decisions.c.id).where(*below, bare).order_by(decisions.c.sequence)

    def gone(connection: Connection, found: list[tuple[int, str]]) -> None:
        _delete(connection, [key for _, key in found])

    return _through(database, "unanswered", until, page, gone)


def explanations(database: "Database", until: int) -> int:
    """Delete the explanations of the decisions up to a sequence that the chosen LLM answered; return how many."""
    own = decisions.c.served.is_(None) | (decisions.c.served == decisions.c.llm)

    def page(after: int) -> Select[Any]:
        below = decisions.c.sequence > after, decisions.c.sequence <= until, decisions.c.details.is_not(None)
        return select(decisions.c.sequence, decisions.c.id).where(*below, own).order_by(decisions.c.sequence)

    def gone(connection: Connection, found: list[tuple[int, str]]) -> None:
        places = [place for place, _ in found]
        connection.execute(update(decisions).where(decisions.c.sequence.in_(places)).values(details=null()))

    return _through(database, "explained", until, page, gone)


def lessons(database: "Database", until: int) -> int:
    """Delete the lessons up to a number, with their decisions and calls; return how many."""

    def page(after: int) -> Select[Any]:
        below = feedback.c.lesson > after, feedback.c.lesson <= until
        return select(feedback.c.lesson, feedback.c.decision).where(*below).order_by(feedback.c.lesson)

    def gone(connection: Connection, found: list[tuple[int, str]]) -> None:
        keys = [key for _, key in found]
        connection.execute(delete(feedback).where(feedback.c.decision.in_(keys)))
        _delete(connection, keys)

    return _through(database, "lessons", until, page, gone)


def _delete(connection: Connection, keys: list[str]) -> None:
    connection.execute(delete(calls).where(calls.c.decision.in_(keys)))
    connection.execute(delete(decisions).where(decisions.c.id.in_(keys)))


def _through(
    database: "Database",
    name: str,
    until: int,
    page: Callable[[int], Select[Any]],
    gone: Callable[[Connection, list[tuple[int, str]]], None],
) -> int:
    """Go on from where the last deletion ended, up to `until`; return how many rows were found."""
    count, mark = 0, meta.c.key == SEEN + name
    with database.reading() as connection:
        after = int(connection.scalar(select(meta.c.value).where(mark)) or 0)
    while after < until:
        with database.reading() as connection:
            found = [(row[0], row[1]) for row in connection.execute(page(after).limit(ROWS))]
        after = found[-1][0] if len(found) == ROWS else until
        with database.writing() as connection:
            if found:
                gone(connection, found)
            if not connection.execute(update(meta).where(mark).values(value=str(after))).rowcount:
                connection.execute(meta.insert().values(key=SEEN + name, value=str(after)))
        count += len(found)
    return count
