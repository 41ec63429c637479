"""Ways to ask the same thing in another form, so that it can be measured how often a router changes its mind.

All are deterministic. None changes what is asked; a router whose choice depends on them routes by form (RouterArena,
arXiv 2510.00202, calls the share of unchanged choices robustness).
"""

import re
import zlib
from collections.abc import Callable

_WORD = re.compile(r"[A-Za-z]{5,}")
_ENDS = ".?!"
_PHRASES = {
    "what is": "what's",
    "what are": "which are",
    "how many": "what number of",
    "calculate": "compute",
    "find": "determine",
    "explain": "describe",
    "write": "compose",
    "which of the following": "which one of these",
    "do not": "don't",
    "cannot": "can't",
    "please": "kindly",
    "because": "since",
    "large": "big",
    "error": "fault",
}
_PHRASE = re.compile(r"\b(" + "|".join(re.escape(phrase) for phrase in _PHRASES) + r")\b", re.IGNORECASE)


def trailing_space(text: str) -> str:
    """Add a blank at the end."""
    return f"{text} "


def double_spaces(text: str) -> str:
    """Double every blank between words."""
    return text.replace(" ", "  ")


def line_ends(text: str) -> str:
    """Add an empty line before and after."""
    return f"\n{text}\n\n"


def lower_case(text: str) -> str:
    """Write it in small letters."""
    return text.lower()


def upper_case(text: str) -> str:
    """Write it in capitals."""
    return text.upper()


def end_mark(text: str) -> str:
    """Leave out the last full stop, question or exclamation mark, or add a full stop where there is none."""
    bare = text.rstrip()
    return bare.rstrip(_ENDS) if bare.endswith(tuple(_ENDS)) else f"{bare}."


def typing_error(text: str) -> str:
    """Swap two neighbouring letters inside one of the longer words."""
    words = list(_WORD.finditer(text))
    if not words:
        return text
    digest = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    word = words[digest % len(words)]
    place = word.start() + 1 + digest // len(words) % (len(word[0]) - 3)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def other_words(text: str) -> str:
    """Replace common phrases by others of the same meaning, or put a polite one in front where there is none."""
    said = _PHRASE.sub(lambda found: _PHRASES[found[0].lower()], text)
    return said if said != text else f"Could you help me with this? {text}"


def wrapper(text: str) -> str:
    """Put an instruction in front."""
    return f"Please answer the following question.\n\n{text}"


def polite_end(text: str) -> str:
    """Put thanks behind."""
    return f"{text}\n\nThank you very much!"


def german_wrapper(text: str) -> str:
    """Put an instruction in German in front."""
    return f"Bitte beantworte die folgende Frage:\n\n{text}"


def chinese_wrapper(text: str) -> str:
    """Put an instruction in Chinese in front."""
    return f"请回答以下问题：\n\n{text}"


PERTURBATIONS: dict[str, Callable[[str], str]] = {
    made.__name__: made
    for made in (
        trailing_space,
        double_spaces,
        line_ends,
        lower_case,
        upper_case,
        end_mark,
        typing_error,
        other_words,
        wrapper,
        polite_end,
        german_wrapper,
        chinese_wrapper,
    )
}
"""By name, from what nobody sees to what is another text."""

INVISIBLE = ("trailing_space", "double_spaces", "line_ends", "lower_case", "upper_case")
"""Blanks and case: they should never change a choice."""
