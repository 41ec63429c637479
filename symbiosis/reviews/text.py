"""Plain text from what Amazon's pages left in the records: entities, tags, half tags, scripts, odd spaces."""

import html
import re

MAXIMUM_CATEGORY_CHARACTERS = 60

_TAG = re.compile(r"<[A-Za-z/!?][^<>]*>")
_CUT_TAG = re.compile(r"<[A-Za-z/!?][^<>]*$")  # a tag that the record's end cuts off
_NOT_A_TITLE = re.compile(r"/>|\bgetTime\(|\bfunction\s*\(|\bvar [A-Za-z_]+ ?=")  # the tail of a tag, or a script
_BY = re.compile(r"^by\s+(?=\S)")
_VISIT = re.compile(r"^Visit Amazon's (.+) Page$")


def plain(value: object) -> str | None:
    """Return a text without entities, tags and repeated spaces; None if nothing is left or it is no text.

    Entities are resolved twice, because the sources escape some texts twice (``&amp;amp;``). Halves of surrogate
    pairs, which no file can hold, become question marks.
    """
    if not isinstance(value, str):
        return None
    text = value
    if "&" in text:
        text = html.unescape(html.unescape(text))
    if "<" in text:
        text = _CUT_TAG.sub(" ", _TAG.sub(" ", text))
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(text.replace("\0", " ").split()) or None


def title(value: object) -> str | None:
    """Return an item's title, None where the record holds page code instead of one."""
    text = plain(value)
    return None if text is None or _NOT_A_TITLE.search(text) else text


def brand(value: object) -> str | None:
    """Return an item's brand without the page's wording around it (``by ...``, ``Visit Amazon's ... Page``)."""
    text = plain(value)
    if text is None:
        return None
    text = _VISIT.sub(r"\1", _BY.sub("", text))
    return None if text.lower() in {"unknown", "none", "n/a"} else text


def categories(value: object) -> list[str]:
    """Return an item's categories in their first order, each once.

    Parameters
    ----------
    value
        A list (2018) or a list of lists (2014). Entries that are sentences, which are product features on the wrong
        list, are left out.
    """
    flat = []
    for entry in value if isinstance(value, list) else []:
        flat += entry if isinstance(entry, list) else [entry]
    named = (plain(entry) for entry in flat)
    kept = (
        name for name in named if name and len(name) <= MAXIMUM_CATEGORY_CHARACTERS and not name.endswith((".", "!"))
    )
    return list(dict.fromkeys(kept))


def description(value: object) -> str | None:
    """Return an item's description, given as one text (2014) or as a list of paragraphs (2018)."""
    paragraphs = value if isinstance(value, list) else [value]
    return " ".join(text for text in map(plain, paragraphs) if text) or None
