"""The suites pass good data and catch each way in which it may go wrong."""

from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest

from symbiosis.reporting.quality import validate
from symbiosis.reviews import suites
from symbiosis.reviews.interactions import Interactions, number
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.records import REVIEW_SCHEMA
from symbiosis.reviews.splits import TEST, TRAIN, split

PARAMS = CleanParams(
    seed=5,
    minimum_rating=4,
    core=5,
    split="random",
    validation_share=0.1,
    test_share=0.1,
    cold_item_share=0.0,
    graph_edges="train",
    maximum_rejected_share=0,
    require_titles=True,
)
Data = tuple[pl.DataFrame, pl.DataFrame, Interactions]


@pytest.fixture(scope="module")
def good() -> Data:
    pairs = [(u, i) for u in range(6) for i in range(6)]
    rows = [(k + 1, f"u{u}", f"i{i}", 5.0, 1_400_000_000 + k, "text") for k, (u, i) in enumerate(pairs)]
    reviews = pl.DataFrame(rows, REVIEW_SCHEMA, orient="row")
    found = split(number(reviews, PARAMS.seed), PARAMS)
    items = found.items.with_columns(
        title=pl.lit("T"),
        brand=pl.lit(None, dtype=pl.String),
        categories=pl.lit(["C"], dtype=pl.List(pl.String)),
        description=pl.lit("D"),
        price=pl.lit(None, dtype=pl.Float64),
    )
    return reviews, items, found


def broken(data: Data) -> list[str]:
    reviews, items, found = data
    sizes = found.users.height, found.items.height
    tally = suites.Tally(*sizes)
    tally.add(found.edges)
    outcomes = [
        *validate(suites.reviews_view(reviews), suites.reviews_suite(1)),
        *suites.check_items(items, tally, PARAMS),
        *suites.check_users(found.users, tally, PARAMS),
        *validate(suites.interactions_view(found.edges), suites.interactions_suite(*sizes, PARAMS)),
    ]
    return [outcome.rule for outcome in outcomes if not outcome.passed]


def test_good_data_passes(good: Data) -> None:
    assert broken(good) == []


def of_reviews(change: pl.Expr) -> Callable[[Data], Data]:
    return lambda data: (data[0].with_columns(change), *data[1:])


def of_items(change: pl.Expr) -> Callable[[Data], Data]:
    return lambda data: (data[0], data[1].with_columns(change), data[2])


def of_edges(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Callable[[Data], Data]:
    return lambda data: (data[0], data[1], replace(data[2], edges=change(data[2].edges)))


def first(column: str, value: object) -> pl.Expr:
    """Set a column's first value."""
    return pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(column).alias(column)


FAULTS: list[tuple[Callable[[Data], Data], set[str]]] = [
    (of_reviews(first("rating", 0.0)), {"a rating, where there is one, lies from 1 to 5"}),
    (of_reviews(first("user_id", None)), {"every review names its user"}),
    (of_reviews(first("item_id", None)), {"every review names its item"}),
    (
        of_reviews(pl.col("timestamp") * 1000),
        {"a review was written after 1995 and before 2100"},
    ),
    (of_reviews(pl.lit("u0").alias("user_id")), {"at most 20% of the reviews repeat a user and item"}),
    (of_items(first("title", "")), {"a title, where there is one, is not empty"}),
    (of_items(first("title", "a <b>title</b>")), {"a title holds no markup"}),
    (of_items(first("description", "<br/>")), {"a description holds no markup"}),
    (of_items(first("categories", None)), {"an item without categories has an empty list"}),
    (of_items(pl.lit(-1.0).alias("price")), {"a price, where there is one, is not below 0"}),
    (of_items(pl.lit("i").alias("item_id")), {"every item id has one row"}),
    (
        of_items(pl.lit(0, dtype=pl.UInt32).alias("item")),
        {"every item has one row"},
    ),
    (
        of_edges(lambda edges: edges.with_columns(first("item", 6).cast(pl.UInt32))),
        {"an item number is a row of the items"},
    ),
    (
        of_edges(lambda edges: edges.with_columns(first("rating", 3.0).cast(pl.Float32))),
        {"a rating, where there is one, is at least 4"},
    ),
    (
        of_edges(lambda edges: pl.concat([edges, edges.head(1)])),
        {"a user and item meet once in training, validation and test together"},
    ),
    (
        of_edges(lambda edges: edges.filter(pl.col("user") > 0)),
        {"a user has at least 5 interactions"}
        | {f"a user has at least 1 {part} interaction" for part in ("train", "validation", "test")},
    ),
    (
        of_edges(lambda edges: edges.filter((pl.col("item") > 0) | (pl.col("user") > 3))),
        {"an item has at least 5 interactions"},
    ),
    (
        of_edges(lambda edges: edges.with_columns(part=pl.col("part").replace(TEST, TRAIN))),
        {"a user has at least 1 test interaction"},
    ),
]


@pytest.mark.parametrize(("fault", "rules"), FAULTS)
def test_every_fault_breaks_its_rule(good: Data, fault: Callable[[Data], Data], rules: set[str]) -> None:
    assert rules <= set(broken(fault(good)))
