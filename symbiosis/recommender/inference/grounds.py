"""Reasons that are facts: what the training data and the items' texts say for a recommended item.

A reason names at most three facts, the most telling first: words that the item shares with the request, an item of the
user's own that others took together with it, a brand or a category in common, and, where nothing else is known, how
many took it. Nothing is generated: each fact can be counted again from ``train.parquet`` and ``items.parquet``.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from scipy.sparse import csc_array, csr_array

from symbiosis.recommender.data.item_texts import item_texts
from symbiosis.recommender.inference.candidates import NO_BRAND, Candidates, folded

MOST_FACTS, MOST_WORDS = 3, 5
LONGEST_TITLE = 60
"""Characters."""
_FEW = 2
"""Others who took two items: fewer are told after brand and category."""
_BROAD = 0.5
"""A category of a larger share of the items says nothing."""
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Fact:
    """One thing that speaks for an item.

    Attributes
    ----------
    kind
        ``words``: shared with the request; ``together``: others took it with `other`; ``brand``, ``category``: shared
        with `other`; ``popular``: many took it.
    text
        As it is told.
    other
        Number of the user's own item that it is about; None: of none.
    count
        Of users; None: nothing was counted.
    names
        The shared words, or the shared category.
    """

    kind: Literal["words", "together", "brand", "category", "popular"]
    text: str
    other: int | None = None
    count: int | None = None
    names: tuple[str, ...] = ()


class Grounds:
    """What speaks for items.

    Parameters
    ----------
    train
        (U, I): who took what. Items behind the last column are new: nobody took them.
    items
        ``item_id, title, brand, categories, description``, one row an item, in order.
    candidates
        Of the same items: their brands by number.
    """

    def __init__(self, train: csr_array, items: pl.DataFrame, candidates: Candidates) -> None:
        self._train, self._items, self._brands = train, items, candidates.brands

    def reason(self, item: int, own: Sequence[int], user: int | None = None, text: str | None = None) -> str:
        """Return a reason in one line; empty if nothing is known that speaks for the item.

        Parameters
        ----------
        item
            The recommended one.
        own
            What the user has, the newest last.
        user
            His number, so that he does not count among the others; None for a guest.
        text
            The request's words.
        """
        return "; ".join(fact.text for fact in self.facts(item, own, user, text))

    def facts(
        self, item: int, own: Sequence[int], user: int | None = None, text: str | None = None
    ) -> tuple[Fact, ...]:
        """Return what speaks for an item, the most telling first; see `reason`."""
        others = [one for one in dict.fromkeys(own) if one != item]
        together = self._together(item, others, user)
        by_many, by_few = (together, None) if together and (together.count or 0) >= _FEW else (None, together)
        ordered = (
            self._words(item, text),
            by_many,
            self._brand(item, others, by_many),
            self._category(item, others),
            by_few,
        )
        facts = tuple(fact for fact in ordered if fact is not None)[:MOST_FACTS]
        popular = None if facts else self._popular(item, user)
        return (*facts, popular) if popular else facts

    def _words(self, item: int, text: str | None) -> Fact | None:
        if text is None:
            return None
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        of_item = {_stem(word) for word in _WORD.findall(item_texts(self._items[item : item + 1])[0].casefold())}
        asked = dict.fromkeys(word for word in _WORD.findall(text.casefold()) if word not in ENGLISH_STOP_WORDS)
        shared = tuple(word for word in asked if _stem(word) in of_item)[:MOST_WORDS]
        return Fact("words", f"like your words: {', '.join(shared)}", names=shared) if shared else None

    def _together(self, item: int, others: Sequence[int], user: int | None) -> Fact | None:
        who = self._takers(item, user)
        known = np.array([one for one in others if one < self._train.shape[1]], dtype=np.int64)
        if not len(who) or not len(known):
            return None
        counts = np.bincount(self._train[who].indices, minlength=self._train.shape[1])[known]
        # Of two items taken together with it as often, the rarer one is the more telling.
        best = int(np.argmax(counts / np.sqrt(np.maximum(self._popularity[known], 1))))
        count, other = int(counts[best]), int(known[best])
        if not count:
            return None
        people = "1 other" if count == 1 else f"{count:,} others"
        return Fact("together", f"bought with {self._named(other)} by {people}", other, count)

    def _brand(self, item: int, others: Sequence[int], told: Fact | None) -> Fact | None:
        brand = self._brands[item]
        same = [one for one in others if brand != NO_BRAND and self._brands[one] == brand]
        if not same:
            return None
        if told is not None and told.other in same:  # its name was just given
            return Fact("brand", "same brand", told.other)
        return Fact("brand", f"same brand as {self._named(same[-1])}", same[-1])

    def _category(self, item: int, others: Sequence[int]) -> Fact | None:
        """Return the narrowest category that the item shares with one of the user's own."""
        for name in sorted(self._categories(item), key=lambda name: self._category_sizes[folded(name)]):
            if self._category_sizes[folded(name)] > _BROAD * len(self._items):
                break
            for one in reversed(others):
                if folded(name) in map(folded, self._categories(one)):
                    return Fact("category", f"same category: {name}", one, names=(name,))
        return None

    def _popular(self, item: int, user: int | None) -> Fact | None:
        count = len(self._takers(item, user))
        return Fact("popular", f"popular: bought by {count:,}", count=count) if count else None

    def _takers(self, item: int, user: int | None) -> np.ndarray:
        """Users who took an item, without the one who is asking."""
        if item >= self._train.shape[1]:
            return np.empty(0, dtype=np.int64)
        who: np.ndarray = self._by_item.indices[self._by_item.indptr[item] : self._by_item.indptr[item + 1]]
        return who if user is None else who[who != user]

    def _named(self, item: int) -> str:
        title = self._items["title"][item] or self._items["item_id"][item]
        return textwrap.shorten(str(title), LONGEST_TITLE, placeholder="...")

    @cached_property
    def _by_item(self) -> csc_array:
        return csc_array(self._train)

    @cached_property
    def _popularity(self) -> np.ndarray:
        return np.diff(self._by_item.indptr)

    def _categories(self, item: int) -> list[str]:
        names = self._items["categories"][item]
        return [] if names is None else names.to_list()

    @cached_property
    def _category_sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for names in self._items["categories"].to_list():
            for name in {folded(name) for name in names or ()}:
                sizes[name] = sizes.get(name, 0) + 1
        return sizes


def _stem(word: str) -> str:
    """Return a word without the ending of its plural."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
