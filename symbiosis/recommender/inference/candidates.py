"""Which items may be recommended: what is in stock and wanted, by brand, category and price, and how many of a brand.

Names of brands and categories are compared whole, without regard to case. Every filter only ever takes candidates away.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import numpy as np
import polars as pl

from symbiosis.core.errors import quoted
from symbiosis.recommender.inference.asking import RecommendationRequest

NO_BRAND = -1


class Candidates:
    """The items of a catalogue with what requests filter them by.

    Parameters
    ----------
    items
        ``item_id``, ``brand`` and ``categories``, and ``price`` if it is known; one row an item, in order.
    find
        Gives the number of the item of a name, None if there is none; without it names are ``item_id`` alone.
    """

    def __init__(self, items: pl.DataFrame, find: Callable[[str], int | None] | None = None) -> None:
        self._items = items
        self._find = find or self._numbered.get
        self._brand_codes: dict[str, int] = {}
        names = items["brand"].to_list()
        self.brands = np.fromiter((self._code(name) for name in names), np.int32, len(names))

    def _code(self, brand: str | None) -> int:
        return self._brand_codes.setdefault(folded(brand), len(self._brand_codes)) if brand else NO_BRAND

    def __len__(self) -> int:
        """Return how many items there are."""
        return len(self._items)

    def of(self, request: RecommendationRequest, taken: np.ndarray | Sequence[int]) -> np.ndarray:
        """Return the candidates of a request.

        Parameters
        ----------
        request
            Its filters are used; ids that no item has count for nothing.
        taken
            Int, shape (taken,): items that are no candidates unless ``repeat_purchases``.

        Returns
        -------
        ndarray of bool
            Shape (I,).
        """
        kept = np.ones(len(self), dtype=bool)
        if request.allowed is not None:
            kept[:] = False
            kept[self._numbers(request.allowed)] = True
        if request.brands:
            kept &= np.isin(self.brands, [self._brand_codes.get(folded(name), -2) for name in request.brands])
        if request.categories:
            kept &= self._of_categories(request.categories)
        if request.price_from is not None:
            kept &= self._prices >= request.price_from  # an item without a price is NaN, which no comparison keeps
        if request.price_to is not None:
            kept &= self._prices <= request.price_to
        kept[self._numbers(request.excluded)] = False
        if not request.repeat_purchases:
            kept[np.asarray(taken, dtype=np.int64)] = False
        return kept

    def unknown(self, request: RecommendationRequest) -> list[str]:
        """Return what a request names and no item has, a few words each; empty if everything is known."""
        said = []
        for what, names, is_known in (
            ("item", (*(request.allowed or ()), *request.excluded), lambda name: self._find(name) is not None),
            ("brand", request.brands, lambda name: folded(name) in self._brand_codes),
            ("category", request.categories, lambda name: folded(name) in self._categories),
        ):
            missing = [name for name in names if not is_known(name)]
            if missing:
                others = f", nor {len(missing) - 1:,} more" if len(missing) > 1 else ""
                said.append(f"no {what} is called {quoted(missing[0])}{others}")
        return said

    def limited(self, ranked: np.ndarray, limit: int | None, count: int) -> np.ndarray:
        """Return the best list in which no brand has more than so many items.

        Taking every item that still fits, in order, is the best list item by item: whatever is left out has `limit`
        better ones of its own brand before it.

        Parameters
        ----------
        ranked
            Int, shape (candidates,): all of them, the best first.
        limit
            Of a brand; items without a brand are not limited. None: no limit.
        count
            Items at most.

        Returns
        -------
        ndarray of int
            Shape (at most count,): places in `ranked`, ascending.
        """
        places = np.arange(len(ranked))
        if limit is None:
            return places[:count]
        brands = self.brands[ranked]
        order = np.argsort(brands, kind="stable")
        of_brand = np.empty_like(places)
        of_brand[order] = places - np.searchsorted(brands[order], brands[order])
        return places[(brands == NO_BRAND) | (of_brand < limit)][:count]

    def _numbers(self, names: Iterable[str]) -> list[int]:
        return [number for name in names if (number := self._find(name)) is not None]

    def _of_categories(self, names: Iterable[str]) -> np.ndarray:
        kept = np.zeros(len(self), dtype=bool)
        for name in names:
            kept[self._categories.get(folded(name), [])] = True
        return kept

    @cached_property
    def _numbered(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self._items["item_id"].to_list())}

    @cached_property
    def _categories(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for item, names in enumerate(self._items["categories"].to_list()):
            for name in names or ():
                found.setdefault(folded(name), []).append(item)
        return found

    @cached_property
    def _prices(self) -> np.ndarray:
        if "price" not in self._items.columns:
            return np.full(len(self), np.nan)
        return self._items["price"].cast(pl.Float64).fill_null(np.nan).to_numpy()


def folded(name: str) -> str:
    """Return a name as it is compared: without case, its blanks single.

    Examples
    --------
    >>> folded("  Acme   TOOLS ")
    'acme tools'
    """
    return " ".join(name.casefold().split())
