"""JSON read once, with the place of each member: so that one value can be replaced and every other byte stays.

Python's numbers would not survive a round trip (1.10, 1E5, 0.1 with twenty digits), so nothing is written anew.
"""

import json
import re
from collections.abc import Iterator
from json.scanner import make_scanner
from typing import Any, NamedTuple, NoReturn

MOST_KEYS = 1000
"""Of an object whose members' places are wanted: they are read one by one in Python."""


class Span(NamedTuple):
    """A value and where it stands in the text."""

    value: Any
    start: int
    end: int


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


_scan = make_scanner(json.JSONDecoder(parse_constant=_refuse))  # type: ignore[arg-type]  # the stub knows one class
_SPACE = re.compile(r"[ \t\n\r]*")


def members(text: str, start: int) -> tuple[dict[str, Span], int]:
    """Read an object that begins at a place.

    Parameters
    ----------
    text, start
        Where ``{`` stands.

    Returns
    -------
    (dict, int)
        The members by key in their order, and the place behind ``}``.

    Raises
    ------
    ValueError
        It is no JSON, a key comes twice, there are more than `MOST_KEYS`, or it is nested too deeply.
    """
    found: dict[str, Span] = {}
    place = _skip(text, start + 1)
    if text[place : place + 1] == "}":
        return found, place + 1
    while True:
        if text[place : place + 1] != '"':
            raise ValueError(f"a key in quotes is missing at character {place + 1}")
        key, _, place = _value(text, place)
        place = _skip(text, place)
        if text[place : place + 1] != ":":
            raise ValueError(f"a colon is missing at character {place + 1}")
        if key in found:
            raise ValueError(f"the key {key!r} is there twice")
        if len(found) == MOST_KEYS:
            raise ValueError(f"an object has more than {MOST_KEYS:,} keys")
        span = _value(text, _skip(text, place + 1))
        found[key] = span
        place = _skip(text, span.end)
        if text[place : place + 1] == "}":
            return found, place + 1
        place = _comma(text, place)


def elements(text: str, start: int) -> Iterator[Span]:
    """Yield the elements of an array that begins at a place and is known to be JSON."""
    place = _skip(text, start + 1)
    while text[place] != "]":
        span = _value(text, place)
        yield span
        place = _skip(text, span.end)
        if text[place] == ",":
            place = _skip(text, place + 1)


def document(text: str) -> dict[str, Span]:
    """Read a text that is one object.

    Raises
    ------
    ValueError
        It is no JSON, no object, holds more than that, a key of it comes twice, or it is nested too deeply.
    """
    start = _skip(text, 0)
    if text[start : start + 1] != "{":
        raise ValueError("it is no JSON object")
    found, end = members(text, start)
    end = _skip(text, end)
    if end != len(text):
        raise ValueError(f"there is more behind the object, from character {end + 1}")
    return found


def _value(text: str, place: int) -> Span:
    try:
        value, end = _scan(text, place)
    except StopIteration as stop:
        raise ValueError(f"a value is missing at character {stop.value + 1}") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg[0].lower()}{error.msg[1:]} at character {error.pos + 1}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return Span(value, place, end)


def _comma(text: str, place: int) -> int:
    if text[place : place + 1] != ",":
        raise ValueError(f"a comma is missing at character {place + 1}")
    return _skip(text, place + 1)


def _skip(text: str, place: int) -> int:
    """Return the first place from here that is no white space."""
    found = _SPACE.match(text, place)
    return place if found is None else found.end()
