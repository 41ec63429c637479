"""Cleaning on disk: what comes out is what the steps in memory make of the same reviews, in however many partitions."""

from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from symbiosis.reporting.quality import Suite, Validation
from symbiosis.reviews.interactions import core_of, first_of_pairs, number, positives
from symbiosis.reviews.params import CleanParams
from symbiosis.reviews.records import REVIEW_SCHEMA
from symbiosis.reviews.splits import split
from symbiosis.reviews.streaming.cleaning import Cleaning
from symbiosis.reviews.streaming.spill import Buckets, Spill

PARAMS = CleanParams(
    seed=5,
    minimum_rating=4,
    core=3,
    split="random",
    validation_share=0.2,
    test_share=0.2,
    cold_item_share=0.0,
    graph_edges="train",
    maximum_rejected_share=0,
    require_titles=True,
)


class Unchecked(Validation):
    """Counts the reviews that it is shown."""

    def __init__(self) -> None:
        super().__init__(Suite("reviews", ()))
        self.shown = 0

    def add(self, frame: pl.DataFrame) -> None:
        self.shown += frame.height


rows = st.tuples(
    st.integers(0, 7).map("u{}".format),
    st.integers(0, 6).map("i{}".format),
    st.sampled_from([None, 2.0, 4.0, 5.0, 5.0]),
    st.integers(0, 9),
)
changes = st.sampled_from(
    [{}, {"split": "temporal"}, {"split": "last_out"}, {"cold_item_share": 0.3}, {"minimum_rating": 0, "core": 4}]
)


@settings(max_examples=30)
@given(st.lists(rows, max_size=120), changes, st.integers(3, 40), st.integers(1, 50))
def test_it_equals_the_steps_in_memory(
    reviews: list[tuple[str, str, float | None, int]], changed: dict[str, object], held: int, batch: int
) -> None:
    params = PARAMS.model_copy(update=changed)
    frame = pl.DataFrame([(3 * k + 1, *row, f"text {k}") for k, row in enumerate(reviews)], REVIEW_SCHEMA, orient="row")
    liked = positives(frame, params.minimum_rating)
    distinct = first_of_pairs(liked)
    core = core_of(distinct, params.core)
    with TemporaryDirectory() as folder:
        cleaning, quality = Cleaning(Path(folder), params, held), Unchecked()
        cleaning.take(frame[start : start + batch] for start in range(0, max(1, frame.height), batch))
        removed = cleaning.filter(quality)
        assert (removed.reviews, removed.liked, removed.distinct, removed.core) == (
            frame.height, liked.height, distinct.height, core.height
        )  # fmt: skip
        assert quality.shown == frame.height
        if core.is_empty():
            return
        users, items = cleaning.number()
        found = split(number(core, params.seed), params)
        assert users.equals(found.users)
        assert items.equals(found.items)
        assert pl.concat(cleaning.parts(1)).select(found.edges.columns).equals(found.edges)
        assert [path for path in Path(folder).rglob("*") if path.is_file()] == []


def test_a_timestamp_split_takes_its_times_from_all_partitions(tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"split": "timestamp", "times": "shares"})
    pairs = [(u, i) for u in range(6) for i in range(6)]
    frame = pl.DataFrame(
        [(k, f"u{u}", f"i{i}", 5.0, 7 * k % 36, None) for k, (u, i) in enumerate(pairs)], REVIEW_SCHEMA, orient="row"
    )
    cleaning = Cleaning(tmp_path, params, 7)
    cleaning.take([frame])
    cleaning.filter(Unchecked())
    cleaning.number()
    found = split(number(frame, params.seed), params)
    assert pl.concat(cleaning.parts(1)).select(found.edges.columns).equals(found.edges)


def test_all_of_a_user_are_in_one_partition_and_keep_their_order(tmp_path: Path) -> None:
    frame = pl.DataFrame([(k, f"u{k % 11}", f"i{k}", 5.0, 0, "text") for k in range(200)], REVIEW_SCHEMA, orient="row")
    spill = Spill(tmp_path, 30)
    spill.add(frame)
    spill.flush()
    partitions = list(spill.partitions())
    assert len(partitions) > 1
    users = [set(part["user_id"]) for part in partitions]
    assert sum(map(len, users)) == len(set.union(*users)) == 11
    assert all(part["line"].is_sorted() for part in partitions)
    assert spill.items()["item_id"].to_list() == sorted(frame["item_id"])
    assert pl.concat(spill.frames()).equals(frame)


def test_buckets_hold_ranges_of_users(tmp_path: Path) -> None:
    rows = pl.DataFrame({"user": [5, 0, 3, 2, 4, 1, 0], "x": range(7)}, schema_overrides={"user": pl.UInt32})
    buckets = Buckets(tmp_path, [0, 2, 4], rows=2)
    for start in range(0, 7, 3):
        buckets.add(rows[start : start + 3])
    assert [part["user"].to_list() for part in buckets] == [[0, 1, 0], [3, 2], [5, 4]]
