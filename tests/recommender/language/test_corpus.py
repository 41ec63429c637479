"""The corpus: templates, harmless texts, sampled lists."""

import doctest

import numpy as np
import polars as pl

from symbiosis.graph.build import Graph
from symbiosis.recommender.language import corpus
from symbiosis.recommender.language.params import CorpusParams

PARAMS = CorpusParams(seed=3, reviews=True, second_order=True, items_per_list=2, lists_per_group=2, maximum_words=20)
ITEMS = pl.DataFrame(
    {
        "item": [0, 1, 2, 3],
        "title": ["Red lamp", None, "Card of <user_0>", "Kite"],
        "brand": ["Acme", "Acme", None, "Acme"],
        "categories": [["Home", "Light"], [], ["Cards"], ["Home"]],
        "description": ["A lamp. It glows.", None, "", "Flies"],
    },
    schema={
        "item": pl.UInt32,
        "title": pl.String,
        "brand": pl.String,
        "categories": pl.List(pl.String),
        "description": pl.String,
    },
)
TRAIN = pl.DataFrame(
    {
        "user": [0, 0, 1],
        "item": [0, 2, 3],
        "review": ["Came fast. The lamp is red and item_3 is not!", None, "user_1 says hi"],
    }
)


def graph() -> Graph:
    return Graph(
        user_offsets=np.array([0, 2, 3]),
        user_items=np.array([0, 2, 3], dtype=np.int32),
        item_offsets=np.array([0, 1, 1, 2, 3]),
        item_users=np.array([0, 0, 1], dtype=np.int32),
        brand_offsets=np.array([0, 3]),
        brand_items=np.array([0, 1, 3], dtype=np.int32),
        category_offsets=np.array([0, 2]),
        category_items=np.array([0, 3], dtype=np.int32),
        brands=("Acme",),
        categories=("Home",),
    )


def written(**changes: object) -> dict[str, list[tuple[str, str]]]:
    documents = pl.concat(corpus.corpus(ITEMS, [TRAIN], graph(), PARAMS.model_copy(update=changes)))
    kinds: dict[str, list[tuple[str, str]]] = {}
    for kind, prompt, text in documents.iter_rows():
        kinds.setdefault(kind, []).append((prompt, text))
    return kinds


def test_every_kind_has_its_template() -> None:
    kinds = written()
    assert kinds["title"][0] == ("The title of <item_0> is:", "Red lamp")
    assert kinds["brand"] == [(f"The brand of <item_{item}> is:", "Acme") for item in (0, 1, 3)]
    assert kinds["categories"][0] == ("The categories of <item_0> are:", "Home, Light")
    assert kinds["description"] == [
        ("The description of <item_0> is:", "A lamp. It glows."),
        ("The description of <item_3> is:", "Flies"),
    ]
    assert kinds["review"][0][0] == "<user_0> wrote the following review for <item_0>:"
    assert kinds["reason"] == [
        ("<user_0> explains the reason for purchasing <item_0>:", "The lamp is red and item 3 is not!")
    ]
    assert kinds["same_category"] == [(kinds["same_category"][0][0], "Home")]
    assert kinds["interactions"] == [
        ("<user_0> has interacted with", "<item_0> <item_2>"),
        ("<user_1> has interacted with", "<item_3>"),
    ]


def test_literal_tokens_in_texts_are_made_harmless() -> None:
    kinds = written()
    assert kinds["title"][1] == ("The title of <item_2> is:", "Card of user 0")
    assert [text for _, text in kinds["review"]] == [
        "Came fast. The lamp is red and item 3 is not!",
        "user 1 says hi",
    ]


def test_lists_are_sampled_without_repetition() -> None:
    ((prompt, text),) = written()["same_brand"]  # three items: one list of two, one too short
    assert text == "Acme"
    assert prompt.startswith("These items <item_")
    assert prompt.endswith("have the same brand:")
    assert len({word for word in prompt.split() if word.startswith("<item_")}) == 2


def test_kinds_can_be_left_out() -> None:
    assert not {"review", "reason", "same_brand", "same_category"} & set(written(reviews=False, second_order=False))


def test_texts_are_cut() -> None:
    assert all(len(text.split()) <= 3 for kind, rows in written(maximum_words=3).items() for _, text in rows)


def test_the_same_seed_gives_the_same_corpus() -> None:
    assert written() == written()


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(corpus)
    assert outcome.attempted >= 2
    assert outcome.failed == 0


def test_blocks_of_rows_and_documents_change_nothing() -> None:
    whole = pl.concat(corpus.corpus(ITEMS, [TRAIN], graph(), PARAMS))
    blocks = list(corpus.corpus(ITEMS, (TRAIN[k : k + 1] for k in range(len(TRAIN))), graph(), PARAMS, rows=3))
    assert [len(block) for block in blocks[:-1]] == [3] * (len(blocks) - 1)
    assert pl.concat(blocks).equals(whole)
