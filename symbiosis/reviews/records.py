"""Raw lines to records: reviews and item metadata of all releases, with every bad line counted and set aside."""

import ast
import json
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeGuard

import polars as pl

from symbiosis.core import text_files
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.reviews import text
from symbiosis.reviews.raw import CSV_COLUMNS, Rejects

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
    "price": pl.Float64,
}
MAXIMUM_ID_CHARACTERS = 64
MILLISECONDS = 1000  # the unit of times of the release 2023, per second
_ROWS_PER_FRAME = 50_000  # rows held as Python objects before they become a compact frame


class _RejectedError(Exception):
    """A line that is no record; the message is the reason under which it is counted."""


def read_reviews(path: Path, quarantine: TextIO, maximum_rejected_share: float) -> tuple[pl.DataFrame, Rejects]:
    """Read a whole review file into memory.

    Parameters
    ----------
    path, maximum_rejected_share
        As for `batches`.
    quarantine
        See `Rejects`.

    Returns
    -------
    polars.DataFrame
        `REVIEW_SCHEMA`, in the order of the file.
    Rejects
        What was set aside, and the unit of the times.

    Raises
    ------
    InputError
        As from `batches`.
    """
    rejects = Rejects(quarantine)
    return pl.concat(batches(path, rejects, maximum_rejected_share)), rejects


def batches(path: Path, rejects: Rejects, maximum_rejected_share: float) -> Iterator[pl.DataFrame]:
    """Read a review file line by line, so many rows at a time.

    Parameters
    ----------
    path
        Text file (see `symbiosis.core.text_files`), one JSON object a line:
        ``reviewerID``, ``asin``, ``unixReviewTime`` and, where known, ``overall``
        and ``reviewText``; or, as in 2023, ``user_id``, ``parent_asin``, ``timestamp``
        in milliseconds and, where known, ``rating`` and ``text``. The first record
        that has a user tells which; lines of the other form are rejected.
    rejects
        Takes what is set aside and, at the end, the unit of the times.
    maximum_rejected_share
        In 0..1.

    Yields
    ------
    polars.DataFrame
        `REVIEW_SCHEMA`, in the order of the file. ``rating`` is null where the record has none; times are in the unit
        of the release.

    Raises
    ------
    InputError
        The file is damaged, holds no review, or too many of its lines are bad; the last two at the end.
    """
    form: _Form | None = None

    def row(line: bytes | None) -> tuple[object, ...]:
        nonlocal form
        record = _decode(line)
        form = form or _form_of(record)
        return _review(record, form or _EARLIER)

    yield from _frames(_progress(path, "reviews"), row, path, rejects)
    rejects.per_second = form.per_second if form else 1
    rejects.check(path, maximum_rejected_share)
    if rejects.lines == rejects.counts.total():
        raise InputError(f"{path} holds no review: check the source of the stage `download`")


def csv_batches(path: Path, rejects: Rejects, maximum_rejected_share: float) -> Iterator[pl.DataFrame]:
    """Read a published CSV file of Amazon Reviews 2023, so many rows at a time; a column ``history`` is passed over.

    Parameters
    ----------
    path
        Text file, ``user_id,parent_asin,rating,timestamp`` with a header.
    rejects, maximum_rejected_share
        As for `batches`.

    Yields
    ------
    polars.DataFrame
        As from `batches`, without review texts; there may be no row.

    Raises
    ------
    InputError
        The file is damaged, or too many of its lines are bad.
    """
    rejects.per_second = MILLISECONDS
    lines = _progress(path, path.stem)
    next(lines, None)  # the header, which the stage `download` has checked
    yield from _frames(lines, lambda line: _review(_of_csv(line), _2023), path, rejects)
    rejects.check(path, maximum_rejected_share)


def _frames(
    lines: Iterator[tuple[int, bytes | None]],
    row: Callable[[bytes | None], tuple[object, ...]],
    path: Path,
    rejects: Rejects,
) -> Iterator[pl.DataFrame]:
    """Turn lines into frames; the last one, which may be empty, is always there."""
    rows: list[tuple[object, ...]] = []
    for number, line in lines:
        rejects.lines += 1
        try:
            rows.append((number, *row(line)))
        except _RejectedError as reason:
            rejects.add(path, number, str(reason), line)
        if len(rows) == _ROWS_PER_FRAME:
            yield pl.DataFrame(rows, REVIEW_SCHEMA, orient="row")
            rows.clear()
    yield pl.DataFrame(rows, REVIEW_SCHEMA, orient="row")


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
        ``categories`` (2014), ``description``, ``price``; in 2023 ``parent_asin``, ``store``, ``main_category`` and
        ``features``, which stand in the description, as the price does. Strict JSON or, as in the official files of
        2014, Python literals.
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
            item_id = _identifier(record, "parent_asin" if "parent_asin" in record else "asin")
        except _RejectedError as reason:
            rejects.add(path, number, str(reason), line)
            continue
        named = text.title(record.get("title"))
        titles += named is not None
        if item_id not in wanted:
            continue
        described = _described_2023(record) if "parent_asin" in record else _described(record)
        fields = [named, *described, text.price(record.get("price"))]
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


def _described(record: dict[str, Any]) -> list[Any]:
    """Return brand, categories and description of an item of 2014 or 2018."""
    categories = text.categories(record.get("category")) or text.categories(record.get("categories"))
    return [text.brand(record.get("brand")), categories, text.description(record.get("description"))]


def _described_2023(record: dict[str, Any]) -> list[Any]:
    """Return brand, categories and description of an item of 2023; the description begins with the features."""
    features, told = (text.description(record.get(name)) for name in ("features", "description"))
    price = record.get("price")
    sold = f"Price: {price}" if isinstance(price, int | float | str) and price not in {"", "None"} else None
    categories = text.categories([record.get("main_category"), record.get("categories")])
    description = " ".join(part for part in (features, told, text.plain(sold)) if part) or None
    return [text.brand(record.get("store")), categories, description]


@dataclass(frozen=True)
class _Form:
    """The fields of a release's reviews."""

    user: str
    item: str
    rating: str
    time: str
    review: str
    per_second: int
    unit: str


_EARLIER = _Form("reviewerID", "asin", "overall", "unixReviewTime", "reviewText", 1, "seconds")
_2023 = _Form("user_id", "parent_asin", "rating", "timestamp", "text", MILLISECONDS, "milliseconds")


def _form_of(record: dict[str, Any]) -> _Form | None:
    return next((form for form in (_EARLIER, _2023) if form.user in record), None)


def _review(record: Mapping[str, Any], form: _Form) -> tuple[str, str, float | None, int, str | None]:
    other = _2023 if form is _EARLIER else _EARLIER
    if form.user not in record and other.user in record:
        raise _RejectedError("the record of another release than the first")
    rating = record.get(form.rating)
    if rating is not None and not (_is_number(rating) and 1 <= rating <= 5):
        raise _RejectedError("rating is no number from 1 to 5")
    time = record.get(form.time)
    if not (_is_number(time) and 0 <= time < form.per_second << 40 and time % 1 == 0):
        raise _RejectedError(f"time is no whole number of {form.unit} from 0")
    return (
        _identifier(record, form.user),
        _identifier(record, form.item),
        None if rating is None else float(rating),
        int(time),
        text.plain(record.get(form.review)),
    )


def _of_csv(line: bytes | None) -> dict[str, object]:
    if line is None:
        raise _RejectedError("line too long")
    try:
        values = text_files.decode(line).split(",")
    except ValueError as error:
        raise _RejectedError(str(error)) from None
    if len(values) not in {len(CSV_COLUMNS), len(CSV_COLUMNS) + 1}:
        raise _RejectedError("not 4 or 5 values")
    record: dict[str, object] = dict(zip(CSV_COLUMNS, values, strict=False))
    try:
        return record | {"rating": float(values[2]), "timestamp": int(values[3])}
    except ValueError:
        raise _RejectedError("rating or timestamp is no number") from None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _identifier(record: Mapping[str, Any], key: str) -> str:
    value = record.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < 4 * MAXIMUM_ID_CHARACTERS:
        value = str(value)  # as its digits
    if not isinstance(value, str) or not value.strip():
        raise _RejectedError(f"{key} is missing")
    value = value.strip()
    if len(value) > MAXIMUM_ID_CHARACTERS or not value.isprintable():
        raise _RejectedError(f"{key} is no identifier")
    return value
