"""MLflow's sqlite database, made whole or not at all: two processes may want it at once, and either may be killed.

MLflow makes an empty database by a hundred small steps, in place. Two processes that do so at the same instant, or one
that is killed on the way, leave a file that no later process can use. Here one process at a time makes the database,
under another name, and moves it into place when it is whole.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from symbiosis.core.errors import InputError

PATIENCE = 180.0
"""Seconds to wait for another process that makes the database."""
QUIET = 10.0
"""Seconds without a change after which nobody is taken to be at work on an unfinished database."""
_SIDE_FILES = ("-journal", "-wal", "-shm")


@dataclass(frozen=True)
class _Content:
    """What a database file holds.

    Attributes
    ----------
    tables
        Their names, without Alembic's own.
    revision
        The last migration that it went through, None if it has not been through any.
    runs
        How many are recorded.
    """

    tables: frozenset[str]
    revision: str | None
    runs: int


def prepare(uri: str) -> None:
    """Make sure that a sqlite database is there and whole; leave every other kind of store alone.

    A database that was never finished and holds no run is moved aside, to ``NAME.unfinished``, and made anew.

    Parameters
    ----------
    uri
        A tracking URI.

    Raises
    ------
    InputError
        The file is no database, is not MLflow's, or holds runs in a form that the installed MLflow does not read.
    OSError
        The folder is missing or cannot be written to.
    """
    path = _file_of(uri)
    if path is None or _is_whole(path):
        return
    with _alone_in(path.parent):
        _wait_for_others(path)
        if _is_whole(path):
            return
        if path.exists():
            _set_aside(path)
        _make(path)


def _file_of(uri: str) -> Path | None:
    """Return the file of a sqlite address, None for any other store, and for sqlite's own ``file:`` addresses."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(uri).database
    return None if not name or name == ":memory:" or name.startswith("file:") else Path(name).absolute()


def _is_whole(path: Path) -> bool:
    """Tell whether the file has been through all migrations of the installed MLflow.

    Raises
    ------
    InputError
        It is no database, or one that cannot be made whole without a risk for what it holds.
    """
    if not path.exists() or path.stat().st_size == 0:
        return False
    content = _content(path)
    migrations = _migrations()
    if content.revision == migrations[0]:
        return True
    if content.tables and not content.tables & {"experiments", "runs", "tags", "metrics", "params"}:
        raise InputError(f"{path} is a database of something else than MLflow: name another by MLFLOW_TRACKING_URI")
    if content.revision is not None and content.revision not in migrations:
        raise InputError(
            f"{path} was made by another MLflow (its migration {content.revision} is not known here): install that "
            "one, or name another database by MLFLOW_TRACKING_URI"
        )
    if content.runs:
        raise InputError(
            f"{path} was made by an older MLflow, or a migration of it was cut short, and it holds {content.runs:,} "
            f"runs: copy it, then run `mlflow db upgrade sqlite:///{path}`; or move it away to begin anew"
        )
    return False


def _content(path: Path) -> _Content:
    """Read what a database holds; a transaction that a killed process left open is rolled back by sqlite.

    Raises
    ------
    InputError
        The file is no sqlite database.
    """
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=PATIENCE)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            revision = runs = None
            if "alembic_version" in tables:
                revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            if "runs" in tables:
                runs = connection.execute("SELECT count(*) FROM runs").fetchone()
            own = frozenset(name for name in tables if not name.startswith(("alembic_", "sqlite_")))
            return _Content(own, revision[0] if revision else None, runs[0] if runs else 0)
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path} cannot be read as a sqlite database ({error}): move it away") from None


@cache
def _migrations() -> tuple[str, ...]:
    """Return the names of MLflow's migrations, the newest first."""
    import mlflow
    from alembic.script import ScriptDirectory

    folder = Path(mlflow.__file__).parent / "store" / "db_migrations"
    return tuple(script.revision for script in ScriptDirectory(str(folder)).walk_revisions())


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder, which a process that dies gives back and which leaves no file.

    Raises
    ------
    InputError
        Another process holds it for longer than `PATIENCE`.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InputError(
                        f"another process has been making the tracking database in {folder} for {PATIENCE:g} s: end it"
                    ) from None
                time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _wait_for_others(path: Path) -> None:
    """Wait until an unfinished database is whole, or has not changed for so long that it is taken as given up.

    A process that does not know of the lock, such as MLflow's server, may be at work on it.
    """
    newest, since = 0.0, time.monotonic()
    while not _is_whole(path) and (times := [file.stat().st_mtime for file in _with_side_files(path) if file.exists()]):
        if max(times) != newest:
            newest, since = max(times), time.monotonic()
        # The change may lie in the future: then the clock was set back meanwhile, and only what is seen here counts.
        quiet = max(time.time() - newest, time.monotonic() - since)
        if quiet >= QUIET:
            break
        time.sleep(min(1.0, QUIET - quiet))


def _set_aside(path: Path) -> None:
    number = 1
    while (target := path.with_name(f"{path.name}.unfinished{number if number > 1 else ''}")).exists():
        number += 1
    for file in _with_side_files(path):
        if file.exists():
            file.rename(target.with_name(target.name + file.name.removeprefix(path.name)))


def _make(path: Path) -> None:
    """Let MLflow make the database under another name, and move it into place."""
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = path.with_name(f".{path.name}.new")
    for file in _with_side_files(draft):  # of a process that was killed
        file.unlink(missing_ok=True)
    store = SqlAlchemyStore(f"sqlite:///{draft}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
    store.engine.dispose()
    with draft.open("rb") as handle:
        os.fsync(handle.fileno())
    draft.replace(path)


def _with_side_files(path: Path) -> list[Path]:
    return [path, *(path.with_name(path.name + ending) for ending in _SIDE_FILES)]
