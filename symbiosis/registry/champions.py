"""Promote, take back and fetch what serves: an alias in the registry is the record, a link names the copy that serves.

A move is written down before the alias moves and struck out when the link has followed: a process that dies on the way
is finished by the next call, and never leaves half a copy.
"""

import fcntl
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from symbiosis.core.artifacts import remove_left, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.serving import LINKS, Kind, current, serving_folder
from symbiosis.core.text_files import mended
from symbiosis.registry.bundles import VERSION, of_folder
from symbiosis.registry.versions import (
    CANDIDATE,
    CHAMPION,
    FORCED_AT,
    FORCED_BECAUSE,
    FORMER,
    PROMOTED_AT,
    ROLLED_BACK_AT,
    RegisteredVersion,
    Registry,
    now,
)

__all__ = [
    "Change",
    "candidate",
    "champion",
    "current",
    "history",
    "local_copy",
    "promote",
    "pull",
    "rollback",
    "serving_folder",
]

Action = Literal["promote", "force", "rollback", "pull"]
HISTORY, PENDING, VERSIONS = "history.jsonl", "pending.json", "versions"


@with_config(ConfigDict(extra="forbid", strict=True))
@dataclass(frozen=True)
class Change:
    """A move of a champion, as the history keeps it.

    Attributes
    ----------
    kind
        Which model.
    action
        What was asked for.
    version, digest
        Of the champion from then on.
    former
        The version before, None if there was none.
    at
        UTC, ISO 8601.
    because
        Why it was forced.
    moved
        Whether anything moved: false if the version was the champion already.
    """

    kind: Kind
    action: Action
    version: int
    digest: str
    former: int | None
    at: str
    because: str | None = None
    moved: bool = True


_CHANGE = TypeAdapter(Change)


def candidate(kind: Kind, root: Path | str = Path(), registry: Registry | None = None) -> RegisteredVersion | None:
    """Return the version that waits to be judged, None if nothing was registered; it may be the champion itself."""
    return (registry or Registry(root)).aliased(kind, CANDIDATE)


def champion(kind: Kind, root: Path | str = Path(), registry: Registry | None = None) -> RegisteredVersion | None:
    """Return the promoted version, None if there is none; a move that was cut short is finished first."""
    registry = registry or Registry(root)
    if _pending(kind, root).is_file():
        with _alone(kind, root):
            _finish(kind, root, registry)
    return registry.aliased(kind, CHAMPION)


def local_copy(version: RegisteredVersion, root: Path | str = Path(), registry: Registry | None = None) -> Path:
    """Return the folder of a version's bundle on this machine, fetched if it is not there or is damaged.

    Raises
    ------
    InputError
        MLflow cannot be reached, or what it holds is damaged; nothing is left behind.
    """
    folder = _place(version.kind, root) / VERSIONS / version.digest
    if _is_whole(folder, version):
        return folder
    registry = registry or Registry(root)
    with staged(folder) as (whole,):
        download = whole.with_name("download")
        download.mkdir()
        found = registry.download(version, download)
        digest = of_folder(version.kind, found).digest
        if digest != version.digest:
            raise InputError(
                f"version {version.version} of {version.name} is damaged in MLflow (its files have the digest {digest} "
                f"instead of {version.digest}): nothing was changed; delete the version there and register it anew by "
                "`python -m symbiosis.registry`"
            )
        found.replace(whole)
        write_json(whole / VERSION, {"name": version.name, "version": version.version, "digest": digest})
    return folder


def promote(
    kind: Kind,
    number: int,
    *,
    forced: str | None = None,
    root: Path | str = Path(),
    registry: Registry | None = None,
) -> Change:
    """Make a version the champion: here it serves from now on.

    Nothing is judged here, see `symbiosis.registry.gate`.

    Parameters
    ----------
    kind, number
        Which model, and which version of it.
    forced
        Why it is promoted whatever the gate says; kept in the registry and in the history.
    root, registry
        The top of the repository, and its registry if it is open.

    Raises
    ------
    InputError
        There is no such version, it is damaged, or MLflow cannot be reached: nothing is changed.
    """
    registry = registry or Registry(root)
    with _alone(kind, root):
        finished = _finish(kind, root, registry)
        if finished is not None and (finished.action, finished.version) == ("force" if forced else "promote", number):
            return finished
        version = registry.version(kind, number)
        former = registry.aliased(kind, CHAMPION)
        change = Change(
            kind,
            "promote" if forced is None else "force",
            number,
            version.digest,
            former.version if former else None,
            now(),
            forced,
        )
        if former is not None and former.version == number:
            _serve(version, root, registry)
            return replace(change, moved=False)
        local_copy(version, root, registry)
        registry.tag(version, {FORMER: None if former is None else str(former.version)})
        return _move(change, root, registry)


def rollback(kind: Kind, root: Path | str = Path(), registry: Registry | None = None) -> Change:
    """Make the champion's predecessor the champion again.

    Raises
    ------
    InputError
        There is none, its files are damaged, or MLflow cannot be reached: nothing is changed.
    """
    registry = registry or Registry(root)
    with _alone(kind, root):
        finished = _finish(kind, root, registry)
        if finished is not None and finished.action == "rollback":
            return finished
        present = registry.aliased(kind, CHAMPION)
        if present is None or present.former is None:
            raise InputError(f"there is no {kind} to go back to: no champion came before the present one")
        earlier = registry.version(kind, present.former)
        local_copy(earlier, root, registry)
        change = Change(kind, "rollback", earlier.version, earlier.digest, present.version, now())
        return _move(change, root, registry)


def pull(kind: Kind, root: Path | str = Path(), registry: Registry | None = None) -> Change | None:
    """Let the registry's champion serve here, fetched if need be; None if there is no champion.

    Raises
    ------
    InputError
        MLflow cannot be reached, or what it holds is damaged: what served goes on.
    """
    registry = registry or Registry(root)
    with _alone(kind, root):
        _finish(kind, root, registry)
        found = registry.aliased(kind, CHAMPION)
        return None if found is None else _serve(found, root, registry)


def history(kind: Kind, root: Path | str = Path()) -> list[Change]:
    """Return the moves of this machine's champion, the oldest first; asks no registry."""
    file = _place(kind, root) / HISTORY
    if not file.is_file():
        return []
    lines = file.read_bytes().split(b"\n")
    return [change for line in lines if (change := _change_of(record_of(line))) is not None]


def record_of(content: bytes) -> dict[str, Any] | None:
    """Return the JSON object that a file or a line holds, NaN as null; None if it is none, or only half of it."""
    try:
        told = json.loads(content, parse_constant=lambda _: None, parse_float=_finite)
        sound = json.loads(mended(json.dumps(told, ensure_ascii=False)))  # halves of surrogate pairs go nowhere
    except (ValueError, RecursionError):
        return None
    return sound if isinstance(sound, dict) else None


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _change_of(told: dict[str, Any] | None) -> Change | None:
    try:
        return None if told is None else _CHANGE.validate_json(json.dumps(told))
    except ValidationError:
        return None


def _place(kind: Kind, root: Path | str) -> Path:
    return (Path(root) / LINKS[kind]).parent


def _pending(kind: Kind, root: Path | str) -> Path:
    return _place(kind, root) / PENDING


@contextmanager
def _alone(kind: Kind, root: Path | str) -> Iterator[None]:
    """Keep other processes of this machine from moving the champion meanwhile.

    Raises
    ------
    InputError
        The folder cannot be written to.
    """
    place = _place(kind, root)
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = (place / ".lock").open("w")
    except OSError as error:
        raise InputError(f"{place} cannot be written to ({error.strerror}): make it writable") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_whole(folder: Path, version: RegisteredVersion) -> bool:
    return (folder / VERSION).is_file() and of_folder(version.kind, folder).digest == version.digest


def _serve(version: RegisteredVersion, root: Path | str, registry: Registry) -> Change:
    """Let a version serve here that the registry calls champion."""
    folder = local_copy(version, root, registry)
    before = current(version.kind, root)
    former = _told(before).get("version") if before is not None else None
    change = Change(version.kind, "pull", version.version, version.digest, former, now())
    if before is not None and before == folder:
        return replace(change, moved=False)
    _link(version.kind, version.digest, root)
    _remember(change, root)
    _clear_up(version.kind, root, registry)
    return change


def _move(change: Change, root: Path | str, registry: Registry) -> Change:
    """Move the alias, then what serves; the copy is there."""
    pending = _pending(change.kind, root)
    with staged(pending) as (file,):
        write_json(file, asdict(change))
    registry.set_alias(registry.version(change.kind, change.version), CHAMPION)
    return _complete(change, root, registry)


def _finish(kind: Kind, root: Path | str, registry: Registry) -> Change | None:
    """Finish a move that was cut short, or forget it if the alias has not moved; return what was finished."""
    pending = _pending(kind, root)
    if not pending.is_file():
        return None
    change = _change_of(record_of(pending.read_bytes()))
    if change is None:
        raise InputError(f"{pending} is damaged: delete it, and run `symbiosis models pull {kind}`")
    if registry.aliases(kind).get(CHAMPION) == change.version:
        return _complete(change, root, registry)
    pending.unlink()
    return None


def _complete(change: Change, root: Path | str, registry: Registry) -> Change:
    """Do what follows when the alias has moved; each step may have been done before."""
    version = registry.version(change.kind, change.version)
    local_copy(version, root, registry)
    _link(change.kind, change.digest, root)
    if change.action == "rollback":
        assert change.former is not None
        registry.tag(registry.version(change.kind, change.former), {ROLLED_BACK_AT: change.at})
    else:
        forced = {FORCED_AT: change.at, FORCED_BECAUSE: change.because} if change.because else {}
        registry.tag(version, {PROMOTED_AT: change.at, ROLLED_BACK_AT: None, **forced})
    _remember(change, root)
    _pending(change.kind, root).unlink(missing_ok=True)
    _clear_up(change.kind, root, registry)
    return change


def _link(kind: Kind, digest: str, root: Path | str) -> None:
    """Let the link name another copy, in one step."""
    link = Path(root) / LINKS[kind]
    draft = link.with_name(f".{link.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(Path(VERSIONS, digest))
    draft.replace(link)


def _remember(change: Change, root: Path | str) -> None:
    """Add a line to the history, once."""
    known = history(change.kind, root)
    if known and known[-1] == change:
        return
    # Written anew, not added to: a disk that is full in the middle of a line would leave half of it.
    with staged(_place(change.kind, root) / HISTORY) as (file,):
        lines = [json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in (*known, change)]
        file.write_text("".join(lines), encoding="utf-8")


def _clear_up(kind: Kind, root: Path | str, registry: Registry) -> None:
    """Remove the copies of other versions than candidate, champion and its predecessor, and unfinished ones."""
    versions, aliases = {one.version: one for one in registry.versions(kind)}, registry.aliases(kind)
    kept = [versions[number] for number in aliases.values()]
    former = [versions[one.former] for one in kept if one.former in versions]
    digests = {one.digest for one in (*kept, *former)}
    place = _place(kind, root) / VERSIONS
    remove_left(place)
    for folder in place.iterdir():
        if folder.name not in digests and not folder.name.startswith("."):
            shutil.rmtree(folder, ignore_errors=True)


def _told(copy: Path) -> dict[str, Any]:
    """Return what a local copy says of itself."""
    return (record_of((copy / VERSION).read_bytes()) if (copy / VERSION).is_file() else None) or {}
