"""What must hold of reviews, items, users and interactions, and the narrow views on which it is checked."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from symbiosis.reporting import page
from symbiosis.reporting.quality import Outcome, Rule, Suite, validate
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.splits import PARTS, is_last_out
from symbiosis.reviews.text import MAXIMUM_PRICE

_FIRST_SECOND = 788_918_400  # 1995-01-01: Amazon opened in July 1995
_END_SECOND = 4_102_444_800  # 2100-01-01: beyond it, milliseconds were taken for seconds
_LARGEST_REPEATED_SHARE = 0.2


class Tally:
    """Counts of the split interactions, which may come in blocks.

    Parameters
    ----------
    n_users, n_items
        Numbers of users and items; interactions of others are not counted.

    Attributes
    ----------
    of_user
        int64 (users, parts).
    of_item
        int64 (items,).
    is_last_out
        See `symbiosis.reviews.splits.is_last_out`; whole users to a block.
    """

    def __init__(self, n_users: int, n_items: int) -> None:
        self.of_user = np.zeros((n_users, len(PARTS)), dtype=np.int64)
        self.of_item = np.zeros(n_items, dtype=np.int64)
        self.is_last_out = True

    def add(self, edges: pl.DataFrame) -> None:
        """Count interactions: ``user``, ``item``, ``timestamp``, ``part``."""
        n_users, n_items = len(self.of_user), len(self.of_item)
        known = edges.filter((pl.col("user") < n_users) & (pl.col("item") < n_items))
        for part in PARTS.values():
            users = known["user"].filter(known["part"] == part).to_numpy()
            self.of_user[:, part] += np.bincount(users, minlength=n_users)
        self.of_item += np.bincount(known["item"].to_numpy(), minlength=n_items)
        self.is_last_out = self.is_last_out and is_last_out(edges)


def check_items(items: pl.DataFrame, tally: Tally, params: CleanParams) -> list[Outcome]:
    """Check items.

    Parameters
    ----------
    items
        ``item``, ``item_id``, ``title``, ``brand``, ``categories``, ``description``, ``price``.
    tally
        Of all interactions.
    params
        The core.
    """
    return validate(_items_view(items, tally), _items_suite(items.height, params))


def check_users(users: pl.DataFrame, tally: Tally, params: CleanParams) -> list[Outcome]:
    """Check users, ``user`` and ``user_id``; see `check_items`."""
    return validate(_users_view(users, tally), _users_suite(params))


def sizes(items: pl.DataFrame, tally: Tally) -> dict[str, Any]:
    """Count users, items, interactions by part, and the items that have each kind of text."""
    told = {name: items.height - items[name].null_count() for name in ("title", "brand", "description", "price")}
    of_part = tally.of_user.sum(axis=0).tolist()
    return {
        "users": len(tally.of_user),
        "items": len(tally.of_item),
        "interactions": sum(of_part),
        "parts": {name: of_part[part] for name, part in PARTS.items()},
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


def reviews_view(reviews: pl.DataFrame) -> pl.DataFrame:
    """Return what is checked of reviews as read (`symbiosis.reviews.records.REVIEW_SCHEMA`), before any filter."""
    return reviews.select(
        "line",
        "rating",
        "timestamp",
        pl.col("user_id").rank("dense").alias("user"),
        pl.col("item_id").rank("dense").alias("item"),
        pl.struct("user_id", "item_id").is_first_distinct().not_().alias("repeated"),
    )


def reviews_suite(per_second: int) -> Suite:
    """Return the rules of reviews, all of a user in one block; `per_second` is the unit of their times."""
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


def _items_view(items: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    texts = ["title", "brand", "description"]
    counts = pl.DataFrame({"item": np.arange(len(tally.of_item), dtype=np.uint32), "interactions": tally.of_item})
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


def _users_view(users: pl.DataFrame, tally: Tally) -> pl.DataFrame:
    counts = {"interactions": tally.of_user.sum(axis=1)} | {
        name: tally.of_user[:, part] for name, part in PARTS.items()
    }
    return users.sort("user").with_columns(pl.Series(name, numbers) for name, numbers in counts.items())


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


def interactions_view(edges: pl.DataFrame) -> pl.DataFrame:
    """Return what is checked of split interactions."""
    return edges.select("user", "item", "rating", "timestamp", "part")


def interactions_suite(n_users: int, n_items: int, params: CleanParams) -> Suite:
    """Return the rules of interactions, all of a user in one block."""
    return Suite(
        "interactions",
        (
            _between("a user number is a row of the users", "user", 0, n_users - 1),
            _between("an item number is a row of the items", "item", 0, n_items - 1),
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
