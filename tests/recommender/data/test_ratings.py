"""Ratings: what is read, the simple predictor by hand, errors and their intervals."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.recommender.data.ratings import Ratings
from symbiosis.recommender.evaluation.rating_errors import rating_errors

TRAIN = np.array([[5, 3, 0], [4, 0, 0], [0, 2, 1]], dtype=np.float32)
HELD_OUT = np.array([[0, 0, 4], [0, 5, 0], [2, 0, 0]], dtype=np.float32)


def ratings() -> Ratings:
    return Ratings(csr_array(TRAIN), csr_array(HELD_OUT))


def write(folder: Path, part: str, table: np.ndarray, missing: bool = False) -> None:
    users, items = np.nonzero(table)
    stars = [
        None if missing and i == 0 else float(table[pair]) for i, pair in enumerate(zip(users, items, strict=True))
    ]
    frame = pl.DataFrame({"user": users, "item": items, "rating": stars}, schema_overrides={"rating": pl.Float32})
    frame.reverse().write_parquet(folder / f"{part}.parquet")


def test_reading(tmp_path: Path) -> None:
    write(tmp_path, "train", TRAIN)
    write(tmp_path, "validation", HELD_OUT)
    found = Ratings.read(tmp_path, (3, 3))
    np.testing.assert_array_equal(found.train.toarray(), TRAIN)
    np.testing.assert_array_equal(found.held_out.toarray(), HELD_OUT)
    assert found.mean == 3.0
    np.testing.assert_array_equal(found.of(np.array([2, 0]), np.array([1, 0])), [2, 5])
    write(tmp_path, "validation", HELD_OUT, missing=True)
    with pytest.raises(InputError, match=r"validation\.parquet: 1 of 3 interactions have no rating: set `finetune"):
        Ratings.read(tmp_path, (3, 3))


def test_biases_by_hand() -> None:
    """Item 1: (0 - 1) / (25 + 2); user 1: (1 - 3/27) / (10 + 1), as item 0 has (2 + 1) / (25 + 2)."""
    predicted = ratings().biases()
    assert predicted[1] == pytest.approx(3 - 1 / 27 + (1 - 3 / 27) / 11)


def test_errors_by_hand() -> None:
    table = np.array([[0, 0, 2], [0, 1, 0], [0, 0, 0]], dtype=np.float32)
    report = rating_errors(ratings(), {"ours": lambda users: table[users]}, 200, 0)
    assert report["ratings"] == 3
    ours, mean = report["methods"]["ours"], report["methods"]["mean rating"]
    assert ours["rmse"]["mean"] == pytest.approx(np.sqrt((1 + 1 + 1) / 3))
    assert ours["mae"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert mean["rmse"]["mean"] == pytest.approx(np.sqrt((1 + 4 + 1) / 3), abs=1e-5)
    assert mean["mae"]["low"] < mean["mae"]["mean"] < mean["mae"]["high"]
