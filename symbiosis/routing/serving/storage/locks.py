"""Locks that processes on one store share: who learns, and who writes versions; a process that dies gives them back.

PostgreSQL's advisory locks belong to a database, and are held by a session: a pooler between that gives sessions to
several clients in turn would break them. SQLite's are locks on files beside the database.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from symbiosis.routing.serving.storage.database import LEARNING, VERSIONS, Database

HELD = text(
    "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid()"
    f" AND classid = 0 AND objid = {LEARNING} AND objsubid = 1)"
)
LONGEST_S = 60
"""After which PostgreSQL takes the lock on versions from a process that may be stopped for good."""


class LearnerLock(Protocol):
    """The lock of a store's one learner. Its methods may be called from several threads."""

    def take(self) -> bool:
        """Take the lock without waiting, or make sure that it is still held; tell whether it is.

        Raises
        ------
        symbiosis.routing.serving.storage.database.StoreUnavailable
            Nobody can tell now; the lock is not held.
        """

    def release(self) -> None:
        """Let another process learn."""


def learner_lock(database: Database) -> LearnerLock:
    """Return the lock of a store's learner, not taken."""
    return _ServerLock(database) if database.file is None else _FileLock(database)


class _ServerLock:
    """An advisory lock of PostgreSQL on a connection of its own: who loses the one has lost the other."""

    def __init__(self, database: Database) -> None:
        self._database, self._alone = database, threading.Lock()
        self._connection: Connection | None = None

    def take(self) -> bool:
        with self._alone:
            if self._is_held():
                return True
            self._let_go()
            with self._database.told():
                connection = self._database.engine.execution_options(isolation_level="AUTOCOMMIT").connect()
                try:
                    held = bool(connection.scalar(text(f"SELECT pg_try_advisory_lock({LEARNING})")))
                except BaseException:
                    connection.invalidate()
                    connection.close()
                    raise
                if held:
                    self._connection = connection
                else:
                    connection.close()
                return held

    def _is_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            return bool(self._connection.scalar(HELD))
        except SQLAlchemyError:
            return False

    def release(self) -> None:
        with self._alone:
            self._let_go()

    def _let_go(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.invalidate()  # the lock goes with the connection, also where the server has gone
            connection.close()


class _FileLock:
    """A lock on a file beside SQLite's database."""

    def __init__(self, database: Database) -> None:
        self._database, self._alone = database, threading.Lock()
        self._path = Path(f"{database.file}.learner")
        self._file: IO[str] | None = None

    def take(self) -> bool:
        with self._alone, self._database.told():
            if self._file is not None and self._is_there(self._file):
                return True
            self._let_go()
            file = self._path.open("w")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                return False
            except BaseException:
                file.close()
                raise
            if not self._is_there(file):
                file.close()
                return False
            self._file = file
            return True

    def _is_there(self, file: IO[str]) -> bool:
        """Tell whether others would find this very file: one that was deleted keeps nobody out."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        with self._alone:
            self._let_go()

    def _let_go(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def versions_lock(database: Database) -> Iterator[None]:
    """Keep other processes from writing versions into a store meanwhile; waits for them.

    Where it is lost on the way, `symbiosis.routing.serving.storage.published.Published.put` refuses what comes late.
    """
    if database.file is not None:
        with ExitStack() as held:
            with database.told():
                file = held.enter_context(Path(f"{database.file}.versions").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
        return
    with database.told():
        connection = database.engine.connect()
    try:
        with database.told():
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{LONGEST_S}s'"))
            connection.execute(text(f"SELECT pg_advisory_xact_lock({VERSIONS})"))
        yield
    finally:
        with suppress(SQLAlchemyError):
            connection.rollback()
        with suppress(SQLAlchemyError):
            connection.close()
