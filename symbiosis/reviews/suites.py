"""What must hold of reviews, items, users and interactions, and the narrow views on which it is checked."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from symbiosis.reporting import page
from symbiosis.reporting.quality import Outcome, Rule, Suite, validate
from symbiosis.reviews.interactions import Interactions
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.splits import PARTS
from symbiosis.reviews.text import MAXIMUM_PRICE

_FIRST_SECOND = 788_918_400  # 1995-01-01: Amazon opened in July 1995
_END_SECOND = 4_102_444_800  # 2100-01-01: beyond it, milliseconds were taken for seconds
_LARGEST_REPEATED_SHARE = 0.2


def check(
    reviews: pl.DataFrame, items: pl.DataFrame, found: Interactions, params: CleanParams, per_second: int = 1
) -> list[Outcome]:
    """Check the four suites.

    Parameters
    ----------
    reviews
        As read (`symbiosis.reviews.records.REVIEW_SCHEMA`), before any filter.
    items
        ``item``, ``item_id``, ``title``, ``brand``, ``categories``, ``description``, ``price``.
    found
        What became of the reviews.
    params
        Rating filter and core.
    per_second
        Unit of the times.
    """
    return [
        *validate(_reviews_view(reviews), _reviews_suite(per_second)),
        *validate(_items_view(items, found), _items_suite(items.height, params)),
        *validate(_users_view(found), _users_suite(params)),
        *validate(
            found.edges.select("user", "item", "rating", "timestamp", "part"), _interactions_suite(found, params)
        ),
    ]


def sizes(items: pl.DataFrame, found: Interactions) -> dict[str, Any]:
    """Count users, items, interactions by part, and the items that have each kind of text."""
    told = {name: items.height - items[name].null_count() for name in ("title", "brand", "description", "price")}
    parts = {name: int((found.edges["part"] == part).sum()) for name, part in PARTS.items()}
    return {
        "users": found.users.height,
        "items": found.items.height,
        "interactions": found.edges.height,
        "parts": parts,
        "items with": told | {"categories": int((items["categories"].list.len() > 0).sum())},
    }


def sections(counts: dict[str, Any]) -> list[page.Block]:
    """Return the section of the page on how many rows were read, removed and kept."""

    def rows(counts: dict[str, Any], start: str) -> Iterator[tuple[str, str]]:
        for name, count in counts.items():
            if isinstance(count, dict):
                yield from rows(count, f"{start}{name}: ")
            else:
                yield f"{start}{name}", f"{count:,}"

    table = page.Table(("what", "count"), list(rows(counts, "")))
    return [page.Section("Rows read, removed and kept", [table])]


def _reviews_view(reviews: pl.DataFrame) -> pl.DataFrame:
    return reviews.select(
        "line",
        "rating",
        "timestamp",
        pl.col("user_id").rank("dense").alias("user"),
        pl.col("item_id").rank("dense").alias("item"),
        pl.struct("user_id", "item_id").is_first_distinct().not_().alias("repeated"),
    )


def _reviews_suite(per_second: int) -> Suite:
    return Suite(
        "reviews",
        (
            Rule("there is at least one review", "ExpectTableRowCountToBeBetween", {"min_value": 1}),
            Rule("every review names its user", "ExpectColumnValuesToNotBeNull", {"column": "user"}),
            Rule("every review names its item", "ExpectColumnValuesToNotBeNull", {"column": "item"}),
            _between("a rating, where there is one, lies from 1 to 5", "rating", 1, 5),
            _between(
                "a review was written after 1995 and before 2100",
                "timestamp",
                _FIRST_SECOND * per_second,
                _END_SECOND * per_second,
            ),
            Rule(
                f"at most {_LARGEST_REPEATED_SHARE:.0%} of the reviews repeat a user and item",
                "ExpectColumnValuesToBeInSet",
                {"column": "repeated", "value_set": [False], "mostly": 1 - _LARGEST_REPEATED_SHARE},
            ),
        ),
        row="line",
    )


def _items_view(items: pl.DataFrame, found: Interactions) -> pl.DataFrame:
    texts = ["title", "brand", "description"]
    counts = found.edges.group_by("item").agg(pl.len().alias("interactions"))
    return items.join(counts, on="item", how="left", maintain_order="left").select(
        "item",
        "item_id",
        *(pl.col(name).str.len_chars().alias(f"{name}_characters") for name in texts),
        *(pl.col(name).str.contains("<[A-Za-z/][^<>]*>").alias(f"{name}_markup") for name in texts),
        pl.col("categories").is_null().alias("no_list"),
        "price",
        pl.col("interactions").fill_null(0),
    )


def _items_suite(count: int, params: CleanParams) -> Suite:
    texts = ["title", "brand", "description"]
    return Suite(
        "items",
        (
            _between("items are numbered from 0 without a gap", "item", 0, count - 1),
            Rule("every item has one row", "ExpectColumnValuesToBeUnique", {"column": "item"}),
            Rule("every item id has one row", "ExpectColumnValuesToBeUnique", {"column": "item_id"}),
            _between(f"an item has at least {params.core} interactions", "interactions", params.core, None),
            *(_between(f"a {name}, where there is one, is not empty", f"{name}_characters", 1, None) for name in texts),
            *(_only(f"a {name} holds no markup", f"{name}_markup", False) for name in texts),
            _only("an item without categories has an empty list", "no_list", False),
            _between("a price, where there is one, is not below 0", "price", 0, MAXIMUM_PRICE),
        ),
        row="item_id",
    )


def _users_view(found: Interactions) -> pl.DataFrame:
    of_part = [(pl.col("part") == part).sum().alias(name) for name, part in PARTS.items()]
    counts = found.edges.group_by("user").agg(pl.len().alias("interactions"), *of_part)
    counted = pl.col("interactions", *PARTS).fill_null(0)  # a missing number would pass every rule
    return found.users.join(counts, on="user", how="left").with_columns(counted).sort("user")


def _users_suite(params: CleanParams) -> Suite:
    # Who took cold items only, or almost only, has nothing left to train on.
    filled = ["test"] if params.cold_item_share else [*PARTS]
    if params.split in {"timestamp", "published"}:  # a user may have come late or gone early
        filled = []
    return Suite(
        "users",
        (
            Rule("every user id has one row", "ExpectColumnValuesToBeUnique", {"column": "user_id"}),
            _between(f"a user has at least {params.core} interactions", "interactions", params.core, None),
            *(_between(f"a user has at least 1 {name} interaction", name, 1, None) for name in filled),
        ),
        row="user",
    )


def _interactions_suite(found: Interactions, params: CleanParams) -> Suite:
    return Suite(
        "interactions",
        (
            _between("a user number is a row of the users", "user", 0, found.users.height - 1),
            _between("an item number is a row of the items", "item", 0, found.items.height - 1),
            Rule(
                "a user and item meet once in training, validation and test together",
                "ExpectCompoundColumnsToBeUnique",
                {"column_list": ["user", "item"]},
            ),
            _between(
                f"a rating, where there is one, is at least {params.minimum_rating:g}",
                "rating",
                params.minimum_rating,
                5,
            ),
            Rule("every interaction has a time", "ExpectColumnValuesToNotBeNull", {"column": "timestamp"}),
        ),
    )


def _between(text: str, column: str, least: float, most: float | None) -> Rule:
    arguments = {"column": column, "min_value": least} | ({} if most is None else {"max_value": most})
    return Rule(text, "ExpectColumnValuesToBeBetween", arguments)


def _only(text: str, column: str, value: bool) -> Rule:
    return Rule(text, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": [value]})
