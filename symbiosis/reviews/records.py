"""Raw lines to records: reviews and item metadata of both releases, with every bad line counted and set aside."""

import ast
import json
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeGuard

import polars as pl

from symbiosis.core import text_files
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.reviews import text

REVIEW_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "line": pl.UInt32,
    "user_id": pl.String,
    "item_id": pl.String,
    "rating": pl.Float32,
    "timestamp": pl.Int64,
    "review": pl.String,
}
ITEM_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "item_id": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "categories": pl.List(pl.String),
    "description": pl.String,
}
MAXIMUM_ID_CHARACTERS = 64
RELEASE_2023 = "data of the Amazon release 2023, which is not read yet"
USE_ANOTHER_RELEASE = "use the files of 2014 or 2018 (reviews_NAME_5.json.gz or NAME_5.json.gz)"
_ROWS_PER_CHUNK = 50_000  # rows held as Python objects before they become a compact frame
_QUARANTINED_CHARACTERS = 500


class _RejectedError(Exception):
    """A line that is no record; the message is the reason under which it is counted."""


class Rejects:
    """Counts rejected lines by reason and writes each of them to the quarantine.

    Parameters
    ----------
    quarantine
        Text file open for writing; one JSON object per rejected line: ``file``, ``line``, ``reason`` and the
        beginning of the line.
    """

    def __init__(self, quarantine: TextIO) -> None:
        self._quarantine = quarantine
        self.lines = 0  # read, good and bad, blank ones aside
        self.counts: Counter[str] = Counter()
        self.first_line: dict[str, int] = {}

    def add(self, path: Path, number: int, reason: str, line: bytes | None) -> None:
        """Count and set aside one line."""
        self.counts[reason] += 1
        self.first_line.setdefault(reason, number)
        start = (line or b"").decode("utf-8", "replace")[:_QUARANTINED_CHARACTERS].rstrip("\n")
        entry = {"file": path.name, "line": number, "reason": reason, "start": start}
        self._quarantine.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def summary(self) -> dict[str, Any]:
        """Return ``lines``, ``rejected`` and, per reason, how many of these."""
        return {"lines": self.lines, "rejected": self.counts.total(), "reasons": dict(sorted(self.counts.items()))}

    def check(self, path: Path, maximum_share: float) -> None:
        """Stop if too large a share of the lines was rejected.

        Raises
        ------
        InputError
            The share is above `maximum_share`; the message names reasons, counts and first lines.
        """
        rejected = self.counts.total()
        if rejected == self.lines and RELEASE_2023 in self.counts:
            raise InputError(f"{path}, line {self.first_line[RELEASE_2023]:,}: {RELEASE_2023}: {USE_ANOTHER_RELEASE}")
        if rejected <= maximum_share * self.lines:
            return
        reasons = ", ".join(
            f"{reason} ({count:,}, first in line {self.first_line[reason]:,})"
            for reason, count in self.counts.most_common()
        )
        mend = text_files.ENCODE if text_files.NOT_UTF8 in self.counts else "mend the file"
        raise InputError(
            f"{path}: {rejected:,} of {self.lines:,} lines are no valid records, above "
            f"`clean.maximum_rejected_share` = {maximum_share:g}: {reasons}; {mend} or raise the share"
        )


def read_reviews(path: Path, quarantine: TextIO, maximum_rejected_share: float) -> tuple[pl.DataFrame, Rejects]:
    """Read a review file line by line.

    Parameters
    ----------
    path
        Text file (see `symbiosis.core.text_files`), one JSON object a line:
        ``reviewerID``, ``asin``, ``unixReviewTime`` and, where known, ``overall``
        and ``reviewText``.
    quarantine
        See `Rejects`.
    maximum_rejected_share
        In 0..1.

    Returns
    -------
    polars.DataFrame
        `REVIEW_SCHEMA`, in the order of the file. ``rating`` is null where the record has none.
    Rejects
        What was set aside.

    Raises
    ------
    InputError
        The file is damaged, holds no review, or too many of its lines are bad.
    """
    rejects = Rejects(quarantine)
    chunks: list[pl.DataFrame] = []
    rows: list[tuple[object, ...]] = []
    for number, line in _progress(path, "reviews"):
        rejects.lines += 1
        try:
            rows.append((number, *_review(_decode(line))))
        except _RejectedError as reason:
            rejects.add(path, number, str(reason), line)
        if len(rows) == _ROWS_PER_CHUNK:
            chunks.append(pl.DataFrame(rows, REVIEW_SCHEMA, orient="row"))
            rows.clear()
    chunks.append(pl.DataFrame(rows, REVIEW_SCHEMA, orient="row"))
    rejects.check(path, maximum_rejected_share)
    if rejects.lines == rejects.counts.total():
        raise InputError(f"{path} holds no review: check the source of the stage `download`")
    return pl.concat(chunks), rejects


def read_metadata(
    path: Path, quarantine: TextIO, maximum_rejected_share: float, wanted: Collection[str]
) -> tuple[pl.DataFrame, Rejects, dict[str, int]]:
    """Read a metadata file line by line and keep the wanted items; records of the same item are merged.

    The official files hold every product of a category, many times as many as the 5-core has, and some of them
    several times. Of an item's records each field takes its first usable value in the order of the file.

    Parameters
    ----------
    path
        Text file (see `symbiosis.core.text_files`), one object a line:
        ``asin`` and, where known, ``title``, ``brand``, ``category`` (2018) or
        ``categories`` (2014), ``description``. Strict JSON or, as in the official files of 2014, Python literals.
    quarantine, maximum_rejected_share
        As for `read_reviews`.
    wanted
        Item ids.

    Returns
    -------
    polars.DataFrame
        `ITEM_SCHEMA`, sorted by item id, only items that have a record.
    Rejects
        What was set aside.
    dict
        Counts: ``repeated`` (records of wanted items), ``titles`` (usable ones, in the whole file).

    Raises
    ------
    InputError
        The file is damaged or too many of its lines are bad.
    """
    rejects = Rejects(quarantine)
    items: dict[str, list[Any]] = {}
    repeated = titles = 0
    for number, line in _progress(path, "metadata"):
        rejects.lines += 1
        try:
            record = _decode(line)
            item_id = _identifier(record, "asin")
        except _RejectedError as reason:
            rejects.add(path, number, str(reason), line)
            continue
        named = text.title(record.get("title"))
        titles += named is not None
        if item_id not in wanted:
            continue
        fields = [
            named,
            text.brand(record.get("brand")),
            text.categories(record.get("category")) or text.categories(record.get("categories")),
            text.description(record.get("description")),
        ]
        repeated += item_id in items
        items[item_id] = [first or other for first, other in zip(items.get(item_id, fields), fields, strict=True)]
    rejects.check(path, maximum_rejected_share)
    rows = [(item_id, *items[item_id]) for item_id in sorted(items)]
    return pl.DataFrame(rows, ITEM_SCHEMA, orient="row"), rejects, {"repeated": repeated, "titles": titles}


def _progress(path: Path, what: str) -> Iterator[tuple[int, bytes | None]]:
    return iter(tqdm(text_files.read_lines(path), desc=f"reading {what}", unit=" lines", unit_scale=True))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_no_constant)  # NaN and infinities are no JSON


def _decode(line: bytes | None) -> dict[str, Any]:
    """Return the object on a line; never executes anything.

    Raises
    ------
    _RejectedError
        Why the line is none.
    """
    if line is None:
        raise _RejectedError("line too long")
    try:
        content = text_files.decode(line)
    except ValueError as error:
        raise _RejectedError(str(error)) from None
    try:
        record = _JSON.decode(content.strip())
    except (ValueError, RecursionError):
        record = _decode_literal(content)
    if not isinstance(record, dict):
        raise _RejectedError("not an object")
    return record


def _decode_literal(content: str) -> object:
    """Read a line of the 2014 metadata: a Python dictionary in single quotes, as literals only."""
    if not content.startswith("{'"):
        raise _RejectedError("not JSON")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # a lone backslash in a title
            return ast.literal_eval(content)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise _RejectedError("not JSON") from None


def _review(record: dict[str, Any]) -> tuple[str, str, float | None, int, str | None]:
    if "reviewerID" not in record and {"user_id", "parent_asin"} & record.keys():
        raise _RejectedError(RELEASE_2023)
    rating = record.get("overall")
    if rating is not None and not (_is_number(rating) and 1 <= rating <= 5):
        raise _RejectedError("rating is no number from 1 to 5")
    time = record.get("unixReviewTime")
    if not (_is_number(time) and 0 <= time < 1 << 40 and time % 1 == 0):
        raise _RejectedError("time is no whole number of seconds from 0")
    return (
        _identifier(record, "reviewerID"),
        _identifier(record, "asin"),
        None if rating is None else float(rating),
        int(time),
        text.plain(record.get("reviewText")),
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _identifier(record: dict[str, Any], key: str) -> str:
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 4 * MAXIMUM_ID_CHARACTERS:
        value = str(value)  # as its digits
    if not isinstance(value, str) or not value.strip():
        raise _RejectedError(f"{key} is missing")
    value = value.strip()
    if len(value) > MAXIMUM_ID_CHARACTERS or not value.isprintable():
        raise _RejectedError(f"{key} is no identifier")
    return value
