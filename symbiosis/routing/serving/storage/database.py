"""A store's database: made whole or not at all, opened, and its errors in one line each.

Several processes may want a new database at the same instant, and one may be killed on the way. The tables are made in
one transaction, which both kinds of database can roll back, by one process at a time.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from symbiosis.core.errors import InputError
from symbiosis.routing.serving.storage import tables

PATIENCE_S = 10.0
"""For another process that writes, or a server that does not answer."""
MAKING, WRITING, NUMBERING, LEARNING, VERSIONS = 5_301_700, 5_301_701, 5_301_702, 5_301_703, 5_301_704
"""Keys of the advisory locks in PostgreSQL."""
KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}
"""Seconds and tries after which either end takes a silent connection to PostgreSQL for broken, and its locks go."""


class StoreUnavailable(InputError):  # noqa: N818
    """The store cannot be read or written now; it may be possible later."""


class Database:
    """An open database of a store.

    Parameters
    ----------
    url
        ``sqlite:///FILE`` or ``postgresql+psycopg://USER@HOST/NAME``; made if it is not there.

    Raises
    ------
    InputError
        The address is none, or what is there is no store of this format.
    StoreUnavailable
        It cannot be opened now.
    """

    def __init__(self, url: str) -> None:
        self.url = _checked(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.name = str(self.url.database) if self.is_sqlite else self.url.render_as_string(hide_password=True)
        self.file = Path(self.name) if self.is_sqlite else None
        self.engine = self._engine()
        self._writer = self.engine.execution_options(writes=True)
        try:
            if self.file is None:
                self._prepare()
            elif not self._is_whole():
                with alone_in(self.file.parent, "making the store"):
                    self._prepare()
        except BaseException:
            self.engine.dispose()
            raise

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection to read with; what it reads is of one moment in SQLite."""
        with self.told(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection to write with; what it writes is there at the end, all of it or nothing."""
        with self.told(), self._writer.begin() as connection:
            if not self.is_sqlite:
                # Shared among writers: whoever takes it alone knows that all earlier numbers are committed.
                connection.execute(text(f"SELECT pg_advisory_xact_lock_shared({WRITING})"))
            yield connection

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn what the database complains of into one line."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            raise self._error(error) from error

    def settled(self, connection: Connection) -> None:
        """Wait for what others are writing, so that no lower number than those that are there will come later."""
        if not self.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITING})"))

    def numbering(self, connection: Connection) -> None:
        """Let nobody else number lessons until the end of the transaction."""
        if not self.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({NUMBERING})"))

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _engine(self) -> Engine:
        options: dict[str, Any] = {"pool_pre_ping": not self.is_sqlite, "pool_timeout": PATIENCE_S}
        if self.is_sqlite:
            options["connect_args"] = {"timeout": PATIENCE_S}
        else:
            told = {"connect_timeout": int(PATIENCE_S), "application_name": "symbiosis", **KEEPALIVE}
            options["connect_args"] = {**told, "tcp_user_timeout": int(PATIENCE_S * 1000)}
        try:
            engine = create_engine(_readable(self.url, self.file) if self.file else self.url, **options)
        except ModuleNotFoundError:
            raise InputError(f"the store {self.name} needs psycopg: pip install 'symbiosis[postgres]'") from None
        if self.is_sqlite:
            event.listen(engine, "connect", _at_connect)
            event.listen(engine, "begin", _at_begin)
        else:
            event.listen(engine, "connect", _keep_alive)
        return engine

    def make_late(self, table: Table) -> None:
        """Make a table that stores of earlier releases lack."""
        with self.reading() as connection:
            if inspect(connection).has_table(table.name):
                return
        with self.told(), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MAKING})"))
            table.create(connection, checkfirst=True)

    def _is_whole(self) -> bool:
        """Tell whether the tables are there; refuse anything else than a store of this format."""
        if self.file is not None and (not self.file.exists() or self.file.stat().st_size == 0):
            return False
        with self.reading() as connection:
            return self._has_tables(connection)

    def _has_tables(self, connection: Connection) -> bool:
        found = set(inspect(connection).get_table_names())
        if tables.meta.name not in found:
            # A PostgreSQL database may be shared with others; a file is not.
            if (found & set(tables.metadata.tables)) or (found and self.is_sqlite):
                raise InputError(
                    f"{self.name} is a database of something else than a store of decisions: name another one"
                )
            return False
        written = connection.execute(
            select(tables.meta.c.value).where(tables.meta.c.key == "format")
        ).scalar_one_or_none()
        if written != tables.FORMAT:
            raise InputError(
                f"{self.name} is a store of format {written}, this program has format {tables.FORMAT}: use the program "
                "that made it, or name another store"
            )
        return True

    def _prepare(self) -> None:
        """Make the tables if they are not there."""
        if self.is_sqlite:
            with self.told(), closing(self.engine.raw_connection()) as raw:  # it cannot be changed in a transaction
                raw.cursor().execute("PRAGMA journal_mode=WAL")
        with self.told(), self._writer.begin() as connection:
            if not self.is_sqlite:
                connection.execute(text(f"SELECT pg_advisory_xact_lock({MAKING})"))
            if not self._has_tables(connection):
                tables.metadata.create_all(connection, checkfirst=False)
                connection.execute(insert(tables.meta).values(key="format", value=tables.FORMAT))

    def _error(self, error: Exception) -> InputError:
        """Say in one line what the database complains of, and what to do."""
        cause = str(error.orig) if isinstance(error, DBAPIError) else str(error)
        cause = " ".join(cause.split())
        if isinstance(error, OSError):
            return StoreUnavailable(f"the store {self.name}: {error.strerror or error}")
        if isinstance(error, PoolTimeout):
            return StoreUnavailable(f"the store {self.name} is busy: no connection was free for {PATIENCE_S:g} s")
        for said, meaning in _MEANINGS if self.is_sqlite else ():
            if said in cause:
                return StoreUnavailable(f"the store {self.name} {meaning}")
        if isinstance(error, DBAPIError) and not self.is_sqlite and getattr(error.orig, "sqlstate", None) is None:
            return StoreUnavailable(f"the store {self.name} cannot be reached ({cause}): start it, or name another")
        return StoreUnavailable(f"the store {self.name}: {cause}")


_MEANINGS = (
    ("database is locked", f"has been locked by another process for {PATIENCE_S:g} s: try again, or end that process"),
    ("disk is full", "cannot be written, the disk is full: make room"),
    ("readonly database", "cannot be written: give yourself the right to write the file and its folder"),
    ("unable to open database file", "cannot be opened: its folder is missing or may not be used"),
    ("disk I/O error", "cannot be read or written, the disk fails or is full: make room, or look at the disk"),
    ("is not a database", "is no SQLite database, or is damaged: restore it from a copy, or move it away"),
    ("malformed", "is damaged: restore it from a copy, or move it away"),
)


def _checked(url: str) -> URL:
    remedy = "give sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
    try:
        parsed = make_url(url)
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError):
        raise InputError(f"the address of the store cannot be read: {remedy}") from None
    except ModuleNotFoundError:
        raise InputError("this store needs psycopg: pip install 'symbiosis[postgres]'") from None
    if parsed.get_backend_name() == "sqlite":
        if not parsed.database or parsed.database == ":memory:" or parsed.database.startswith("file:"):
            raise InputError(f"a store needs a file: {remedy}")
    elif parsed.drivername != "postgresql+psycopg":
        raise InputError(f"a store cannot lie in {parsed.drivername}: {remedy}")
    return parsed


def _readable(url: URL, file: Path) -> URL:
    """Return the URL to read a database by where nothing can be written: SQLite makes files beside it otherwise.

    What another process has not yet moved from its log into the file could not be read: then nothing changes.
    """
    log = file.with_name(f"{file.name}-wal")
    if not file.is_file() or os.access(file.parent, os.W_OK) or (log.exists() and log.stat().st_size):
        return url
    return URL.create("sqlite", database=f"file:{quote(str(file))}", query={"immutable": "1", "uri": "true"})


def _at_connect(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not at the first change
    for pragma in ("synchronous=NORMAL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}").close()


def _keep_alive(connection: Any, _: Any) -> None:
    """Let the server, too, soon notice a client whose machine is gone; over unix sockets these settings do nothing."""
    settings = ", ".join(f"set_config('tcp_{name}', '{value}', false)" for name, value in KEEPALIVE.items())
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {settings}")
    connection.commit()


def _at_begin(connection: Connection) -> None:
    # A transaction that reads first and writes later could not wait for another writer.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def alone_in(folder: Path, work: str) -> Iterator[None]:
    """Hold a lock on a folder, which is made, a process that dies gives back, and which leaves no file.

    Parameters
    ----------
    folder
        Which.
    work
        What is done in it, for the message of one who waits in vain.

    Raises
    ------
    InputError
        It cannot be made or used.
    StoreUnavailable
        Another process has held it for `PATIENCE_S`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be used ({error.strerror}): make it writable, or name another folder"
        ) from None
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreUnavailable(f"another process has been {work} in {folder}: end it") from None
                time.sleep(0.01)
        yield
    finally:
        os.close(handle)
