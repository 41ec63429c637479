"""The store of decisions, calls and feedback: one SQL database for the command line and any number of gateways.

Whoever writes says it in one transaction: what was acknowledged is there after a kill of the process (and, in SQLite,
all but the last moments after a loss of power). Feedback counts once per decision, however often and from however many
processes it is given. A learner numbers it in order of arrival; a version of the router says up to which number it has
learned, so that each lesson is learned exactly once.
"""

import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.policy.explanation import Decision
from symbiosis.routing.serving.records import (
    NOT_ROUTED,
    Answer,
    DecisionEntry,
    DecisionRecord,
    Lesson,
    StoredDecision,
    StoreEntry,
)
from symbiosis.routing.serving.storage import forgetting, locks, rows, statements
from symbiosis.routing.serving.storage.database import Database, StoreUnavailable
from symbiosis.routing.serving.storage.locks import LearnerLock
from symbiosis.routing.serving.storage.published import Published
from symbiosis.routing.serving.storage.tables import calls, decisions, feedback, meta, spend
from symbiosis.routing.serving.storage.telling import (
    FeedbackConflict,
    NothingServed,
    Outcome,
    Telling,
    UnknownDecision,
    tell,
)

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

__all__ = ["FeedbackConflict", "NothingServed", "Store", "StoreUnavailable", "Telling", "UnknownDecision"]

SETTING, FORM, KEY = "setting ", "vectors ", "store"
"""How keys of the table `meta` begin: settings, the form of a router's vectors; and the store's own key."""
PAGE = 500
"""Rows that are read at once."""
TRIALS = 2
"""Of writing feedback where another process writes the same."""


class Charge(NamedTuple):
    """What pacing needs of a decision.

    Attributes
    ----------
    sequence, decision
        Its place and id.
    at
        Seconds since the epoch.
    llm, cost_usd, budget_usd
        See `symbiosis.routing.serving.records.DecisionRecord`.
    policy
        See `symbiosis.routing.serving.records.DecisionEntry`.
    """

    sequence: int
    decision: str
    at: float
    llm: str
    cost_usd: float
    budget_usd: float | None
    policy: str


class Store:
    """A store, opened or made. Its methods may be called from several threads and processes at once.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` (on a local disk) or ``postgresql+psycopg://USER@HOST/NAME``.

    Raises
    ------
    InputError
        The address is none, or what is there is no store of this format. `StoreUnavailable` where it may pass: also
        from every method.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)
        self._insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        self._noted: set[str] = set()

    @classmethod
    def in_file(cls, path: Path | str) -> "Store":
        """Open or make a store in a file of SQLite."""
        return cls(f"sqlite:///{path}")

    @property
    def name(self) -> str:
        """Where it lies, without a password."""
        return self._database.name

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self._database.close()

    def write(self, entries: Sequence[StoreEntry]) -> None:
        """Write several entries in one transaction: all of them or none.

        Decisions that are there already, and calls whose decision and attempt are, are passed over: what was perhaps
        written may be written again.
        """
        if not entries:
            return
        made = rows.grouped(entries)
        try:
            with self._database.writing() as connection:
                self._write(connection, made, known_new=True)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, IntegrityError):
                raise
            with self._database.writing() as connection:
                self._write(connection, made, known_new=False)

    def _write(self, connection: Connection, made: rows.Grouped, *, known_new: bool) -> None:
        new_decisions, new_calls = made.decisions, made.calls
        if not known_new:
            new_decisions, new_calls = self._new_decisions(connection, made), self._new_calls(connection, made)
        if new_decisions:
            connection.execute(statements.NEW_DECISIONS, new_decisions)
        if made.served:
            connection.execute(statements.SERVED, [{"key": one.decision, "by": one.llm} for one in made.served])
        if new_calls:
            connection.execute(statements.NEW_CALLS, new_calls)
        spent: dict[tuple[str, str], float] = {}
        for call in new_calls:
            if call["api_key"] is not None and call["cost_usd"]:
                for period in periods(call["at"]):
                    spent[call["api_key"], period] = spent.get((call["api_key"], period), 0.0) + call["cost_usd"]
        if spent:  # in one order: two writers do not wait for each other
            charged = [{"api_key": key, "period": period, "usd": usd} for (key, period), usd in sorted(spent.items())]
            connection.execute(statements.CHARGE, charged)

    def _new_decisions(self, connection: Connection, made: rows.Grouped) -> list[dict[str, Any]]:
        ids = [row["id"] for row in made.decisions]
        seen = set(connection.scalars(select(decisions.c.id).where(decisions.c.id.in_(ids))))
        new = []
        for row in made.decisions:
            if row["id"] not in seen:
                seen.add(row["id"])
                new.append(row)
        return new

    def _new_calls(self, connection: Connection, made: rows.Grouped) -> list[dict[str, Any]]:
        ids = {row["decision"] for row in made.calls if row["decision"] is not None}
        found = connection.execute(select(calls.c.decision, calls.c.attempt).where(calls.c.decision.in_(ids)))
        seen = {(decision, attempt) for decision, attempt in found}
        new = []
        for row in made.calls:
            key = row["decision"], row["attempt"]
            if key[0] is None or key not in seen:
                seen.add(key)
                new.append(row)
        return new

    def decided(self, record: DecisionRecord, decision: Decision | None = None, text: str | None = None) -> None:
        """Write one decision of a caller who asks the chosen LLM himself.

        Parameters
        ----------
        record
            What is needed to learn from it.
        decision
            With its explanation, if that shall be kept.
        text
            The query's, of which a hash is kept.
        """
        entry = DecisionEntry(record, served=record.llm)
        if decision is not None:
            entry.policy, entry.details = decision.objective, decision.to_dict()
            entry.router, entry.version = decision.router, decision.version
        if text is not None:
            entry.text_sha256 = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        self.write([entry])

    def decision(self, key: str) -> StoredDecision | None:
        """Return a decision with its calls and its feedback; None: there is no such decision."""
        with self._database.reading() as connection:
            chosen = select(decisions).where(decisions.c.id == rows.clean(key))
            found = rows.stored(connection, connection.execute(chosen).all())
        return found[0] if found else None

    def latest(self, limit: int, before: int | None = None) -> list[StoredDecision]:
        """Return the newest decisions, the newest first.

        Parameters
        ----------
        limit
            At most so many.
        before
            Only those of a lower `StoredDecision.sequence`: the next page.
        """
        chosen = select(decisions).order_by(decisions.c.sequence.desc()).limit(limit)
        if before is not None:
            chosen = chosen.where(decisions.c.sequence < before)
        with self._database.reading() as connection:
            return rows.stored(connection, connection.execute(chosen).all())

    def feedback(
        self,
        key: str,
        told: Feedback,
        *,
        at: float,
        source: str = "user",
        idempotency_key: str | None = None,
        lifetime_s: float | None = None,
        llms: Collection[str] | None = None,
    ) -> bool:
        """Write what was told of the answer to a decision's query.

        What a user says replaces what a check said as long as no router has learned from it; anything else stays as it
        was told first.

        Parameters
        ----------
        key
            The decision's id.
        told, at, source, idempotency_key
            See `symbiosis.routing.serving.storage.telling.Telling`.
        lifetime_s
            Older decisions take no feedback; None: they do.
        llms
            Feedback on others is refused; None: all are known.

        Returns
        -------
        bool
            False if this very feedback was given before.

        Raises
        ------
        UnknownDecision
            There is no such decision, or it is too old.
        FeedbackConflict
            It has other feedback, or the idempotency key came with other feedback before.
        NothingServed
            No LLM has answered.
        InputError
            The LLM that answered is none of `llms`.
        """
        (outcome,) = self.tell([Telling(key, told, at, source, idempotency_key)], lifetime_s, llms)
        if isinstance(outcome, InputError):
            raise outcome
        return outcome

    def tell(
        self, tellings: Sequence[Telling], lifetime_s: float | None = None, llms: Collection[str] | None = None
    ) -> list[Outcome]:
        """Write many pieces of feedback in one transaction, as if they came one by one; return what became of each.

        Parameters
        ----------
        tellings
            In their order.
        lifetime_s, llms
            See `feedback`.
        """
        cleaned = [one.cleaned() for one in tellings]
        for _ in range(TRIALS):
            try:
                with self._database.writing() as connection:
                    return tell(connection, cleaned, lifetime_s, llms)
            except StoreUnavailable as error:
                # Another process was first, at the same instant: the next time its feedback is seen.
                if not isinstance(error.__cause__, IntegrityError):
                    raise
        with self._database.writing() as connection:
            return tell(connection, cleaned, lifetime_s, llms)

    def take_in(self, records: Iterable[DecisionRecord | tuple[str, Feedback]]) -> None:
        """Take in decisions, and feedback on them that was learned from, of another log; all of it or nothing.

        What is there already is passed over.
        """
        with self._database.writing() as connection:
            self._database.numbering(connection)
            lesson = connection.scalar(select(func.max(feedback.c.lesson))) or 0
            waiting = iter(records)
            while page := list(islice(waiting, PAGE)):
                for is_decision, run in groupby(page, lambda record: isinstance(record, DecisionRecord)):
                    if is_decision:
                        entries = [DecisionEntry(one, one.llm) for one in run if isinstance(one, DecisionRecord)]
                        new = self._new_decisions(connection, rows.grouped(entries))
                        if new:
                            connection.execute(insert(decisions), new)
                        continue
                    for key, told in (one for one in run if not isinstance(one, DecisionRecord)):
                        at = connection.scalar(select(decisions.c.at).where(decisions.c.id == key))
                        before = connection.scalar(select(feedback.c.decision).where(feedback.c.decision == key))
                        if at is not None and before is None:
                            lesson += 1
                            values = {"decision": key, "at": at, "source": "user", "lesson": lesson}
                            connection.execute(insert(feedback).values(**values, **told._asdict()))

    def places(self) -> dict[str, tuple[int, int | None]]:
        """Return each decision's sequence and the number of its lesson, None without one."""
        joined = decisions.outerjoin(feedback, decisions.c.id == feedback.c.decision)
        chosen = select(decisions.c.id, decisions.c.sequence, feedback.c.lesson).select_from(joined)
        with self._database.reading() as connection:
            return {key: (sequence, lesson) for key, sequence, lesson in connection.execute(chosen)}

    def number_lessons(self) -> int:
        """Number the feedback that has no number yet, in order of arrival; return the highest number there is.

        A learner's work. Two at once would do no harm: they number one after the other.
        """
        with self._database.writing() as connection:
            self._database.numbering(connection)
            highest = connection.scalar(statements.HIGHEST) or 0
            waiting = connection.scalars(statements.WAITING).all()
            if waiting:
                numbers = enumerate(waiting, start=highest + 1)
                connection.execute(
                    statements.NUMBERED, [{"place": place, "number": number} for number, place in numbers]
                )
            return highest + len(waiting)

    def news(self) -> tuple[int, bool]:
        """Return the highest number of a lesson, and whether feedback waits for one."""
        with self._database.reading() as connection:
            waiting = connection.execute(statements.WAITS).first() is not None
            return connection.scalar(statements.HIGHEST) or 0, waiting

    def lessons(self, after: int = 0) -> Iterator[Lesson]:
        """Give the lessons of higher numbers, in order.

        The LLM of a lesson's decision is the one that answered; how long its answer was, its upstream says where the
        feedback does not.
        """
        return (rows.lesson(row) for row in self._numbered(after))

    def answers(self, after: int = 0) -> Iterator[Answer]:
        """Give the lessons of higher numbers with all that training needs of their decisions, in order."""
        return (rows.answer(row) for row in self._numbered(after))

    def _numbered(self, after: int) -> Iterator[Any]:
        while True:
            with self._database.reading() as connection:
                page = connection.execute(statements.LESSONS, {"after": after, "most": PAGE}).all()
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].told_lesson

    @cached_property
    def key(self) -> str:
        """What tells this store from every other, 16 hexadecimal digits; drawn when it is first asked for."""
        with self._database.reading() as connection:
            known = connection.scalar(select(meta.c.value).where(meta.c.key == KEY))
        if known is None:
            with self._database.writing() as connection:
                drawn = self._insert(meta).values(key=KEY, value=uuid.uuid4().hex[:16])
                connection.execute(drawn.on_conflict_do_nothing(index_elements=["key"]))
                known = connection.scalar(select(meta.c.value).where(meta.c.key == KEY))
        return str(known)

    def forms(self) -> dict[str, str]:
        """Return what was noted by `note_form`: by digest of the trained router."""
        with self._database.reading() as connection:
            found = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(FORM)))
            return {key.removeprefix(FORM): value for key, value in found}

    def note_form(self, router: str, form: str) -> None:
        """Note, for whoever trains on the decisions, which form the vectors of a trained router have.

        Parameters
        ----------
        router
            Its digest, as decisions tell it.
        form
            A `symbiosis.routing.queries.vector_form.VectorForm` as JSON.
        """
        if router in self._noted:
            return
        if router not in self.forms():
            with self._database.writing() as connection:
                noted = self._insert(meta).values(key=FORM + router, value=form)
                connection.execute(noted.on_conflict_do_nothing(index_elements=["key"]))
        self._noted.add(router)

    def position(self) -> int:
        """Return the sequence of the newest decision; none of a lower one is still to come."""
        with self._database.reading() as connection:
            self._database.settled(connection)
            return connection.scalar(statements.POSITION) or 0

    def charges(self, after: int, until: int) -> Iterator[Charge]:
        """Give what pacing needs of the routed decisions of higher sequences than `after`, up to `until`, in order."""
        columns: list[Any] = [decisions.c["id" if name == "decision" else name] for name in Charge._fields]
        chosen = select(*columns)
        while after < until:
            with self._database.reading() as connection:
                page = connection.execute(
                    chosen.where(decisions.c.sequence > after, decisions.c.sequence <= until)
                    .where(decisions.c.mode.not_in(NOT_ROUTED))
                    .order_by(decisions.c.sequence)
                    .limit(20 * PAGE)
                ).all()
            for row in page:
                yield Charge(*row)
            if len(page) < 20 * PAGE:
                return
            after = page[-1].sequence

    def sequence_at(self, at: float) -> int:
        """Return the sequence of the last decision before a time, the newest of all aside; 0: there is none."""
        with self._database.reading() as connection:
            older = select(func.max(decisions.c.sequence)).where(decisions.c.at < at)
            newest = connection.scalar(statements.POSITION) or 0
            return max(min(connection.scalar(older) or 0, newest - 1), 0)

    def forget_unanswered(self, until: int) -> int:
        """Delete the decisions up to a sequence that have no feedback, with their calls; return how many."""
        return forgetting.without_feedback(self._database, until)

    def forget_explanations(self, until: int) -> int:
        """Delete the explanations of the decisions up to a sequence, but for those that lessons need."""
        return forgetting.explanations(self._database, until)

    def forget_lessons(self, until: int) -> int:
        """Delete the lessons up to a number, with their decisions and calls; return how many."""
        return forgetting.lessons(self._database, until)

    def spent(self, api_key: str, period: str) -> float:
        """Return what a key has spent in USD.

        Parameters
        ----------
        api_key
            The key's name.
        period
            A month, ``2026-11``, or a day, ``2026-11-28``, of UTC, or ``total``.
        """
        mine = select(spend.c.usd).where(spend.c.api_key == api_key, spend.c.period == period)
        with self._database.reading() as connection:
            return connection.scalar(mine) or 0.0

    def conversation(self, conversation: str) -> StoredDecision | None:
        """Return the newest decision of a conversation that was answered, with its calls; None: there is none."""
        chosen = select(decisions).where(decisions.c.conversation == conversation, decisions.c.served.is_not(None))
        with self._database.reading() as connection:
            newest = connection.execute(chosen.order_by(decisions.c.sequence.desc()).limit(1)).all()
            found = rows.stored(connection, newest)
        return found[0] if found else None

    def settings(self) -> dict[str, str]:
        """Return what gateways that share the store have agreed on; see `set_setting`."""
        with self._database.reading() as connection:
            found = connection.execute(select(meta.c.key, meta.c.value).where(meta.c.key.startswith(SETTING)))
            return {key.removeprefix(SETTING): value for key, value in found}

    def set_setting(self, name: str, value: str | None) -> None:
        """Write a setting for all gateways that share the store; None takes it back."""
        key = SETTING + name
        with self._database.writing() as connection:
            if value is None:
                connection.execute(delete(meta).where(meta.c.key == key))
                return
            statement = self._insert(meta).values(key=key, value=value)
            connection.execute(
                statement.on_conflict_do_update(index_elements=["key"], set_={"value": statement.excluded.value})
            )

    def decisions_frame(self, since: float = 0.0) -> "pl.DataFrame":
        """Return the decisions since a time in seconds since the epoch, without vectors, texts and details."""
        with self._database.reading() as connection:
            return rows.frame(connection, decisions, since, without=("vector", "vector_type", "text", "details"))

    def details_frames(self, since: float = 0.0, step: int = 1) -> "Iterator[pl.DataFrame]":
        """Give ``id`` and ``details``, explanations as JSON text, of each step-th decision since a time; in parts."""
        with self._database.reading() as connection:
            yield from rows.details(connection, since, step)

    def vectors(self, since: float = 0.0, after: int = 0, most: int = 1000) -> "np.ndarray":
        """Return vectors of queries, (n, d); those of another length than the newest one are left out.

        Parameters
        ----------
        since
            Seconds since the epoch.
        after
            Only decisions of higher sequences.
        most
            About so many at most: of more decisions each k-th.
        """
        import numpy as np

        with self._database.reading() as connection:
            found = rows.vectors(connection, since, after, most)
        return np.array([vector for vector in found if len(vector) == len(found[-1])])

    def calls_frame(self, since: float = 0.0) -> "pl.DataFrame":
        """Return the calls since a time in seconds since the epoch."""
        with self._database.reading() as connection:
            return rows.frame(connection, calls, since)

    def feedback_frame(self, since: float = 0.0) -> "pl.DataFrame":
        """Return the feedback since a time in seconds since the epoch."""
        with self._database.reading() as connection:
            return rows.frame(connection, feedback, since)

    def every(self, since: float = 0.0) -> Iterator[StoredDecision]:
        """Give all decisions since a time in seconds since the epoch, the oldest first."""
        after = 0
        while True:
            chosen = select(decisions).where(decisions.c.sequence > after, decisions.c.at >= since)
            with self._database.reading() as connection:
                found = connection.execute(chosen.order_by(decisions.c.sequence).limit(PAGE)).all()
                page = rows.stored(connection, found)
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].sequence

    def export(self, path: Path | str, since: float = 0.0) -> int:
        """Write the decisions since a time as JSON lines, with their calls and feedback; return how many.

        Parameters
        ----------
        path
            Written whole or not at all.
        since
            Seconds since the epoch.
        """
        return rows.write_lines(Path(path), self.every(since))

    def learner_lock(self) -> LearnerLock:
        """Return the lock that elects the one learner of a store, not taken; a learner that dies gives it back."""
        return locks.learner_lock(self._database)

    def versions_lock(self) -> AbstractContextManager[None]:
        """Keep other processes from writing versions into the store meanwhile; waits for them."""
        return locks.versions_lock(self._database)

    @cached_property
    def published(self) -> Published:
        """The versions of the router that lie in the store."""
        return Published(self._database)


def periods(at: float) -> tuple[str, str, str]:
    """Return the month and the day, in UTC, in which something at a time in seconds since the epoch counts, and all."""
    day = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
    return day[:7], day, "total"
