"""The bench of scale: its source has the sizes that were asked for, its exponents are slopes, its page is whole."""

import io
from pathlib import Path

import pytest

from bench import scale, scale_source
from symbiosis.reviews.interactions import core_of, first_of_pairs, positives
from symbiosis.reviews.raw import METADATA, REVIEWS
from symbiosis.reviews.records import read_metadata, read_reviews


def test_the_source_is_near_its_size_after_the_filters(tmp_path: Path) -> None:
    written = scale_source.write(20_000, tmp_path)
    reviews, rejects = read_reviews(tmp_path / REVIEWS, io.StringIO(), 0)
    assert (reviews.height, rejects.counts.total()) == (written, 0)
    core = core_of(first_of_pairs(positives(reviews, 4)), 5)
    users, items = scale_source.sizes(20_000)
    assert core.height == pytest.approx(20_000, rel=0.05)
    assert core["user_id"].n_unique() > 0.97 * users
    assert core["item_id"].n_unique() > 0.97 * items
    known, _, counts = read_metadata(tmp_path / METADATA, io.StringIO(), 0, set(reviews["item_id"]))
    assert known.height == reviews["item_id"].n_unique()
    assert counts["titles"] == items


def test_the_source_gives_the_same_bytes_again(tmp_path: Path) -> None:
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        scale_source.write(3_000, tmp_path / name)
        made.append([(tmp_path / name / file).read_bytes() for file in (REVIEWS, METADATA)])
    assert made[0] == made[1]


ROWS = [
    {"stage": stage, "interactions": n, "cpu_s": 5 + (n / 1e4) ** power / 10, "peak_mib": 100}
    for stage, power in (("clean", 1.0), ("evaluate", 2.0))
    for n in (100, 10_000, 10**5, 10**6)
]


def test_exponents_are_slopes_without_the_start() -> None:
    assert scale.exponents(ROWS, "cpu_s") == {
        "clean": pytest.approx(1, abs=0.01), "evaluate": pytest.approx(2, abs=0.01)
    }  # fmt: skip
    assert scale.exponents(ROWS, "peak_mib") == {}


def test_the_page_names_every_stage() -> None:
    text = scale.render(ROWS)
    assert "<svg" in text
    assert all(name in text for name in ("clean", "evaluate", "1,000,000"))
