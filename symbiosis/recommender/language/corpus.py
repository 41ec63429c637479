"""The text corpus that pre-training reads: item contents, reviews, shared brands and categories, interactions.

Kinds of documents, with the talk's templates (docs/methods.md, section 1.3):

==================  =========================================================  ==========================
kind                prompt                                                     text
==================  =========================================================  ==========================
title               ``The title of <item_j> is:``                              the title
brand               ``The brand of <item_j> is:``                              the brand
categories          ``The categories of <item_j> are:``                        the categories
description         ``The description of <item_j> is:``                        the description
review              ``<user_i> wrote the following review for <item_j>:``      the review
reason              ``<user_i> explains the reason for purchasing <item_j>:``  a sentence of the review
same_brand          ``These items <item_j> <item_k> ... have the same brand:`` the brand
same_category       ``These items <item_j> ... are all in the category:``      the category
interactions        ``<user_i> has interacted with``                           ``<item_j> <item_k> ...``
==================  =========================================================  ==========================

Only training interactions and reviews are read. The order of the items of an `interactions` document means nothing:
training draws a new one each time.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
import polars as pl

from symbiosis.core.progress import tqdm
from symbiosis.graph.build import Graph
from symbiosis.recommender.data.item_texts import item_texts
from symbiosis.recommender.language.params import CorpusParams

SCHEMA = {"kind": pl.String, "prompt": pl.String, "text": pl.String}
_DOCUMENTS = 50_000  # held as Python objects before they become a compact frame
_TOKEN_LIKE = re.compile(r"<?\b(user|item)_(\d+)\b>?", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_WORD = re.compile(r"[a-z]{4,}")


def user_token(user: int) -> str:
    """Return the token of a user."""
    return f"<user_{user}>"


def item_token(item: int) -> str:
    """Return the token of an item."""
    return f"<item_{item}>"


def reason_prompt(user: int, item: int) -> str:
    """Return the prompt of a `reason`."""
    return f"{user_token(user)} explains the reason for purchasing {item_token(item)}:"


def harmless(text: str, maximum_words: int) -> str:
    """Cut a text to so many words and break whatever looks like a user or item token.

    >>> harmless("as <user_1> said of item_22,  fine", 5)
    'as user 1 said of'
    """
    return " ".join(_TOKEN_LIKE.sub(r"\1 \2", text).split()[:maximum_words])


def reason(review: str, about: str) -> str | None:
    """Return the first sentence of a review that names a word of the item's own content.

    The published explanation files hold sentences that mention a feature of the item; they are not part of the
    Amazon release, so they are drawn from the reviews in the same spirit.

    >>> reason("It came late. The gift card made her smile!", "Birthday Gift Card")
    'The gift card made her smile!'
    """
    words = set(_WORD.findall(about.lower()))
    for sentence in _SENTENCE.findall(review):
        if words & set(_WORD.findall(sentence.lower())):
            return str(sentence.strip())
    return None


def corpus(
    items: pl.DataFrame, train: Iterable[pl.DataFrame], graph: Graph, params: CorpusParams, rows: int = 1 << 20
) -> Iterator[pl.DataFrame]:
    """Write every document, so many at a time.

    Parameters
    ----------
    items
        Columns ``item, title, brand, categories, description``, one row an item, in order.
    train
        Training interactions, ``user, item, review``, in blocks of rows.
    graph
        The train-only graph, for the brand and category lists.
    params
        Lengths, kinds and the seed of the sampled lists.
    rows
        Documents of a block.

    Yields
    ------
    polars.DataFrame
        Columns ``kind, prompt, text``, one row a document, in a fixed order.
    """
    parts = [_contents(items, params.maximum_words)]
    if params.reviews:
        parts.append(_reviews(items, train, params.maximum_words))
    if params.second_order:
        parts.append(_lists(graph, params))
    documents = chain(*parts, _interactions(graph))
    frames: list[pl.DataFrame] = []
    while some := list(islice(documents, min(rows, _DOCUMENTS))):
        frames.append(pl.DataFrame(some, schema=SCHEMA, orient="row"))
        if sum(frame.height for frame in frames) >= rows:
            yield pl.concat(frames, rechunk=True)
            frames.clear()
    if frames:
        yield pl.concat(frames, rechunk=True)


def _contents(items: pl.DataFrame, maximum_words: int) -> Iterator[tuple[str, str, str]]:
    """Documents of kind (a)."""
    for row in tqdm(items.iter_rows(named=True), total=len(items), desc="contents", leave=False):
        token = item_token(row["item"])
        fields = {
            "title": ("title", "is", row["title"]),
            "brand": ("brand", "is", row["brand"]),
            "categories": ("categories", "are", ", ".join(row["categories"] or [])),
            "description": ("description", "is", row["description"]),
        }
        for kind, (name, verb, text) in fields.items():
            if text and (clean := harmless(text, maximum_words)):
                yield kind, f"The {name} of {token} {verb}:", clean


def _reviews(items: pl.DataFrame, train: Iterable[pl.DataFrame], maximum_words: int) -> Iterator[tuple[str, str, str]]:
    """Documents of kind (b)."""
    about = item_texts(items, ["title", "brand", "categories"])
    blocks = (block.select("user", "item", "review").drop_nulls().iter_rows() for block in train)
    for user, item, review in tqdm(chain.from_iterable(blocks), desc="reviews", leave=False):
        if clean := harmless(review, maximum_words):
            yield "review", f"{user_token(user)} wrote the following review for {item_token(item)}:", clean
        if (sentence := reason(review, about[item])) and (clean := harmless(sentence, maximum_words)):
            yield "reason", reason_prompt(user, item), clean


def _lists(graph: Graph, params: CorpusParams) -> Iterator[tuple[str, str, str]]:
    """Documents of kind (c): sampled lists, so that a large category gives several short ones."""
    groups = [
        ("same_brand", "have the same brand:", graph.brands, graph.brand_offsets, graph.brand_items),
        ("same_category", "are all in the category:", graph.categories, graph.category_offsets, graph.category_items),
    ]
    rng = np.random.default_rng(params.seed)
    for kind, phrase, names, offsets, members in groups:
        for name, start, stop in zip(names, offsets[:-1], offsets[1:], strict=True):
            shuffled = rng.permutation(members[start:stop])
            clean = harmless(name, params.maximum_words)
            for number in range(params.lists_per_group):
                chosen = shuffled[number * params.items_per_list : (number + 1) * params.items_per_list]
                if len(chosen) >= 2 and clean:
                    listed = " ".join(item_token(item) for item in chosen)
                    yield kind, f"These items {listed} {phrase}", clean


def _interactions(graph: Graph) -> Iterator[tuple[str, str, str]]:
    """Documents of kind (d)."""
    for user in range(graph.n_users):
        items = graph.user_items[graph.user_offsets[user] : graph.user_offsets[user + 1]]
        if len(items):
            yield "interactions", f"{user_token(user)} has interacted with", " ".join(map(item_token, items))
