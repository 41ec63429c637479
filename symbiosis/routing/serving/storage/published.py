"""Versions of the router in a store, each as one archive: what one gateway has learned, the others take from here."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from symbiosis.routing.serving.storage.database import StoreUnavailable
from symbiosis.routing.serving.storage.tables import versions

if TYPE_CHECKING:
    from symbiosis.routing.serving.storage.database import Database


class PublishedVersion(NamedTuple):
    """A version in a store.

    Attributes
    ----------
    number
        Counts up.
    at
        Seconds since the epoch when it was written.
    digest
        SHA-256 of the list of its files' digests.
    """

    number: int
    at: float
    digest: str


class VersionConflict(StoreUnavailable):
    """Another process has written this version in the meantime."""


class Published:
    """The versions in a store.

    Parameters
    ----------
    database
        Of the store; a table is made in stores of earlier releases.

    Raises
    ------
    StoreUnavailable
        The store cannot be read or written now; from every method.
    """

    def __init__(self, database: "Database") -> None:
        self._database = database
        database.make_late(versions)

    def newest(self) -> int:
        """Return the highest number, 0 if there is none."""
        with self._database.reading() as connection:
            return connection.scalar(select(func.max(versions.c.number))) or 0

    def every(self) -> list[PublishedVersion]:
        """Return all of them, oldest first."""
        columns = select(versions.c.number, versions.c.at, versions.c.digest).order_by(versions.c.number)
        with self._database.reading() as connection:
            return [PublishedVersion(*row) for row in connection.execute(columns)]

    def archive(self, number: int) -> tuple[str, bytes] | None:
        """Return a version's digest and archive; None: it is not there."""
        chosen = select(versions.c.digest, versions.c.archive).where(versions.c.number == number)
        with self._database.reading() as connection:
            found = connection.execute(chosen).first()
        return None if found is None else (found.digest, bytes(found.archive))

    def put(self, version: PublishedVersion, archive: bytes, replaces: str | None = None) -> None:
        """Write a version, whole or not at all.

        Parameters
        ----------
        version, archive
            What is written.
        replaces
            Digest of the version of this number that gives way; None: there is none.

        Raises
        ------
        VersionConflict
            There is another one of this number: two processes took themselves for the one that writes.
        """
        values = {"at": version.at, "digest": version.digest, "archive": archive}
        try:
            with self._database.writing() as connection:
                if replaces is None:
                    connection.execute(insert(versions).values(number=version.number, **values))
                    return
                same = versions.c.number == version.number, versions.c.digest == replaces
                if not connection.execute(update(versions).where(*same).values(**values)).rowcount:
                    raise VersionConflict(self._taken(version.number))
        except VersionConflict:
            raise
        except StoreUnavailable as error:
            if isinstance(error.__cause__, IntegrityError):
                raise VersionConflict(self._taken(version.number)) from None
            raise

    def _taken(self, number: int) -> str:
        return f"another process has written version {number} into {self._database.name}: try again"

    def forget(self, numbers: Collection[int]) -> None:
        """Delete versions."""
        wanted: Sequence[int] = sorted(numbers)
        if wanted:
            with self._database.writing() as connection:
                connection.execute(delete(versions).where(versions.c.number.in_(wanted)))
