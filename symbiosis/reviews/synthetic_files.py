"""The synthetic source as raw files in the shape of Amazon's 2018 or 2023 release, written as a stream.

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
from typing import Any, TextIO

import numpy as np
import polars as pl

from symbiosis.core.progress import tqdm
from symbiosis.reviews import interactions, vocabulary
from symbiosis.reviews.raw import CSV_COLUMNS, RATINGS, REVIEWS, SPLIT
from symbiosis.reviews.records import read_reviews
from symbiosis.reviews.splits import PUBLISHED_TIMES
from symbiosis.reviews.synthetic import BRANDS, GOOD, Goods, World, is_favourite

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NO_BRAND, _NO_DESCRIPTION, _REPEATED, _REPEATED_REVIEW = 0.04, 0.08, 0.02, 0.005  # shares
_NO_PRICE, _PRICE_RANGE, _PRICE_JUNK = 0.1, 0.05, 0.01  # shares
_JUNK = ".a-box-inner{background-color:#fff}#alohaBuyBoxWidget .selected{background-color:#fffbf3}"
_DAY = 86_400  # seconds
_LATER = 4 * 365 * _DAY  # the release 2023 has later reviews, before and behind its two published times
_ROWS = 10_000  # rows turned into Python objects at once


def write_files(world: World, reviews: Path, metadata: Path, seed: int, release: int = 2018) -> None:
    """Write a world as a review file and a metadata file; same world and seed, same bytes.

    Parameters
    ----------
    world
        From `symbiosis.reviews.synthetic.generate`.
    reviews, metadata
        Gzip files to create.
    seed
        Of ids, wordings and dirt.
    release
        2018 or 2023: the names and units of the fields.
    """
    rng = np.random.default_rng([seed, 1])
    item_ids = _ids("B0", 8, len(world.goods.category), rng)
    user_ids = _ids("A", 12, len(world.shoppers.activity), rng)
    words = _words(world.goods)
    with _gzip_text(metadata) as file:
        _write_metadata(file, words, _prices(world.goods, seed), item_ids, rng, release)
    with _gzip_text(reviews) as file:
        _write_reviews(file, world, words, item_ids, user_ids, rng, release)


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


def _prices(goods: Goods, seed: int) -> list[str]:
    """Return what each item's page of 2018 shows as its price; a few show none, a range or page code.

    Every category has its level, and the better goods of a category cost more.
    """
    rng = np.random.default_rng([seed, 2])  # of its own, so that no other word depends on it
    level = rng.lognormal(3.2, 0.8, len(goods.starts) - 1)[goods.category]
    price = np.maximum(level * np.exp(0.15 * goods.quality + rng.normal(0, 0.2, len(level))), 1.0)
    upper = price * rng.uniform(1.1, 1.6, len(price))
    none, ranged, junk = (rng.random(len(price)) < share for share in (_NO_PRICE, _PRICE_RANGE, _PRICE_JUNK))
    shown = []
    columns = price.tolist(), upper.tolist(), none.tolist(), ranged.tolist(), junk.tolist()
    for low, high, is_missing, is_range, is_junk in zip(*columns, strict=True):
        text = f"${int(low):,}.99" + (f" - ${int(high):,}.99" if is_range else "")
        shown.append("" if is_missing else _JUNK if is_junk else text)
    return shown


def _write_metadata(
    file: TextIO,
    words: list[_Words],
    prices: list[str],
    item_ids: list[str],
    rng: np.random.Generator,
    release: int,
) -> None:
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
            "price": prices[k],
        }
        line = json.dumps(_metadata_2023(record, k) if release == 2023 else record) + "\n"
        file.write(line * (2 if repeated[k] else 1))


def _write_reviews(
    file: TextIO,
    world: World,
    words: list[_Words],
    item_ids: list[str],
    user_ids: list[str],
    rng: np.random.Generator,
    release: int,
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
            for later in (0, 30) if again else (0,):
                written = record | {"unixReviewTime": time + later * _DAY}
                file.write(json.dumps(_review_2023(written) if release == 2023 else written) + "\n")
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


def _metadata_2023(record: dict[str, Any], number: int) -> dict[str, Any]:
    root, *categories = record["category"]
    return {
        "main_category": root,
        "title": record["title"],
        "average_rating": 4.0,
        "features": record["description"][:1],
        "description": record["description"][1:],
        "price": None if number % 3 else 5.0 + number % 40,  # most items of the release have none
        "store": record["brand"] or None,
        "categories": categories,
        "details": {},
        "parent_asin": record["asin"],
        "bought_together": None,
    }


def _review_2023(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "rating": record["overall"],
        "title": record["summary"],
        "text": record["reviewText"],
        "images": [],
        "asin": record["asin"],
        "parent_asin": record["asin"],
        "user_id": record["reviewerID"],
        "timestamp": (record["unixReviewTime"] + _LATER) * 1000,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


def write_benchmark(folder: Path, benchmark: str) -> list[str]:
    """Replace the reviews of 2023 in a folder by a benchmark made of them as the published ones are.

    Parameters
    ----------
    folder
        Holds the reviews.
    benchmark
        Such as ``5core/last_out``; see `symbiosis.reviews.params.Benchmark`.

    Returns
    -------
    list of str
        The files written.
    """
    core, kind = benchmark.split("/")
    reviews, _ = read_reviews(folder / REVIEWS, io.StringIO(), 0.0)
    distinct = interactions.first_of_pairs(reviews)
    rows = interactions.core_of(distinct, 5) if core == "5core" else distinct
    rows = rows.rename({"item_id": "parent_asin"}).sort("user_id", "timestamp", "line")
    from_end = pl.int_range(pl.len(), 0, -1).over("user_id")
    late = pl.col("timestamp")
    if kind.startswith("timestamp"):
        part = pl.when(late >= PUBLISHED_TIMES[1]).then(2).when(late >= PUBLISHED_TIMES[0]).then(1).otherwise(0)
    else:
        part = 3 - from_end.clip(1, 3)
    seen = [
        items[:k]
        for (items,) in rows.group_by("user_id", maintain_order=True).agg("parent_asin").select("parent_asin").rows()
        for k in range(len(items))
    ]
    rows = rows.with_columns(part.alias("part"), pl.Series("history", [" ".join(items) for items in seen], pl.String))
    columns = [*CSV_COLUMNS, *(["history"] if kind.endswith("_w_his") else [])]
    parts = {RATINGS: rows} if kind == "rating_only" else {
        name: rows.filter(pl.col("part") == number) for number, name in enumerate(SPLIT.values())
    }  # fmt: skip
    for name, table in parts.items():
        table.select(columns).write_csv(folder / name)
    (folder / REVIEWS).unlink()
    return list(parts)
