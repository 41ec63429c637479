"""Plain text from what Amazon's pages left in the records: entities, tags, half tags, scripts, odd spaces; prices."""

import html
import re

from symbiosis.core.text_files import mended

MAXIMUM_CATEGORY_CHARACTERS = 60
MAXIMUM_PRICE = 1e6
"""USD: above it, a number is a fault of the page."""

# The elements of HTML, with those of old pages: what begins otherwise, as `<M6` or `<user_3>`, is text.
_NAMES = (
    "a|abbr|acronym|address|applet|area|article|aside|audio|b|base|basefont|bdi|bdo|big|blink|blockquote|body|br|"
    "button|canvas|caption|center|cite|code|col|colgroup|data|datalist|dd|del|details|dfn|dialog|dir|div|dl|dt|em|"
    "embed|fieldset|figcaption|figure|font|footer|form|frame|frameset|h1|h2|h3|h4|h5|h6|head|header|hgroup|hr|"
    "html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|marquee|menu|meta|meter|nav|nobr|noframes|"
    "noscript|object|ol|optgroup|option|output|p|param|picture|pre|progress|q|rp|rt|ruby|s|samp|script|search|"
    "section|select|slot|small|source|span|strike|strong|style|sub|summary|sup|svg|table|tbody|td|template|"
    "textarea|tfoot|th|thead|time|title|tr|track|tt|u|ul|var|video|wbr"
)
_NAME = rf"</?(?:{_NAMES})"
_MARKUP = r"<!(?:--|\[|doctype\b)[^<>]*|<\?xml\b[^<>]*"
_TAG = re.compile(rf"(?:{_NAME}(?:[\s/][^<>]*)?|{_MARKUP})>", re.IGNORECASE)
# A tag that the record's end cuts off: with an attribute, or nothing, behind the name.
_CUT_TAG = re.compile(rf"(?:{_NAME}(?:[\s/]+[\w:-]+\s*=[^<>]*|\s*/?)|{_MARKUP})$", re.IGNORECASE)
_NOT_A_TITLE = re.compile(r"/>|\bgetTime\(|\bfunction\s*\(|\bvar [A-Za-z_]+ ?=")  # the tail of a tag, or a script
_BY = re.compile(r"^by\s+(?=\S)")
_AMOUNT = r"\$?\s*(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
_PRICE = re.compile(rf"{_AMOUNT}(?:\s*[-–]\s*{_AMOUNT})?", re.ASCII)
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
    return " ".join(mended(text).replace("\0", " ").split()) or None


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


def price(value: object) -> float | None:
    """Return an item's price in USD, the lower end of a range.

    A price is a number above 0 and at most `MAXIMUM_PRICE`, or a text that is nothing but such a number or two with a
    hyphen between them, each with or without a dollar sign and commas. Whatever else a record holds there (``from
    4.99``, another currency, page code) is no price.

    Parameters
    ----------
    value
        A number (2014, 2023) or a text (2018, 2023).

    Examples
    --------
    >>> [price(value) for value in ("$1,299.00", "12.99 - $15.99", 4, "from 4.99", ".a-box-inner{color:#fff}", 0)]
    [1299.0, 12.99, 4.0, None, None, None]
    """
    if isinstance(value, str):
        found = _PRICE.fullmatch(plain(value) or "")
        amounts = [float(amount.replace(",", "")) for amount in found.groups() if amount] if found else []
        low: float = min(amounts, default=0.0)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low = value
    else:
        return None
    return float(low) if 0 < low <= MAXIMUM_PRICE else None
