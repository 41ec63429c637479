"""Write artefacts whole or not at all, and read them with clear errors."""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import polars as pl

from symbiosis.core.errors import InputError

_LEFT = re.compile("[a-z0-9_]{8}")
"""How names of temporary folders end."""
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def staged(*targets: Path | str) -> Iterator[tuple[Path, ...]]:
    """Yield one temporary path per target and move all of them into place if the block succeeds.

    The temporary paths lie beside their targets, so that the move is a rename. A target may become a file or a
    folder: whichever the block creates. If the block fails, the targets stay as they were and nothing is left behind.

    Parameters
    ----------
    *targets
        Final paths. Their parent folders are created.

    Raises
    ------
    InputError
        The disk is full, a quota or file size limit is reached, or the folder of a target cannot be written to.
    """
    finals = [Path(target) for target in targets]
    with ExitStack() as held:
        folders = [held.enter_context(scratch(final)) for final in finals]
        yield from _written(finals, folders)


def _written(finals: Sequence[Path], folders: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    try:
        temporary = [folder / final.name for folder, final in zip(folders, finals, strict=True)]
        yield tuple(temporary)
        missing = [str(final) for path, final in zip(temporary, finals, strict=True) if not path.exists()]
        if missing:
            raise RuntimeError(f"the stage finished without writing {', '.join(missing)}")
        for path in temporary:
            _flush(path)
        for path, final in zip(temporary, finals, strict=True):
            _put(path, final)
    except Exception as error:
        if (number := _os_error(error)) in _NO_ROOM:
            names = ", ".join(map(str, finals))
            raise InputError(
                f"no room left while writing {names} ({os.strerror(number)}): nothing was written; "
                "free some disk space and run again"
            ) from error
        raise


def _put(path: Path, final: Path) -> None:
    """Move a file or folder into place; a folder there gives way in one step, however much it holds."""
    old = path.with_name(f"{path.name}.old")
    if final.is_dir() and not final.is_symlink():
        final.replace(old)
    try:
        path.replace(final)
    except OSError:
        if old.exists():
            old.replace(final)
        raise


@contextmanager
def scratch(final: Path) -> Iterator[Path]:
    """Yield a temporary folder beside a path, and remove it and what killed processes have left of such folders.

    A folder is locked as long as its process lives.

    Parameters
    ----------
    final
        Gives the folder its place and its name; nothing need ever lie there.

    Raises
    ------
    InputError
        It cannot be made.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        remove_left(final.parent, final.name)
    except OSError as error:
        raise InputError(f"{final} cannot be written ({error.strerror}): {_remedy(error)}") from error
    with ExitStack() as held:
        folder = _own_folder(final, held)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_left(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes have left of `staged` in a folder; what a living one uses is locked.

    Whoever writes the same target again does so; for those that nobody writes again, call this.

    Parameters
    ----------
    folder
        Where the targets lie.
    name
        Of one target; None: all.
    """
    # Not by `glob`, which remembers every pattern: a server saves many versions, each with a name of its own.
    for left in list(folder.iterdir()) if folder.is_dir() else ():
        start, _, end = left.name.rpartition(".")
        if start.startswith(".") and _LEFT.fullmatch(end) and name in (None, start[1:]):
            with suppress(OSError), _locked(left):
                shutil.rmtree(left)


def _own_folder(final: Path, held: ExitStack) -> Path:
    """Make a temporary folder beside a path, and lock it for as long as `held`.

    Between the two another process may take it for one that was left behind: then another one is made.
    """
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        except OSError as error:
            raise InputError(f"{final} cannot be written ({error.strerror}): {_remedy(error)}") from error
        with ExitStack() as attempt, suppress(BlockingIOError, FileNotFoundError):
            attempt.enter_context(_locked(folder))
            if folder.is_dir():
                held.enter_context(attempt.pop_all())
                return folder


def _remedy(error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return "free some disk space and run again"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where a folder must be; name another place, or move the file"
    return "make its folder writable, or work in a copy"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder.

    Raises
    ------
    OSError
        Another process holds it, or it is gone.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _os_error(error: Exception) -> int:
    """Return the operating system's error number, 0 if there is none.

    Libraries written in Rust (polars, safetensors) raise exceptions of their own and tell the number in the message;
    numpy tells only that it could not write all, and polars that the end of a parquet file could not be written.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if re.search(r"\d+ requested and \d+ written|Invalid thrift: transport error", str(error)):
        return errno.ENOSPC
    told = re.search(r"\(os error (\d+)\)", str(error))
    return int(told[1]) if told else 0


def _flush(path: Path) -> None:
    """Force a file, or every file of a folder, to the disk, so that a rename never outlives its contents."""
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        with file.open("rb") as handle:
            os.fsync(handle.fileno())


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON in a fixed layout: keys in the given order, two spaces, one final newline, no NaN."""
    Path(path).write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path | str) -> Any:
    """Read a JSON artefact.

    Raises
    ------
    InputError
        The file is missing or is not JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to make it") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}): delete it and run `dvc repro`") from None


def read_array(path: Path | str, *, mmap: bool = False) -> np.ndarray:
    """Read a ``.npy`` artefact, memory-mapped and read-only if asked; never unpickles.

    Raises
    ------
    InputError
        The file is missing, cut short or not an array.
    """
    try:
        array: np.ndarray = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to make it") from None
    except (PermissionError, NotADirectoryError, IsADirectoryError) as error:
        raise _unreadable(path, error) from None
    except (ValueError, EOFError, OSError, SyntaxError, TokenError) as error:  # the last two: of its header
        raise InputError(f"{path} is damaged ({error}): delete it and run `dvc repro`") from None
    return array


def read_frame(path: Path | str, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Read a parquet artefact, all columns or some.

    Raises
    ------
    InputError
        The file is missing or damaged, or lacks a column.
    """
    with _of_frame(path):
        return pl.read_parquet(path, columns=None if columns is None else list(columns), glob=False)


def read_frames(path: Path | str, columns: Sequence[str], rows: int = 1 << 18) -> Iterator[pl.DataFrame]:
    """Read columns of a parquet artefact in blocks of so many rows.

    Raises
    ------
    InputError
        As from `read_frame`.
    """
    with _of_frame(path):
        whole = pl.scan_parquet(path, glob=False).select(columns)
        height = int(whole.select(pl.len()).collect().item())
    for start in range(0, height, rows):
        with _of_frame(path):
            block = whole.slice(start, rows).collect()
        yield block


@contextmanager
def _of_frame(path: Path | str) -> Iterator[None]:
    try:
        Path(path).stat()  # polars tells neither a missing file nor a folder that is a file apart from damage
        yield
    except FileNotFoundError:
        raise InputError(f"{path} is missing: run `dvc repro` to make it") from None
    except (PermissionError, NotADirectoryError) as error:
        raise _unreadable(path, error) from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is damaged ({reason}): delete it and run `dvc repro`") from None


class FrameFile:
    """A parquet file that is written from blocks of rows: from one block it is what `write_parquet` makes of it.

    Parameters
    ----------
    path
        Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pieces: list[Path] = []

    def add(self, rows: pl.DataFrame) -> None:
        """Append a block; large ones make a better file."""
        self._pieces.append(self.path.with_name(f"{self.path.name}.{len(self._pieces):06d}"))
        rows.write_parquet(self._pieces[-1])

    def close(self) -> None:
        """Put the file together."""
        if len(self._pieces) == 1:
            self._pieces[0].rename(self.path)
            return
        pl.scan_parquet(self._pieces, glob=False).sink_parquet(self.path)
        for piece in self._pieces:
            piece.unlink()


def _unreadable(path: Path | str, error: OSError) -> InputError:
    remedy = "change its permissions" if isinstance(error, PermissionError) else "name another place"
    return InputError(f"{path} cannot be read ({error.strerror}): {remedy}")


def sha256_of(path: Path | str) -> str:
    """SHA-256 of a file, or of a folder's relative file names and contents, in hexadecimal."""
    path = Path(path)
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        if file != path:
            digest.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
