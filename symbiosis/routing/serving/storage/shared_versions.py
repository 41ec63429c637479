"""Versions that lie in a store, with a copy in the state folder: gateways on several machines need no common folder."""

import fcntl
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from io import BytesIO
from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from symbiosis.core.artifacts import sha256_of, staged
from symbiosis.core.errors import InputError
from symbiosis.routing.serving.storage.published import Published, PublishedVersion
from symbiosis.routing.serving.versions import DAY_S, DIGESTS, DamagedVersion, Versions

OWNER = ".store"
"""File of a state folder that names the store that it copies."""


class SharedVersions(Versions):
    """Versions of a store; the folder holds copies, and what is not there or is damaged is fetched anew.

    A folder with versions of its own gives them to a store that has none.

    Parameters
    ----------
    folder, keep, days
        See `symbiosis.routing.serving.versions.Versions`.
    key, published
        Return what tells the store from others, and its versions; asked when they are first needed.
    alone
        Keeps other processes on the store from writing versions.
    """

    def __init__(
        self,
        folder: Path | str,
        keep: int,
        days: int,
        *,
        key: Callable[[], str],
        published: Callable[[], Published],
        alone: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(folder, keep, days)
        self._key, self._published, self._lock = key, published, alone
        self._seen: dict[int, PublishedVersion] | None = None

    def newest(self) -> int:
        return self._published().newest() or super().newest()

    def numbers(self) -> list[int]:
        return [one.number for one in self._published().every()] or super().numbers()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes on the store from writing versions meanwhile.

        Raises
        ------
        InputError
            The folder holds versions of another store.
        """
        with self._lock():
            self._claim()
            self._seen = {one.number: one for one in self._published().every()}
            try:
                yield
            finally:
                self._seen = None

    def save(self, write: Callable[[Path], None], number: int | None = None) -> int:
        """Write a version into the store and the folder; see `symbiosis.routing.serving.versions.Versions.save`.

        Raises
        ------
        symbiosis.routing.serving.storage.published.VersionConflict
            Another process has written versions since `alone` began: this one had lost its lock. Nothing is saved.
        """
        if self._seen is None:
            raise RuntimeError("versions are saved within `alone`")
        number = max(self._seen, default=0) + 1 if number is None else number
        before = self._seen.get(number)
        with self._copying():
            with staged(self._path(number)) as (folder,):
                self._fill(folder, write)
                self._seen[number] = self._give(number, folder, None if before is None else before.digest)
            outdated = self._outdated({one.number: int(one.at // DAY_S) for one in self._seen.values()})
            self._published().forget(outdated)
            for old in outdated:
                del self._seen[old]
            self._sweep(set(super().numbers()) - set(self._seen))
        return number

    def open(self, version: int | None = None) -> Path:
        known = {one.number: one for one in self._published().every()}
        if not known:
            return super().open(version)
        number = max(known) if version is None else version
        if number not in known:
            return self._open(number, sorted(known))
        if self._digest(number) == known[number].digest:
            with suppress(DamagedVersion):
                return self._open(number, sorted(known))
        with self._copying():
            if self._digest(number) != known[number].digest or not self._is_whole(number):
                self._fetch(number)
            self._sweep(set(super().numbers()) - set(known))
        return self._open(number, sorted(known))

    def whole(self) -> list[int]:
        return [number for number in self.numbers() if self._can_be_opened(number)]

    def _can_be_opened(self, number: int) -> bool:
        try:
            self.open(number)
        except DamagedVersion:
            return False
        return True

    def _digest(self, number: int) -> str | None:
        file = self._path(number) / DIGESTS
        return sha256_of(file) if file.is_file() else None

    def _give(self, number: int, folder: Path, replaces: str | None = None) -> PublishedVersion:
        version = PublishedVersion(number, time.time(), sha256_of(folder / DIGESTS))
        self._published().put(version, _packed(folder), replaces)
        return version

    def _fetch(self, number: int) -> None:
        """Copy a version from the store into the folder."""
        found = self._published().archive(number)
        if found is None:
            raise InputError(f"version {number} is no longer in the store: load a newer one")
        with staged(self._path(number)) as (folder,):
            folder.mkdir()
            digest, archive = found
            try:
                with zipfile.ZipFile(BytesIO(archive)) as packed:
                    packed.extractall(folder)
                whole = sha256_of(folder / DIGESTS) == digest
            except (zipfile.BadZipFile, OSError, EOFError):
                whole = False
            if not whole:
                raise DamagedVersion(f"version {number} is damaged in the store: load an earlier version")

    @contextmanager
    def _copying(self) -> Iterator[None]:
        """Keep other processes on the folder from changing its copies meanwhile; readers do not come to `alone`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{OWNER}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _claim(self) -> None:
        """Make sure that the folder copies this store; give its versions to one that has none."""
        owner, key = self.folder / OWNER, self._key()
        with suppress(FileNotFoundError):
            if owner.read_text(encoding="utf-8") == key:
                return
        if super().numbers():
            if self._published().newest():
                raise InputError(
                    f"{self.folder} holds versions of another store: name an empty folder for the state, or move them"
                )
            for number in super().numbers():
                with suppress(DamagedVersion):
                    self._give(number, super().open(number))
        with staged(owner) as (file,):
            file.write_text(key, encoding="utf-8")


def _packed(folder: Path) -> bytes:
    """Return a folder's files as one archive."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return packed.getvalue()


def lies_in(address: str, folder: Path) -> bool:
    """Tell whether a store is a file of SQLite in a folder, which whoever uses the one shares with the other."""
    try:
        url = make_url(address)
    except ArgumentError:
        return True  # whoever opens it is told
    return (
        url.get_backend_name() == "sqlite"
        and bool(url.database)
        and Path(str(url.database)).resolve().parent == folder.resolve()
    )
