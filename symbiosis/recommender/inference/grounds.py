"""Reasons that are facts: what the training data and the items' texts say for a recommended item.

A reason names at most three facts, the most telling first: words that the item shares with the request, an item of the
user's own that others took together with it, a brand or a category in common, and, where nothing else is known, how
many took it. Nothing is generated: each fact can be counted again from ``train.parquet`` and ``items.parquet``.
"""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from symbiosis.recommender.data.interactions import items_of
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

    def reasons(
        self, items: Sequence[int], own: Sequence[int], user: int | None = None, text: str | None = None
    ) -> list[str]:
        """Return the reason of each item in one line; empty if nothing is known that speaks for it.

        Parameters
        ----------
        items
            The recommended ones.
        own
            What the user has, the newest last.
        user
            His number, so that he does not count among the others; None for a guest.
        text
            The request's words.
        """
        return ["; ".join(fact.text for fact in found) for found in self.facts(items, own, user, text)]

    def facts(
        self, items: Sequence[int], own: Sequence[int], user: int | None = None, text: str | None = None
    ) -> list[tuple[Fact, ...]]:
        """Return what speaks for each item, the most telling first; see `reasons`."""
        own = list(dict.fromkeys(own))
        told = zip(items, self._words(items, text), self._taken_with(items, own, user), strict=True)
        return [self._facts(item, words, own, counts, user) for item, words, counts in told]

    def _facts(
        self, item: int, words: Fact | None, own: Sequence[int], counts: np.ndarray, user: int | None
    ) -> tuple[Fact, ...]:
        others = [one for one in own if one != item]
        together = self._together(own, np.where(np.equal(own, item), 0, counts))
        by_many, by_few = (together, None) if together and (together.count or 0) >= _FEW else (None, together)
        ordered = (
            words,
            by_many,
            self._brand(item, others, by_many),
            self._category(item, others),
            by_few,
        )
        facts = tuple(fact for fact in ordered if fact is not None)[:MOST_FACTS]
        popular = None if facts else self._popular(item, user)
        return (*facts, popular) if popular else facts

    def _words(self, items: Sequence[int], text: str | None) -> list[Fact | None]:
        if text is None:
            return [None] * len(items)
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        asked = dict.fromkeys(word for word in _WORD.findall(text.casefold()) if word not in ENGLISH_STOP_WORDS)
        facts: list[Fact | None] = []
        for its in item_texts(self._items[list(items)]):
            of_item = {_stem(word) for word in _WORD.findall(its.casefold())}
            shared = tuple(word for word in asked if _stem(word) in of_item)[:MOST_WORDS]
            facts.append(Fact("words", f"like your words: {', '.join(shared)}", names=shared) if shared else None)
        return facts

    def _taken_with(self, items: Sequence[int], own: Sequence[int], user: int | None) -> np.ndarray:
        """Count the users who took an item and one of the user's own, int (items, own), without the one who asks."""
        listed, mine = np.asarray(items, dtype=np.int64), np.asarray(own, dtype=np.int64)
        counts: np.ndarray = (self._takers[listed] @ self._takers[mine].T).toarray()
        if user is not None:
            his = items_of(self._train, user)
            counts -= np.isin(listed, his)[:, None] & np.isin(mine, his)
        return counts

    def _together(self, own: Sequence[int], counts: np.ndarray) -> Fact | None:
        if not counts.any():
            return None
        # Of two items taken together with it as often, the rarer one is the more telling.
        best = int(np.argmax(counts / np.sqrt(np.maximum(self._popularity[own], 1))))
        count, other = int(counts[best]), own[best]
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
        for name, written in self._categories[item].items():
            for one in reversed(others):
                if name in self._categories[one]:
                    return Fact("category", f"same category: {written}", one, names=(written,))
        return None

    def _popular(self, item: int, user: int | None) -> Fact | None:
        count = int(self._popularity[item])
        if user is not None:
            count -= int(item in items_of(self._train, user))
        return Fact("popular", f"popular: bought by {count:,}", count=count) if count else None

    def _named(self, item: int) -> str:
        title = self._items["title"][item] or self._items["item_id"][item]
        return textwrap.shorten(str(title), LONGEST_TITLE, placeholder="...")

    @cached_property
    def _takers(self) -> csr_array:
        """Who took an item, int32 (items, U), ones."""
        taken = self._train.tocoo()
        ones = np.ones(len(taken.row), dtype=np.int32)
        return csr_array((ones, (taken.col, taken.row)), shape=(len(self._items), self._train.shape[0]))

    @cached_property
    def _popularity(self) -> np.ndarray:
        return np.diff(self._takers.indptr)

    @cached_property
    def _categories(self) -> list[dict[str, str]]:
        """The categories of each item as they are compared and as they are written, the narrowest first, no broad one.

        Made once: folding names and reading lists out of the frame took an eighth of a request's time.
        """
        most = _BROAD * len(self._items)
        items = [_as_compared(names or ()) for names in self._items["categories"].to_list()]
        sizes = Counter(name for names in items for name in names)
        return [
            {name: names[name] for name in sorted(names, key=sizes.__getitem__) if sizes[name] <= most}
            for names in items
        ]


def _as_compared(names: Iterable[str]) -> dict[str, str]:
    """Return folded names with the first of each as it is written."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(folded(name), name)
    return found


def _stem(word: str) -> str:
    """Return a word without the ending of its plural."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
