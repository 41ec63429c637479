"""The bench of requests and reasons: ranks by hand, and words in the prompt."""

import numpy as np
import polars as pl
import pytest

from bench.free_text import ranks, requests_of
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer


def test_ranks_by_hand() -> None:
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 0.0]])
    taken = np.array([[True, False, False, False], [False, False, False, False]])
    assert ranks(scores, taken, np.array([2, 1])).tolist() == [2, 2]  # the taken one does not count; a tie of three


def test_the_request_stands_before_the_user_that_is_read_out() -> None:
    vocabulary = Vocabulary(train_tokenizer(["has interacted with garden gloves"] * 9, 300), 2, 2)
    prompts = Prompts(vocabulary, 5)
    (plain,), _ = prompts([1], [np.array([0])])
    (ids,), (last,) = prompts.asking("garden gloves")([1], [np.array([0])])
    assert ids[: len(plain) - 1].tolist() == plain[:-1].tolist()
    assert vocabulary.tokenizer.decode(ids[len(plain) - 1 : last].tolist()) == " garden gloves"
    assert ids[last] == vocabulary.user(1)


@pytest.mark.parametrize(
    ("kind", "expected"), [("category", ["Light", "", ""]), ("two words of the title", ["Desk Lamp", "", "Kite"])]
)
def test_requests_of_items(kind: str, expected: list[str]) -> None:
    items = pl.DataFrame(
        {"title": ["Desk Lamp", None, "A Kite"], "categories": [["Home", "Light"], None, []]},
        schema_overrides={"categories": pl.List(pl.String)},
    )
    found = requests_of(items, kind)
    assert [sorted(words.split()) for words in found] == [sorted(words.split()) for words in expected]
