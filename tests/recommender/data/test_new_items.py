"""Items that came after the training, as they are read."""

from pathlib import Path

import polars as pl
import pytest

from symbiosis.core.errors import InputError
from symbiosis.recommender.data.new_items import COLUMNS, checked_new_items, read_new_items


def test_lines_and_parquet_give_the_same_items(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text(
        '{"item_id": "N1", "title": "Lamp", "brand": "Acme", "categories": ["Home"], "price": 3}\n\n{"item_id": "N2"}\n'
    )
    read = read_new_items(tmp_path / "new.jsonl")
    assert read.schema == COLUMNS
    assert read.rows() == [("N1", "Lamp", "Acme", ["Home"], None, 3.0), ("N2", None, None, None, None, None)]
    read.write_parquet(tmp_path / "new.parquet")
    assert read_new_items(tmp_path / "new.parquet").equals(read)
    checked = checked_new_items(read.with_columns(shelf=7), {"B1"}, first=5)
    assert checked.columns == ["item", *COLUMNS]
    assert checked["item"].to_list() == [5, 6]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"new\.jsonl, line 2 is not valid JSON"),
        ("[1]", r"new\.jsonl, line 2 is no JSON object"),
        ("{}", r"new\.jsonl, line 2: `item_id` is None"),
        ('{"item_id": " "}', "line 2: `item_id` is ' '"),
        ('{"item_id": "N", "title": 3}', "line 2: `title` is 3"),
        ('{"item_id": "N", "categories": "Home"}', "line 2: `categories` is 'Home'"),
        ('{"item_id": "N", "price": "3"}', "line 2: `price` is '3'"),
        ('{"item_id": "N", "price": -1}', "line 2: `price` is -1"),
        ('{"item_id": "N", "price": true}', "line 2: `price` is True"),
    ],
)
def test_a_bad_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text('{"item_id": "N0"}\n' + line)
    with pytest.raises(InputError, match=message):
        read_new_items(tmp_path / "new.jsonl")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "new.parquet").write_bytes(b"PAR1")
    (tmp_path / "latin.jsonl").write_bytes(b'{"item_id": "\xe9"}')
    for name, message in {
        "new.parquet": "cannot be read",
        "latin.jsonl": "line 1 is not valid JSON .not UTF-8",
        "none.jsonl": "is missing",
        "new.csv": "convert it",
    }.items():
        with pytest.raises(InputError, match=message):
            read_new_items(tmp_path / name)


def test_ids_must_be_new() -> None:
    for ids, message in (
        (["B1"], "an item of the training"),
        (["N1", "N1"], "new item 2: 'N1' is the id of an earlier"),
    ):
        with pytest.raises(InputError, match=message):
            checked_new_items(pl.DataFrame({"item_id": ids}), {"B1"}, 1)
    with pytest.raises(InputError, match="no column `item_id`"):
        checked_new_items(pl.DataFrame({"title": ["Lamp"]}), set(), 0)
