"""Text files as users have them, by one rule: what is text is read, what is none is named with its line and the fix.

Read are UTF-8 with or without a byte-order mark, UTF-16 and UTF-32 with one, lines that end in LF or CRLF, a last line
without an end, and any of these in gzip, which the content tells and not the name, in one member or several. Blank
lines are no records. Refused are other encodings, NUL characters, and gzip that is cut short or damaged.
"""

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from symbiosis.core.errors import InputError

LONGEST_LINE = 4 << 20
"""Bytes."""
_BLOCK = 1 << 20
_MARK = codecs.BOM_UTF8
_WIDE = {  # UTF-32 first: its mark begins with that of UTF-16
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)
NOT_UTF8 = "not UTF-8"
ENCODE = "save the file as UTF-8"


def is_gzip(path: Path) -> bool:
    """Tell by the first two bytes whether a file is gzip."""
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"


def verify(path: Path, name: str) -> None:
    """Read a file to its end, so that gzip that was cut short or damaged is found before it is used.

    Parameters
    ----------
    path
        The file.
    name
        What to call it in the error: the address or path that the user knows.

    Raises
    ------
    InputError
        It is missing, a folder, or no whole gzip file.
    """
    with _translated(name), _open(path) as handle:
        while handle.read(_BLOCK):
            pass


def read_lines(path: Path, maximum: int = LONGEST_LINE) -> Iterator[tuple[int, bytes | None]]:
    """Yield line numbers from 1 and lines, in little memory whatever the file holds; blank lines are passed over.

    Parameters
    ----------
    path
        A text file, gzip or not.
    maximum
        Bytes; a longer line is yielded as None.

    Yields
    ------
    (int, bytes or None)
        A line without its end and without a byte-order mark. A file without a mark of UTF-16 or UTF-32 is taken to be
        UTF-8 but not checked: so that a reader can set single lines aside, `decode` does that line by line.

    Raises
    ------
    InputError
        The file is missing, damaged gzip, or breaks off in the middle of a character of UTF-16 or UTF-32.
    """
    with _translated(str(path)), _open(path) as handle:
        encoding = _encoding(handle)
        lines = _lines(handle, maximum) if encoding is None else _wide_lines(path, handle, encoding, maximum)
        for number, line in enumerate(lines, start=1):
            if line is None:
                yield number, None
                continue
            line = line.removeprefix(_MARK).rstrip(b"\r\n")  # files that were put together have several marks
            if line and not line.isspace():
                yield number, line


def decode(line: bytes) -> str:
    """Return a line as text.

    Raises
    ------
    ValueError
        It is not UTF-8 or holds a NUL character; the message says which.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(NOT_UTF8) from None
    if "\0" in text:
        raise ValueError("a NUL character")
    return text


def mended(text: str) -> str:
    """Return a text with question marks for halves of surrogate pairs, which JSON can write but no file hold."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def read_text(path: Path) -> str:
    """Read a whole file as text, its line ends kept.

    Raises
    ------
    InputError
        The file is missing or damaged, or some line is no text; the message names it and the fix.
    """
    with _translated(str(path)), _open(path) as handle:
        content = handle.read()
    return decoded(content, str(path))


def decoded(content: bytes, name: str) -> str:
    """Return the content of a file or of standard input as text, its line ends kept.

    Raises
    ------
    InputError
        Some line is no text; the message names it and the fix.
    """
    encoding = next((encoding for mark, encoding in _WIDE.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_at(content, error.start, encoding)
        raise InputError(f"{name}: line {line:,} is not {encoding.upper()}: {ENCODE}") from None
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise InputError(f"{name}: line {line:,} holds a NUL character: take it out, or export the file again")
    text = text.removeprefix("\ufeff")
    return text.replace("\n\ufeff", "\n")


def _line_at(content: bytes, place: int, encoding: str) -> int:
    return content[:place].decode(encoding, "replace").count("\n") + 1


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path) if is_gzip(path) else path.open("rb"))


def _encoding(handle: BinaryIO) -> str | None:
    """Return the encoding that a mark at the file's beginning names, None if there is none or it is UTF-8's."""
    start = handle.read(4)
    handle.seek(0)
    return next((encoding for mark, encoding in _WIDE.items() if start.startswith(mark)), None)


def _lines(handle: BinaryIO, maximum: int) -> Iterator[bytes | None]:
    while line := handle.readline(maximum + 1):
        if len(line) <= maximum:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = handle.readline(_BLOCK)
        yield None


def _wide_lines(path: Path, handle: BinaryIO, encoding: str, maximum: int) -> Iterator[bytes | None]:
    number = 0
    try:
        with io.TextIOWrapper(handle, encoding, newline="\n") as text:
            while line := text.readline(maximum + 1):
                number += 1
                if len(line) <= maximum:
                    yield line.encode("utf-8")
                    continue
                while line and not line.endswith("\n"):
                    line = text.readline(_BLOCK)
                yield None
    except UnicodeError:
        raise InputError(f"{path}: line {number + 1:,} or near it is not {encoding.upper()}: {ENCODE}") from None


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn what a file may raise into one line."""
    try:
        yield
    except _DAMAGED as error:
        raise InputError(f"{name} is no whole gzip file ({error}): delete it and get it again") from None
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise InputError(f"{name} cannot be read ({error.strerror}): name another file") from None
