"""What the loop has told of already, so that it tells each thing once: ``.dvc/tmp/watch.json``."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from symbiosis.core.artifacts import read_json, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import EXPORTS
from symbiosis.core.serving import LINKS, Kind, current

FILE = Path(".dvc/tmp/watch.json")
ARRIVALS = Path("data/local")
UNTOLD = "untold"
"""Digest of no files: what is there now has still to be told of."""


class Memory(BaseModel):
    """What was told.

    Attributes
    ----------
    files
        Digest of the files below data/local that was told of last, or that was there at the first look.
    seen
        The digest at the last look: files are told of when they have stayed the same between two looks.
    alarms
        When each check of drift was told to ring, seconds since the epoch.
    champions
        Digest of each model that serves.
    """

    model_config = ConfigDict(extra="ignore")

    files: str | None = None
    seen: str | None = None
    alarms: dict[str, float] = {}
    champions: dict[Kind, str | None] = {}

    def data_arrived(self, root: Path) -> bool:
        """Look at data/local: tell whether files are new or changed, and complete."""
        now = digest_of_files(root / ARRIVALS, root / EXPORTS)
        if self.files is None:
            self.files = now
        arrived = now != self.files and now == self.seen
        self.seen = now
        if arrived:
            self.files = now
        return arrived

    def new_alarms(self, alarms: list[str], now: float, window_s: float) -> list[str]:
        """Return the checks that ring and were not told of within a window, and remember them."""
        new = [name for name in alarms if now - self.alarms.get(name, -window_s) >= window_s]
        self.alarms |= dict.fromkeys(new, now)
        return new

    def changed_champions(self, root: Path) -> list[Kind]:
        """Return the models that another version serves of than was told, and remember these."""
        serving: dict[Kind, str | None] = {}
        for kind in LINKS:
            folder = current(kind, root)
            serving[kind] = None if folder is None else folder.name
        changed = [kind for kind, digest in serving.items() if digest not in (None, self.champions.get(kind))]
        self.champions |= serving
        return changed


@contextmanager
def remembered(root: Path) -> Iterator[Memory]:
    """Read what was told, and keep what is added; other processes wait. A damaged file is begun anew."""
    file = root / FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            memory = Memory.model_validate(read_json(file)) if file.is_file() else Memory()
        except (InputError, ValidationError):
            memory = Memory()
        yield memory
        with staged(file) as (draft,):
            write_json(draft, memory.model_dump())


def digest_of_files(folder: Path, without: Path) -> str:
    """Digest of names, sizes and times of all files below a folder, linked folders included, but for one folder."""
    found = []
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and Path(place, name) != without)
        for name in sorted(names):
            try:
                told = Path(place, name).stat()
            except OSError:  # a link to nothing, or gone since
                continue
            found.append(f"{Path(place, name).relative_to(folder)}\0{told.st_size}\0{told.st_mtime_ns}")
    return hashlib.sha256("\n".join(found).encode("utf-8", "surrogateescape")).hexdigest()
