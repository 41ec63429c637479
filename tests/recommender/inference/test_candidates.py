"""Filters hold on any request, and a limit of a brand gives the best list there is."""

import itertools

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.recommender.inference.asking import RecommendationRequest
from symbiosis.recommender.inference.candidates import NO_BRAND, Candidates, folded
from symbiosis.recommender.metrics.ranking import NONE, top_items

BRANDS, CATEGORIES = ["Acme", "ACME", "Bolt & Co", "Zürich"], ["Garden", "Home Tools", "Toys"]
Row = tuple[str | None, list[str], float | None]
ROW = st.tuples(
    st.none() | st.sampled_from(BRANDS),
    st.lists(st.sampled_from(CATEGORIES), max_size=2, unique=True),
    st.none() | st.sampled_from([1.0, 5.0, 9.99, 20.0]),
)
CATALOGUE = st.lists(ROW, min_size=1, max_size=12)
NAMES = st.sampled_from([f"B{number}" for number in range(14)])
PRICE = st.none() | st.sampled_from([0.0, 4.0, 5.0, 15.0, 100.0])


@st.composite
def requests(draw: st.DrawFn) -> RecommendationRequest:
    low, high = draw(PRICE), draw(PRICE)
    if low is not None and high is not None:
        low, high = min(low, high), max(low, high)
    return RecommendationRequest(
        user="Ann",
        count=draw(st.integers(1, 6)),
        allowed=draw(st.none() | st.lists(NAMES, max_size=8).map(tuple)),
        excluded=draw(st.lists(NAMES, max_size=4).map(tuple)),
        brands=draw(st.lists(st.sampled_from([*BRANDS, " acme ", "nobody"]), max_size=2).map(tuple)),
        categories=draw(st.lists(st.sampled_from([*CATEGORIES, "home  TOOLS", "Home"]), max_size=2).map(tuple)),
        price_from=low,
        price_to=high,
        repeat_purchases=draw(st.booleans()),
        per_brand_limit=draw(st.none() | st.integers(1, 3)),
    )


def frame(rows: list[Row]) -> pl.DataFrame:
    ids = [f"B{number}" for number in range(len(rows))]
    brands, categories, prices = zip(*rows, strict=True)
    schema = {"item_id": pl.String, "brand": pl.String, "categories": pl.List(pl.String), "price": pl.Float64}
    return pl.DataFrame([ids, list(brands), list(categories), list(prices)], schema=schema)


def fits(number: int, row: Row, request: RecommendationRequest, taken: set[int]) -> bool:
    """The rules in words, item by item."""
    brand, categories, price = row
    name = f"B{number}"
    if request.allowed is not None and name not in request.allowed:
        return False
    if name in request.excluded or (number in taken and not request.repeat_purchases):
        return False
    if request.brands and (brand is None or folded(brand) not in map(folded, request.brands)):
        return False
    if request.categories and not {*map(folded, categories)} & {*map(folded, request.categories)}:
        return False
    if request.price_from is not None and (price is None or price < request.price_from):
        return False
    return not (request.price_to is not None and (price is None or price > request.price_to))


@given(CATALOGUE, requests(), st.sets(st.integers(0, 11)))
def test_candidates_are_those_that_fit_item_by_item(
    rows: list[Row], request: RecommendationRequest, taken: set[int]
) -> None:
    taken = {item for item in taken if item < len(rows)}
    found = Candidates(frame(rows)).of(request, np.array(sorted(taken), dtype=np.int64))
    assert found.tolist() == [fits(number, row, request, taken) for number, row in enumerate(rows)]


@given(st.lists(st.sampled_from([None, "Acme", "ACME", "Bolt"]), min_size=1, max_size=7), st.integers(1, 2), st.data())
def test_a_limit_of_a_brand_gives_the_best_of_all_lists(
    brands: list[str | None], limit: int, data: st.DataObject
) -> None:
    ranked = np.array(data.draw(st.permutations(range(len(brands)))))
    count = data.draw(st.integers(1, len(brands)))
    candidates = Candidates(frame([(brand, [], None) for brand in brands]))
    found = candidates.limited(ranked, limit, count).tolist()

    def allowed(places: tuple[int, ...]) -> bool:
        names = [folded(brands[ranked[place]] or "") for place in places if brands[ranked[place]]]
        return all(names.count(name) <= limit for name in names)

    lists = [places for size in range(count + 1) for places in itertools.combinations(range(len(ranked)), size)]
    best = max(filter(allowed, lists), key=lambda places: (len(places), [-place for place in places]))
    assert found == list(best)
    # Better item by item than any other list, whatever the scores: no list is better at any place.
    for places in filter(allowed, lists):
        assert all(mine <= its for mine, its in zip(found, places, strict=False))


@given(CATALOGUE, requests(), st.sampled_from(["allowed", "brands", "categories", "price_from", "price_to"]))
def test_a_filter_only_takes_away(rows: list[Row], request: RecommendationRequest, name: str) -> None:
    without = RecommendationRequest(
        **(vars(request) | {name: None if name.startswith("p") or name == "allowed" else ()})
    )
    candidates, none = Candidates(frame(rows)), np.empty(0, np.int64)
    assert (candidates.of(request, none) <= candidates.of(without, none)).all()


def test_ten_thousand_random_requests_keep_their_filters() -> None:
    rng = np.random.default_rng(3)
    rows: list[Row] = [
        (
            [None, *BRANDS, "Other"][rng.integers(6)],
            [name for name in CATEGORIES if rng.random() < 0.4],
            None if rng.random() < 0.2 else float(rng.integers(1, 60)),
        )
        for _ in range(60)
    ]
    candidates, scores = Candidates(frame(rows)), rng.standard_normal(60).astype(np.float32)
    filtered = short = 0
    for _ in range(10_000):
        low, high = sorted(float(price) for price in rng.integers(0, 60, 2))
        request = RecommendationRequest(
            user="Ann",
            count=int(rng.integers(1, 12)),
            allowed=tuple(f"B{item}" for item in rng.integers(0, 70, 30)) if rng.random() < 0.3 else None,
            excluded=tuple(f"B{item}" for item in rng.integers(0, 70, rng.integers(0, 8))),
            brands=tuple(rng.choice(BRANDS, rng.integers(0, 3))),
            categories=tuple(rng.choice(CATEGORIES, rng.integers(0, 3))),
            price_from=low if rng.random() < 0.3 else None,
            price_to=high if rng.random() < 0.3 else None,
            repeat_purchases=bool(rng.random() < 0.3),
            per_brand_limit=int(rng.integers(1, 4)) if rng.random() < 0.5 else None,
        )
        taken = rng.integers(0, 60, 5)
        kept = candidates.of(request, taken)
        ranked = top_items(scores[None], csr_array(~kept[None]), len(scores), 0)[0]
        ranked = ranked[ranked != NONE]
        listed = ranked[candidates.limited(ranked, request.per_brand_limit, request.count)].tolist()
        assert all(fits(item, rows[item], request, set(taken.tolist())) for item in listed)
        assert scores[listed].tolist() == sorted(scores[listed].tolist(), reverse=True)
        assert len(set(listed)) == len(listed) <= request.count
        brands = [folded(rows[item][0] or "") for item in listed if rows[item][0]]
        if request.per_brand_limit is not None:
            assert all(brands.count(name) <= request.per_brand_limit for name in brands)
        filtered += len(listed) > 0
        short += len(listed) < request.count
    assert filtered > 5_000  # most requests leave something to check
    assert short > 100


def test_what_no_item_has_is_named() -> None:
    candidates = Candidates(frame([("Acme", ["Garden"], None)]))
    asked = RecommendationRequest(
        user="Ann", allowed=("B0", "x", "y"), brands=("acme", "Nix"), categories=("GARDEN",), excluded=("B0",)
    )
    assert candidates.unknown(asked) == ["no item is called 'x', nor 1 more", "no brand is called 'Nix'"]
    assert candidates.unknown(RecommendationRequest(user="Ann")) == []


def test_data_without_prices_has_no_item_within_bounds() -> None:
    candidates = Candidates(frame([("Acme", [], 3.0), (None, [], None)]).drop("price"))
    none = np.empty(0, np.int64)
    assert candidates.of(RecommendationRequest(user="Ann"), none).all()
    assert not candidates.of(RecommendationRequest(user="Ann", price_to=1e9), none).any()
    assert candidates.brands.tolist() == [0, NO_BRAND]


@pytest.mark.parametrize("allowed", [(), ("unknown",)])
def test_an_empty_stock_leaves_nothing(allowed: tuple[str, ...]) -> None:
    request = RecommendationRequest(user="Ann", allowed=allowed)
    assert not Candidates(frame([("Acme", [], 3.0)])).of(request, np.empty(0, np.int64)).any()
