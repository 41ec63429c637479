"""Every fact of a reason is counted again from the data, by loops."""

import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.recommender.inference.candidates import Candidates
from symbiosis.recommender.inference.grounds import LONGEST_TITLE, MOST_FACTS, Fact, Grounds

ROWS: list[dict[str, Any]] = [
    {"title": "Red garden glove", "brand": "Acme", "categories": ["Goods", "Garden", "Gloves"], "description": "Warm."},
    {"title": "Blue garden gloves", "brand": "acme", "categories": ["Goods", "Garden", "Gloves"], "description": None},
    {"title": "Copper teapot", "brand": "Bolt", "categories": ["Goods", "Kitchen"], "description": "For two cups."},
    {"title": None, "brand": None, "categories": ["Goods", "Kitchen"], "description": None},
    {"title": "Tin whistle", "brand": None, "categories": [], "description": "It is loud."},
    {"title": "Garden hose", "brand": "Bolt", "categories": ["Goods", "Garden"], "description": None},
]
ITEMS = pl.DataFrame(
    [{"item_id": f"B{number}", **row} for number, row in enumerate(ROWS)],
    schema={"item_id": pl.String, "title": pl.String, "brand": pl.String, "categories": pl.List(pl.String),
            "description": pl.String},
)  # fmt: skip
TAKEN = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0]])
matrices = st.lists(st.lists(st.booleans(), min_size=6, max_size=6), min_size=1, max_size=6).map(np.array)


def grounds(taken: np.ndarray) -> Grounds:
    return Grounds(csr_array(taken.astype(np.float32)), ITEMS, Candidates(ITEMS))


def recounted(fact: Fact, item: int, taken: np.ndarray, own: list[int], user: int | None, text: str | None) -> bool:
    """Whether a fact holds, by the data alone."""
    mine, others = ROWS[item], [u for u in range(len(taken)) if u != user]
    if fact.kind == "popular":
        return fact.count == sum(bool(taken[u, item]) for u in others) > 0 and str(fact.count) in fact.text
    if fact.kind == "words":
        of_item = str([*mine.values()]).casefold()
        return text is not None and all(word in text.casefold() and word.rstrip("s") in of_item for word in fact.names)
    assert fact.other in own
    assert fact.other != item
    its = ROWS[fact.other]
    if fact.kind == "together":
        count = sum(bool(taken[u, item] and taken[u, fact.other]) for u in others)
        return fact.count == count > 0 and f"{its['title'] or f'B{fact.other}'} by {count} other" in fact.text
    if fact.kind == "brand":
        return mine["brand"].casefold() == its["brand"].casefold()
    return fact.names[0] in mine["categories"] and fact.names[0] in its["categories"] and fact.names[0] in fact.text


@given(
    matrices,
    st.lists(st.integers(0, 5), max_size=4),
    st.lists(st.integers(0, 5), max_size=4),
    st.none() | st.integers(0, 5),
    st.none() | st.sampled_from(["a garden glove", "cups for tea", "loud whistles", "the it is"]),
)
def test_no_fact_is_invented(
    taken: np.ndarray, items: list[int], own: list[int], user: int | None, text: str | None
) -> None:
    user = None if user is None or user >= len(taken) else user
    for item, found in zip(items, grounds(taken).facts(items, own, user, text), strict=True):
        assert len(found) <= MOST_FACTS
        assert len({fact.kind for fact in found}) == len(found)
        for fact in found:
            assert recounted(fact, item, taken, own, user, text), fact
        if not found:  # then nobody else has taken it: that is the last thing that would be told
            assert not any(taken[u, item] for u in range(len(taken)) if u != user)


@pytest.mark.parametrize(
    ("item", "own", "user", "text", "reason"),
    [
        (1, [0], None, None, "bought with Red garden glove by 3 others; same brand; same category: Gloves"),
        (1, [0], 0, None, "bought with Red garden glove by 2 others; same brand; same category: Gloves"),
        (3, [2], None, None, "same category: Kitchen; bought with Copper teapot by 1 other"),
        (5, [2], 3, None, "same brand as Copper teapot"),
        (5, [4, 2], None, "hoses!", "like your words: hoses; same brand as Copper teapot"),
        (2, [3], 4, "two of the cups", "like your words: cups; same category: Kitchen; bought with B3 by 1 other"),
        (4, [0], None, None, "popular: bought by 1"),
        (4, [0], 4, None, ""),
        (5, [4], None, None, ""),
        (0, [0], None, None, "popular: bought by 3"),
    ],
)
def test_the_most_telling_comes_first(
    item: int, own: list[int], user: int | None, text: str | None, reason: str
) -> None:
    assert grounds(TAKEN).reasons([item], own, user, text) == [reason]


def test_of_two_items_taken_as_often_with_it_the_rarer_one_is_named() -> None:
    taken = np.zeros((6, 6))
    taken[:2, [0, 3, 4]] = 1
    taken[2:, 3] = 1
    assert grounds(taken).facts([0], [3, 4])[0][0].other == 4


def test_a_category_of_most_items_says_nothing() -> None:
    found = grounds(np.zeros((1, 6))).facts([0], [2])[0]  # they share Goods alone
    assert found == ()


def test_a_new_item_was_taken_by_nobody() -> None:
    known = Grounds(csr_array(np.ones((3, 4), np.float32)), ITEMS, Candidates(ITEMS))
    assert known.reasons([5, 4], [0, 4]) == ["same category: Garden", ""]
    assert known.reasons([0], [5]) == ["same category: Garden"]


def test_a_long_title_is_shortened() -> None:
    items = ITEMS.with_columns(title=pl.lit("word " * 40))
    told = Grounds(csr_array(TAKEN.astype(np.float32)), items, Candidates(items)).reasons([1], [0])[0]
    assert re.match(r"bought with (word )+?word\.\.\. by 3 others", told)
    assert len(told.split(" by ")[0]) <= len("bought with ") + LONGEST_TITLE
