"""The raw files: which they are, whether they are whole, and their lines one by one."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from symbiosis.core.errors import InputError

REVIEWS = "reviews.json.gz"
METADATA = "metadata.json.gz"  # absent where the source has none
MANIFEST = "manifest.json"

MAXIMUM_LINE_BYTES = 4 << 20  # the longest line of the official files has a few hundred kilobytes
_BLOCK = 1 << 20
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


def verify_gzip(path: Path, name: str) -> None:
    """Read a gzip file to its end, so that a file cut short or damaged is found before it is used.

    Parameters
    ----------
    path
        The file.
    name
        What to call it in the error: the address or path that the user knows.

    Raises
    ------
    InputError
        The file is not gzip, is cut short or fails its checksum.
    """
    try:
        with gzip.open(path) as handle:
            while handle.read(_BLOCK):
                pass
    except _DAMAGED as error:
        raise InputError(f"{name} is no whole gzip file ({error}): delete it and get it again") from None


def read_lines(path: Path, maximum: int = MAXIMUM_LINE_BYTES) -> Iterator[tuple[int, bytes | None]]:
    """Yield line numbers from 1 and lines of a gzip file, in little memory whatever the file holds.

    Parameters
    ----------
    path
        A gzip file.
    maximum
        Bytes; a longer line is passed over and yielded as None.

    Raises
    ------
    InputError
        The file is not gzip, is cut short or fails its checksum.
    """
    try:
        with gzip.open(path) as handle:
            number = 0
            while line := handle.readline(maximum + 1):
                number += 1
                if len(line) <= maximum:
                    yield number, line
                    continue
                while line and not line.endswith(b"\n"):
                    line = handle.readline(_BLOCK)
                yield number, None
    except _DAMAGED as error:
        raise InputError(f"{path} is no whole gzip file ({error}): run the stage `download` again") from None
