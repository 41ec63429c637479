"""The text of an item, in the order of the items."""

import doctest
from pathlib import Path

import polars as pl

from symbiosis.recommender.data import item_texts as module
from symbiosis.recommender.data.item_texts import item_texts, read_items


def test_texts_are_in_the_order_of_the_items(tmp_path: Path) -> None:
    items = pl.DataFrame(
        {
            "item": [1, 0],
            "title": ["Kite", "Lamp"],
            "brand": [None, "Acme"],
            "categories": [None, ["Home", "", "Light"]],
            "description": ["Flies.", None],
        }
    )
    items.write_parquet(tmp_path / "items.parquet")
    read = read_items(tmp_path / "items.parquet")
    assert item_texts(read) == ["Lamp. Acme. Home. Light", "Kite. Flies."]
    assert item_texts(read, ["title", "brand"]) == ["Lamp. Acme", "Kite"]


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted >= 1
    assert not outcome.failed
