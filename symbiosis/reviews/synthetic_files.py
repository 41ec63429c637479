"""The synthetic source as raw files: JSON lines in the shape of Amazon's 2018 release, written as a stream.

Texts tell about taste what the generative model knows: titles name brand, style and category, descriptions say the
style in other words, and reviews mention what drew the user to the item. A little dirt of the real files is there as
well: missing brands and descriptions, HTML entities, repeated metadata, a user reviewing an item a second time.
"""

import gzip
import html
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from symbiosis.core.progress import tqdm
from symbiosis.reviews import vocabulary
from symbiosis.reviews.synthetic import BRANDS, GOOD, Goods, World, is_favourite

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NO_BRAND, _NO_DESCRIPTION, _REPEATED, _REPEATED_REVIEW = 0.04, 0.08, 0.02, 0.005  # shares
_DAY = 86_400  # seconds
_ROWS = 10_000  # rows turned into Python objects at once


def write_files(world: World, reviews: Path, metadata: Path, seed: int) -> None:
    """Write a world as a review file and a metadata file; same world and seed, same bytes.

    Parameters
    ----------
    world
        From `symbiosis.reviews.synthetic.generate`.
    reviews, metadata
        Gzip files to create.
    seed
        Of ids, wordings and dirt.
    """
    rng = np.random.default_rng([seed, 1])
    item_ids = _ids("B0", 8, len(world.goods.category), rng)
    user_ids = _ids("A", 12, len(world.shoppers.activity), rng)
    words = _words(world.goods)
    with _gzip_text(metadata) as file:
        _write_metadata(file, words, item_ids, rng)
    with _gzip_text(reviews) as file:
        _write_reviews(file, world, words, item_ids, user_ids, rng)


@contextmanager
def _gzip_text(path: Path) -> Iterator[TextIO]:
    """Open a gzip file for text; neither name nor time goes into it, so that the bytes depend on the text alone."""
    with (
        path.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=5, fileobj=file, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        yield text


def _ids(prefix: str, length: int, count: int, rng: np.random.Generator) -> list[str]:
    """Return distinct ids in the style of the real ones, in no order."""
    size = len(_DIGITS) ** length
    # A factor without common divisor with 36 permutes the numbers below 36 ** length.
    factor, offset = 5 + 6 * int(rng.integers(size // 12, size // 6)), int(rng.integers(size))
    numbers = [(factor * k + offset) % size for k in range(count)]
    return [prefix + "".join(_DIGITS[n // 36**place % 36] for place in reversed(range(length))) for n in numbers]


@dataclass(frozen=True)
class _Words:
    """What texts say of one item."""

    brand: str
    noun: str
    category: str
    department: str
    style: str
    claim: str
    remark: str


def _words(goods: Goods) -> list[_Words]:
    departments = [(name, nouns.split(", ")) for name, nouns in vocabulary.GOODS.items()]
    rows = []
    columns = goods.category.tolist(), goods.brand.tolist(), goods.style.tolist()
    for category, brand, style in zip(*columns, strict=True):
        number = category % goods.departments
        department, nouns = departments[number]
        noun = nouns[category // goods.departments]
        rows.append(_Words(brand_name(number, brand), noun, plural(noun), department, *vocabulary.STYLES[style]))
    return rows


def plural(noun: str) -> str:
    """Return the plural of a noun of the vocabulary."""
    if noun.endswith("fe"):
        return noun[:-2] + "ves"
    return noun + ("es" if noun.endswith(("sh", "ch", "x", "s")) else "s")


def brand_name(department: int, brand: int) -> str:
    """Name a department's brand; every (department, brand) has a name of its own."""
    starts, ends, tails = vocabulary.BRAND_STARTS, vocabulary.BRAND_ENDS, vocabulary.BRAND_TAILS
    tail, k = divmod(department * BRANDS + brand, len(starts) * len(ends))
    return starts[k % len(starts)] + ends[(k // len(starts) + 5 * k) % len(ends)] + tails[tail]


def _write_metadata(file: TextIO, words: list[_Words], item_ids: list[str], rng: np.random.Generator) -> None:
    count = len(words)
    variant = rng.integers(0, len(vocabulary.VARIANTS), count)
    unbranded, untold, repeated = (rng.random(count) < share for share in (_NO_BRAND, _NO_DESCRIPTION, _REPEATED))
    for k in np.argsort(item_ids).tolist():
        item = words[k]
        brand = "" if unbranded[k] else item.brand
        told = [
            f"This {item.noun.lower()} by {item.brand} {item.claim}.",
            f"It comes from our {item.department.lower()} range; see all {item.category.lower()} by {item.brand}.",
        ]
        record = {
            # The real files escape entities in some texts and not in others.
            "category": [vocabulary.ROOT, html.escape(item.department), item.category],
            "description": [] if untold[k] else told,
            "title": f"{item.brand} {item.style} {item.noun}, {vocabulary.VARIANTS[variant[k]]}",
            "brand": brand,
            "asin": item_ids[k],
        }
        line = json.dumps(record) + "\n"
        file.write(line * (2 if repeated[k] else 1))


def _write_reviews(
    file: TextIO,
    world: World,
    words: list[_Words],
    item_ids: list[str],
    user_ids: list[str],
    rng: np.random.Generator,
) -> None:
    goods, shoppers = world.goods, world.shoppers
    department = goods.category[world.item] % goods.departments
    columns = {
        "user": world.user,
        "item": world.item,
        "stars": world.stars,
        "time": world.timestamp,
        "brand": goods.brand[world.item] == shoppers.brand[world.user, department],
        "style": goods.style[world.item] == shoppers.style[world.user],
        "habit": is_favourite(goods, shoppers, world.user, world.item),
        "opinion": rng.integers(0, len(vocabulary.PRAISE), len(world.user)),
        "again": rng.random(len(world.user)) < _REPEATED_REVIEW,
    }
    bar = tqdm(total=len(world.user), desc="writing reviews", unit=" lines", unit_scale=True)
    for start in range(0, len(world.user), _ROWS):
        rows = zip(*(column[start : start + _ROWS].tolist() for column in columns.values()), strict=True)
        for user, item, stars, time, brand, style, habit, opinion, again in rows:
            record = {
                "overall": float(stars),
                "reviewerID": user_ids[user],
                "asin": item_ids[item],
                "reviewText": _review(words[item], stars, brand, style, habit, opinion),
                "summary": vocabulary.SUMMARIES[stars - 1],
                "unixReviewTime": time,
            }
            file.write(json.dumps(record) + "\n")
            if again:
                file.write(json.dumps(record | {"unixReviewTime": time + 30 * _DAY}) + "\n")
        bar.update(min(_ROWS, len(world.user) - start))
    bar.close()


def _review(item: _Words, stars: int, brand: bool, style: bool, habit: bool, opinion: int) -> str:
    """Tell what drew a user to an item, then what came of it."""
    parts = []
    if habit:
        parts.append(f"{vocabulary.HABIT} {item.category.lower()}.")
    if brand:
        parts.append(f"{item.brand} is my favorite brand.")
    if style:
        parts.append(f"This one is {item.style.lower()}, as I like it: {item.remark}.")
    parts.append((vocabulary.PRAISE if stars >= GOOD else vocabulary.REGRET)[opinion])
    return " ".join(parts)
