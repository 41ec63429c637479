"""Versions of a state on disk: each one a folder that is written whole or not at all, the last few of them kept."""

import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from symbiosis.core.artifacts import read_json, sha256_of, staged, write_json
from symbiosis.core.errors import InputError

DIGESTS = "digests.json"
DAY_S = 86_400
_NAME = re.compile(r"v(\d{8})")
_UNFINISHED = re.compile(r"\.v\d{8}\..*")


class DamagedVersion(InputError):  # noqa: N818
    """A file of a version is missing or damaged."""


class Versions:
    """Versions ``v00000001``, ``v00000002``, ... in a folder. One process may write at a time.

    Parameters
    ----------
    folder
        Made at the first save.
    keep
        How many versions stay, at least 1.
    days
        Beside them, the last one of each of so many days stays: a gateway saves many a minute.
    """

    def __init__(self, folder: Path | str, keep: int = 3, days: int = 0) -> None:
        if keep < 1:
            raise InputError(f"{folder}: {keep} versions are to be kept: keep at least 1")
        self.folder, self.keep, self.days = Path(folder), keep, days

    def numbers(self) -> list[int]:
        """Return the numbers of the versions on disk, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self.folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def newest(self) -> int:
        """Return the number of the newest version, 0 if there is none."""
        return max(self.numbers(), default=0)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Save within this context: where versions lie elsewhere, too, others cannot write them there meanwhile."""
        yield

    def save(self, write: Callable[[Path], None], number: int | None = None) -> int:
        """Write a new version, then delete the oldest beyond those kept.

        A process killed meanwhile leaves the earlier versions and perhaps an unfinished hidden folder, which the next
        save removes.

        Parameters
        ----------
        write
            Fills the folder that it is given.
        number
            Writes this version anew; None: the next one.

        Returns
        -------
        int
            The version's number.
        """
        number = self.newest() + 1 if number is None else number
        with staged(self._path(number)) as (folder,):
            self._fill(folder, write)
        numbers = self.numbers()
        self._sweep(self._outdated({old: int(self._path(old).stat().st_mtime // DAY_S) for old in numbers}))
        return number

    @staticmethod
    def _fill(folder: Path, write: Callable[[Path], None]) -> None:
        folder.mkdir()
        write(folder)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        write_json(folder / DIGESTS, {path.relative_to(folder).as_posix(): sha256_of(path) for path in files})

    def _sweep(self, outdated: Collection[int]) -> None:
        """Delete versions of the folder, and what killed processes have left of others."""
        for path in self.folder.iterdir():
            if _UNFINISHED.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
        for old in outdated:
            # Hidden first: a reader never sees half a version.
            hidden = self.folder / f".{self._path(old).name}.old"
            self._path(old).rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)

    def open(self, version: int | None = None) -> Path:
        """Return the folder of a version after making sure that it is whole.

        Parameters
        ----------
        version
            Its number; None: the newest.

        Raises
        ------
        InputError
            There is none. `DamagedVersion` if a file of it is missing or damaged: the message names the version before,
            if there is one.
        """
        return self._open(version, self.numbers())

    def _open(self, version: int | None, numbers: list[int]) -> Path:
        if not numbers:
            raise InputError(f"{self.folder} holds no saved state: save one first")
        number = numbers[-1] if version is None else version
        if number not in numbers:
            raise InputError(f"{self.folder} has no version {number}: there are {', '.join(map(str, numbers))}")
        path = self._path(number)
        earlier = [other for other in numbers if other < number]
        remedy = (
            f"load version {earlier[-1]}"
            if earlier
            else "restore it from a copy, or start anew by `symbiosis adopt`; there is no earlier version"
        )
        if not (path / DIGESTS).is_file():
            raise DamagedVersion(f"{path / DIGESTS} is missing: {remedy}")
        try:
            digests = read_json(path / DIGESTS)
        except InputError:
            raise DamagedVersion(f"{path / DIGESTS} is damaged: {remedy}") from None
        if not isinstance(digests, dict):
            raise DamagedVersion(f"{path / DIGESTS} is damaged: {remedy}")
        for name, digest in digests.items():
            if not (path / name).is_file() or sha256_of(path / name) != digest:
                raise DamagedVersion(f"{path / name} is missing or damaged (its digest differs): {remedy}")
        return path

    def whole(self) -> list[int]:
        """Return the numbers of the versions that are whole, oldest first."""
        return [number for number in self.numbers() if self._is_whole(number)]

    def _is_whole(self, number: int) -> bool:
        try:
            self._open(number, [number])
        except DamagedVersion:
            return False
        return True

    def _outdated(self, days: Mapping[int, int]) -> list[int]:
        """Return the numbers of the versions that need not stay, given the day of each."""
        old = sorted(days)[: -self.keep]
        last = {days[number]: number for number in old}
        newest = max((days[number] for number in old), default=0)
        return [number for number in old if last[days[number]] != number or days[number] <= newest - self.days]

    def _path(self, number: int) -> Path:
        return self.folder / f"v{number:08d}"
