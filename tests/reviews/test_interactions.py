"""Rating filter, repeated pairs, k-core, numbering and split: hand-computed cases and laws."""

from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from symbiosis.core.errors import InputError
from symbiosis.reviews.interactions import Interactions, core_of, first_of_pairs, k_core, number, positives
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.records import REVIEW_SCHEMA
from symbiosis.reviews.splits import (
    PUBLISHED_TIMES,
    TEST,
    TRAIN,
    VALIDATION,
    Splitter,
    is_last_out,
    parts_of,
    split,
    split_sizes,
)

PARAMS = CleanParams(
    seed=5,
    minimum_rating=4,
    core=3,
    split="random",
    validation_share=0.1,
    test_share=0.1,
    cold_item_share=0.0,
    graph_edges="train",
    maximum_rejected_share=0,
    require_titles=True,
)

edges = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=60, unique=True)
counts_of_users = st.lists(st.integers(3, 40), min_size=1, max_size=30).map(np.array)
shares = st.floats(0.01, 0.49)


def frame(rows: list[tuple[str, str, float | None, int]]) -> pl.DataFrame:
    return pl.DataFrame([(k + 1, *row, f"text {k}") for k, row in enumerate(rows)], REVIEW_SCHEMA, orient="row")


def numbered_and_split(reviews: pl.DataFrame, **changed: object) -> Interactions:
    params = PARAMS.model_copy(update=changed)
    return split(number(reviews, params.seed), params)


def test_the_rating_filter_keeps_four_five_and_unrated() -> None:
    rows = [("u", str(stars), stars, 0) for stars in (1.0, 3.0, 3.9, 4.0, 5.0, None)]
    assert positives(frame(rows), 4)["rating"].to_list() == [4.0, 5.0, None]


def test_of_repeated_pairs_the_earliest_stays_and_of_equal_times_the_first_line() -> None:
    rows = [("u", "i", 5.0, 9), ("u", "j", 5.0, 7), ("u", "i", 4.0, 3), ("v", "i", 5.0, 1), ("u", "j", 4.0, 7)]
    assert first_of_pairs(frame(rows))["line"].to_list() == [2, 3, 4]


def brute_force_core(pairs: list[tuple[int, int]], core: int) -> set[tuple[int, int]]:
    """Remove one offending edge at a time."""
    left = set(pairs)
    while True:
        users, items = Counter(u for u, _ in left), Counter(i for _, i in left)
        bad = next((pair for pair in left if users[pair[0]] < core or items[pair[1]] < core), None)
        if bad is None:
            return left
        left.remove(bad)


@given(edges, st.integers(1, 4))
def test_the_core_is_the_largest_set_of_sufficient_degrees(pairs: list[tuple[int, int]], core: int) -> None:
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    kept = k_core(users, items, core)
    assert {pair for pair, stays in zip(pairs, kept, strict=True) if stays} == brute_force_core(pairs, core)
    assert k_core(users[kept], items[kept], core).all()


def test_the_core_unravels_step_by_step() -> None:
    # A 3 x 3 block, and a chain that hangs on it by ever too few edges.
    block = [(u, i) for u in range(3) for i in range(3)]
    chain = [(3, 0), (3, 1), (3, 3), (4, 3), (4, 4), (4, 5), (5, 3)]
    users, items = np.array(block + chain).T
    assert k_core(users, items, 3).tolist() == [True] * 9 + [False] * 7


def test_nothing_is_left_of_too_little() -> None:
    assert core_of(frame([("u", "i", 5.0, 1), ("v", "i", 5.0, 1)]), 3).is_empty()
    assert core_of(frame([]), 3).is_empty()


@pytest.mark.parametrize(("count", "expected"), [(5, (3, 1, 1)), (19, (17, 1, 1)), (20, (16, 2, 2)), (39, (33, 3, 3))])
@pytest.mark.parametrize("kind", ["random", "temporal"])
def test_split_sizes_of_the_paper(count: int, expected: tuple[int, int, int], kind: str) -> None:
    parts = parts_of(np.array([count]), PARAMS.model_copy(update={"split": kind}))
    assert tuple(np.bincount(parts, minlength=3)[[TRAIN, VALIDATION, TEST]]) == expected


@given(counts_of_users, shares, shares, st.sampled_from(["random", "temporal"]), st.integers(0, 9))
def test_every_user_is_in_every_part_with_the_right_sizes(
    counts: np.ndarray, validation: float, test: float, kind: str, seed: int
) -> None:
    changed = {"split": kind, "validation_share": validation, "test_share": test, "seed": seed}
    parts = parts_of(counts, PARAMS.model_copy(update=changed))
    users = np.repeat(np.arange(len(counts)), counts)
    for part, share in ((VALIDATION, validation), (TEST, test)):
        np.testing.assert_array_equal(np.bincount(users[parts == part]), split_sizes(counts, share))
    assert (np.bincount(users[parts == TRAIN], minlength=len(counts)) >= 1).all()


def test_shares_that_binary_numbers_miss_are_still_met() -> None:
    assert split_sizes(np.array([100]), 0.29).tolist() == [29]  # 0.29 * 100 = 28.999999999999996


def test_the_temporal_split_holds_out_the_last() -> None:
    parts = parts_of(np.array([5, 20]), PARAMS.model_copy(update={"split": "temporal"}))
    assert parts.tolist() == [0] * 3 + [1, 2] + [0] * 16 + [1, 1, 2, 2]


def test_last_out_holds_out_the_last_and_the_last_but_one() -> None:
    parts = parts_of(np.array([3, 5, 20]), PARAMS.model_copy(update={"split": "last_out"}))
    assert parts.tolist() == [0, 1, 2] + [0] * 3 + [1, 2] + [0] * 18 + [1, 2]


@pytest.mark.parametrize(
    ("parts", "last_out"),
    [
        ([0, 0, 1, 2, 0, 1, 2], True),
        ([0, 1, 1, 2, 0, 1, 2], False),  # two validation items
        ([0, 1, 0, 2, 0, 1, 2], False),  # the validation item is not the last before the test
        ([0, 0, 1, 2, 0, 2, 1], False),
        ([0, 0, 1, 2, 0, 0, 1], False),  # no test item
    ],
)
def test_a_published_last_out_split_is_known(parts: list[int], last_out: bool) -> None:
    edges = pl.DataFrame({"user": [0] * 4 + [1] * 3, "timestamp": [1, 2, 3, 4, 1, 2, 3], "part": parts})
    assert is_last_out(edges) is last_out


def timestamp_split(times: list[int], given: object, per_second: int = 1) -> list[int]:
    params = PARAMS.model_copy(update={"split": "timestamp", "times": given, "test_share": 0.2})
    edges = pl.DataFrame({"user": 0, "item": range(len(times)), "timestamp": times})
    return Splitter(params, len(times), np.array(times), per_second)(edges).sort("item")["part"].to_list()


def test_the_timestamp_split_begins_each_part_at_its_time() -> None:
    first, second = PUBLISHED_TIMES
    times = [first - 1, first, second - 1, second, second + 1, 5]
    assert timestamp_split(times, "published", 1000) == [0, 1, 1, 2, 2, 0]
    # Whole seconds: 1628643414 lies before 1628643414.042.
    assert timestamp_split([1628643414, 1628643415, 1658002729, 1658002730], "published") == [0, 1, 1, 2]
    assert timestamp_split([1, 2, 3], (2000, 3000)) == [0, 1, 2]


def test_the_timestamp_split_by_shares_keeps_equal_times_together() -> None:
    assert timestamp_split(list(range(10)), "shares") == [0] * 7 + [1] + [2] * 2
    assert timestamp_split([0, 0, 0, 0, 1, 1, 2, 3, 3, 3], "shares") == [0] * 6 + [1] + [2] * 3


@pytest.mark.parametrize(("given", "part"), [("published", "validation"), ((0, 1), "train"), ((1, 9000), "train")])
def test_a_timestamp_split_with_an_empty_part_is_refused(given: object, part: str) -> None:
    with pytest.raises(InputError, match=f"no interaction for {part}.*set `clean.times` to shares"):
        timestamp_split([1, 2, 3], given)


def test_the_random_split_holds_out_every_position_alike() -> None:
    parts = parts_of(np.full(20_000, 5), PARAMS).reshape(-1, 5)
    for part, share in ((TRAIN, 0.6), (VALIDATION, 0.2), (TEST, 0.2)):
        np.testing.assert_allclose((parts == part).mean(axis=0), share, atol=0.015)
    assert not np.array_equal(parts, parts_of(np.full(20_000, 5), PARAMS.model_copy(update={"seed": 6})).reshape(-1, 5))


@st.composite
def dense_reviews(draw: st.DrawFn) -> pl.DataFrame:
    """Reviews of a few users on a few items, each pair once, in any order of lines and with equal times."""
    users, items = draw(st.integers(3, 6)), draw(st.integers(3, 6))
    pairs = [(u, i) for u in range(users) for i in range(items)]
    times = draw(st.lists(st.integers(0, 3), min_size=len(pairs), max_size=len(pairs)))
    rows = [(f"u{u}", f"i{i}", 5.0, time) for (u, i), time in zip(pairs, times, strict=True)]
    return frame(draw(st.permutations(rows)))


@given(dense_reviews())
def test_numbering_permutes_the_ids_and_keeps_every_review_once(reviews: pl.DataFrame) -> None:
    found = numbered_and_split(reviews)
    assert found.users["user"].to_list() == list(range(found.users.height))
    assert found.items["item"].to_list() == list(range(found.items.height))
    assert sorted(found.users["user_id"]) == sorted(set(reviews["user_id"]))
    assert sorted(found.items["item_id"]) == sorted(set(reviews["item_id"]))
    back = found.edges.join(found.users, on="user").join(found.items, on="item")
    columns = ["user_id", "item_id", "rating", "timestamp", "review"]
    assert sorted(back.select(columns).rows()) == sorted(reviews.select(columns).rows())
    order = found.edges.select("user", "timestamp", "item").rows()
    assert order == sorted(order)


def test_numbers_tell_nothing_of_the_order_of_ids_and_change_with_the_seed() -> None:
    reviews = frame([(f"u{u:02}", f"i{i:02}", 5.0, 0) for u in range(20) for i in range(20)])
    worlds = [numbered_and_split(reviews, seed=seed) for seed in (1, 2)]
    for name in ("user_id", "item_id"):
        first, second = (getattr(world, f"{name[:4]}s")[name].to_list() for world in worlds)
        assert first != second
        assert first != sorted(first)
        assert second != sorted(second)
    assert [name[1:] for name in worlds[0].users["user_id"]] != [name[1:] for name in worlds[0].items["item_id"]]


@given(dense_reviews(), st.integers(0, 3))
def test_item_numbers_do_not_depend_on_times_or_split(reviews: pl.DataFrame, shift: int) -> None:
    later = reviews.with_columns(pl.col("timestamp") * 7 + shift).reverse().with_columns(reviews["line"])
    found, other = numbered_and_split(reviews), numbered_and_split(later, split="temporal")
    assert found.items.equals(other.items)
    assert found.users.equals(other.users)


@given(dense_reviews(), st.data())
def test_which_item_is_held_out_leaves_no_trace_in_training(reviews: pl.DataFrame, data: st.DataObject) -> None:
    # One more user has every item and one that nobody else has, so that a swap below changes neither users nor items.
    everything = [("x", item, 5.0, 2) for item in [*sorted(set(reviews["item_id"])), "new"]]
    reviews = pl.concat([reviews, frame(everything).with_columns(pl.col("line") + reviews.height)])
    before = numbered_and_split(reviews)
    named = before.edges.join(before.users, on="user").join(before.items, on="item")
    held_out = named.filter((pl.col("part") != TRAIN) & (pl.col("user_id") != "x"))
    row = held_out.row(data.draw(st.integers(0, held_out.height - 1)), named=True)
    swapped = (pl.col("user_id") == row["user_id"]) & (pl.col("item_id") == row["item_id"])
    after = numbered_and_split(reviews.with_columns(item_id=pl.when(swapped).then(pl.lit("new")).otherwise("item_id")))
    assert before.users.equals(after.users)
    assert before.items.equals(after.items)
    assert before.edges.filter(pl.col("part") == TRAIN).equals(after.edges.filter(pl.col("part") == TRAIN))
    assert not before.edges.equals(after.edges)


@pytest.mark.parametrize(
    "change",
    [
        {"core": 2},
        {"validation_share": 0.5},
        {"test_share": 0.0},
        {"split": "leave-one-out"},
        {"seed": -1},
        {"split": "published", "cold_item_share": 0.1},
        {"times": (2, 1)},
    ],
)
def test_params_that_would_leave_a_user_without_training_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CleanParams.model_validate(PARAMS.model_dump() | change)
