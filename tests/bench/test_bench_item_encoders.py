"""The bench of encoders: requests made by rule, and what is counted."""

import numpy as np
import polars as pl
import pytest

from bench.item_encoders import found, tasks

ITEMS = pl.DataFrame(
    {
        "item": [0, 1, 2],
        "title": ["Red Glove", "Blue Glove", None],
        "brand": ["Acme", "Acme", None],
        "categories": [["Garden", "Gloves"], ["Garden", "Gloves"], ["Kitchen"]],
        "description": ["A warm glove for cold days", "Blue glove", "Pours hot tea well"],
    },
    schema_overrides={"item": pl.UInt32},
)
REVIEWS = pl.DataFrame(
    {"item": [1, 2], "review": ["These gloves kept me dry", ""]}, schema_overrides={"item": pl.UInt32}
)


def test_requests_have_no_word_of_what_is_searched() -> None:
    made = tasks(ITEMS, REVIEWS, 10)
    assert made["category"].requests == ["Gloves"]
    assert made["category"].wanted == [[0, 1]]
    assert "categories" not in made["category"].index
    assert made["brand and category"].requests == ["Acme Gloves"]
    assert dict(zip(made["description"].requests, made["description"].wanted, strict=True)) == {
        "A warm for cold days": [0],
        "Pours hot tea well": [2],
    }
    assert made["review"].requests == ["These gloves kept me dry"]
    assert len(tasks(ITEMS, None, 1)["description"].requests) == 1
    assert "review" not in tasks(ITEMS, None, 1)


@pytest.mark.parametrize(
    ("scores", "wanted", "recall", "reciprocal"),
    [
        ([3.0, 2.0, 1.0], [0], 1, 1),
        ([3.0, 2.0, 1.0], [2], 1, 1 / 3),
        ([1.0, 1.0, 1.0], [1], 1, 1 / 2),  # in the middle of those that tie with it
        ([2.0, 1.0, 3.0], [0, 1], 1, 1 / 2),
        ([*range(30, 0, -1)], [0, 25], 1 / 2, 1),
    ],
)
def test_ranks(scores: list[float], wanted: list[int], recall: float, reciprocal: float) -> None:
    assert found(np.array(scores, dtype=float), wanted) == pytest.approx((recall, reciprocal))
