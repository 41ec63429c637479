"""The one exception for input that the user can mend, which names are accepted, and how both are shown."""

import errno
import re

LONGEST_MESSAGE = 2_000
LONGEST_NAME = 200
"""Characters, both."""
# Control characters, other line breaks, marks that turn the reading direction, halves of surrogate pairs.
_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

_NO_MEMORY = re.compile("can't allocate memory|cannot allocate memory|failed to map segment|std::bad_alloc", re.I)


class InputError(ValueError):
    """Bad input, told in one message that names the file, the row or key and the fix.

    A stage prints the message alone, without a traceback, and exits with status 1.
    """


def require_name(name: str, what: str) -> None:
    """Make sure that something can be called by a name in tables, pages, metrics and on the command line.

    Letters of any alphabet, signs, quotes and slashes are welcome: whatever shows a name escapes it.

    Parameters
    ----------
    name
        As it was given.
    what
        What it names, for the message: ``LLM``, ``policy``.

    Raises
    ------
    InputError
        Nothing of it can be seen, it is too long, has blanks around it, or line breaks or control characters.
    """
    fault = None
    if not any(sign.isprintable() and not sign.isspace() for sign in name):
        fault = "nothing of it can be seen"
    elif name != name.strip():
        fault = "it begins or ends with a blank"
    elif _ACTIVE.search(name):
        fault = "it holds a line break or another control character"
    elif len(name) > LONGEST_NAME:
        fault = f"it has more than {LONGEST_NAME} characters"
    if fault:
        raise InputError(f"{quoted(name)} cannot be the name of {what}: {fault}; choose another name")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out.

    torch says so in an error of no class of its own; a library that could not be loaded for lack of memory says that it
    cannot be imported, and others say that they are broken then, with that error as the cause.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or getattr(seen, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(seen, RuntimeError | ImportError) and _NO_MEMORY.search(str(seen)):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def no_memory(error: BaseException) -> str:
    """Return the message for lack of memory."""
    return f"not enough memory ({error or type(error).__name__}): free some, or make the data or the model smaller"


def quoted(value: object, longest: int = 80) -> str:
    """Return a value in quotes on one line, control characters escaped and the middle of a long one left out."""
    return repr(_shortened(value, longest) if isinstance(value, str) else value)


def one_line(text: object, longest: int = LONGEST_MESSAGE) -> str:
    """Return a message on one line that any terminal can show: no line breaks and no control characters."""
    return printable(_shortened(" ".join(str(text).split()), longest))


def printable(text: str) -> str:
    r"""Return a text in which characters that do something to a terminal are escaped, as ``\x1b``."""
    return text if text.isprintable() else _ACTIVE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... {text[-half:]} ({len(text):,} characters)"
