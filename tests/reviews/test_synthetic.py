"""The generative model: exact sizes, structure that can be learnt, informative texts, the same bytes."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from symbiosis.reviews import text, vocabulary
from symbiosis.reviews.interactions import k_core
from symbiosis.reviews.params import CleanParams, SyntheticReviews
from symbiosis.reviews.splits import TEST, TRAIN, parts_of
from symbiosis.reviews.synthetic import BRANDS, CORE, DEPARTMENTS, GOOD, LEAVES, STYLES, World, generate
from symbiosis.reviews.synthetic_files import brand_name, plural, write_files

DEFAULT = SyntheticReviews(users=600, items=240, interactions=9000, drift=0.3)
SIZES = [
    SyntheticReviews(users=20, items=24, interactions=160, drift=0.5),
    SyntheticReviews(users=300, items=20, interactions=1800, drift=0),
    SyntheticReviews(users=30, items=250, interactions=1500, drift=1),
    SyntheticReviews(users=90, items=80, interactions=2400, drift=0.3),
    SyntheticReviews(users=2000, items=900, interactions=16_000, drift=0.3),
    DEFAULT,
]


@pytest.fixture(scope="module")
def world() -> World:
    return generate(DEFAULT, seed=7)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size.users}x{size.items}")
def test_exactly_what_was_asked_for_survives_the_filter_and_the_core(size: SyntheticReviews, seed: int) -> None:
    world = generate(size, seed)
    good = world.stars >= GOOD
    user, item = world.user[good], world.item[good]
    assert k_core(user, item, CORE).all()
    assert (len(np.unique(user)), len(np.unique(item)), len(user)) == (size.users, size.items, size.interactions)
    pairs = world.user * size.items + world.item
    assert len(np.unique(pairs)) == len(pairs)
    assert set(np.unique(world.stars)) <= {1, 2, 3, 4, 5}


@pytest.mark.parametrize("interactions", [599 * 6, 600 * 240 // 3 + 1])
def test_sizes_that_no_core_can_have_are_refused(interactions: int) -> None:
    with pytest.raises(ValidationError, match="interactions must lie from 3,600 .* to 48,000"):
        SyntheticReviews(users=600, items=240, interactions=interactions, drift=0)


def test_same_seed_same_world_and_other_seed_other_world(world: World) -> None:
    again, other = generate(DEFAULT, seed=7), generate(DEFAULT, seed=8)
    for name in ("user", "item", "stars", "timestamp"):
        np.testing.assert_array_equal(getattr(world, name), getattr(again, name))
    assert not np.array_equal(world.user, other.user)


def test_activity_and_popularity_have_heavy_tails(world: World) -> None:
    for column in (world.user, world.item):
        counts = np.sort(np.bincount(column))[::-1]
        assert counts[: len(counts) // 10].sum() > 0.2 * counts.sum()
        assert counts.max() > 2 * np.median(counts)


def test_users_rate_what_they_like_higher(world: World) -> None:
    goods, shoppers = world.goods, world.shoppers
    favourite = shoppers.favourites[world.user, 0] == goods.category[world.item]
    style = shoppers.style[world.user] == goods.style[world.item]
    department = goods.category[world.item] % goods.departments
    brand = shoppers.brand[world.user, department] == goods.brand[world.item]
    for match in (favourite, style, brand):
        assert world.stars[match].mean() > world.stars[~match].mean() + 0.3


def test_drift_orders_the_favourites_in_time() -> None:
    def correlation(drift: float) -> float:
        world = generate(DEFAULT.model_copy(update={"drift": drift}), seed=7)
        two = world.shoppers.liked[world.user] >= 2
        category = world.goods.category[world.item]
        first = world.shoppers.favourites[world.user, 0] == category
        second = world.shoppers.favourites[world.user, 1] == category
        chosen = two & (first | second)
        start = np.full(DEFAULT.users, np.inf)
        np.minimum.at(start, world.user, world.timestamp)
        age = (world.timestamp - start[world.user])[chosen]
        return float(np.corrcoef(age, second[chosen])[0, 1])

    assert abs(correlation(0)) < 0.05
    assert correlation(1) > 0.4


def recall_at_20(scores: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    ranked = np.argsort(np.where(train > 0, -np.inf, scores), axis=1)[:, :-21:-1]
    hits = np.take_along_axis(test, ranked, axis=1).sum(axis=1)
    return float((hits / np.minimum(20, test.sum(axis=1))).mean())


@pytest.mark.parametrize("size", [DEFAULT, SIZES[-2]], ids=["default", "sparse"])
def test_neighbours_beat_popularity_and_popularity_beats_chance(size: SyntheticReviews) -> None:
    world = generate(size, seed=7)
    params = CleanParams(
        seed=1,
        minimum_rating=GOOD,
        core=CORE,
        split="random",
        validation_share=0.1,
        test_share=0.1,
        cold_item_share=0.0,
        graph_edges="train",
        maximum_rejected_share=0,
        require_titles=True,
    )
    good = world.stars >= GOOD
    order = np.lexsort((world.timestamp[good], world.user[good]))
    user, item = world.user[good][order], world.item[good][order]
    parts = parts_of(np.bincount(user), params)
    train, test = (np.zeros((size.users, size.items)) for _ in range(2))
    train[user[parts == TRAIN], item[parts == TRAIN]] = 1
    test[user[parts == TEST], item[parts == TEST]] = 1
    norm = np.linalg.norm(train, axis=0) + 1e-9
    cosine = train.T @ train / norm / norm[:, None]
    np.fill_diagonal(cosine, 0)
    neighbours = recall_at_20(train @ cosine, train, test)
    popularity = recall_at_20(np.broadcast_to(train.sum(axis=0), train.shape), train, test)
    chance = recall_at_20(np.random.default_rng(0).random(train.shape), train, test)
    assert neighbours > 2 * popularity
    assert popularity > 1.5 * chance


@pytest.fixture(scope="module")
def files(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], list[dict]]:
    folder = tmp_path_factory.mktemp("synthetic")
    write_files(world, folder / "reviews.gz", folder / "metadata.gz", seed=7)
    reviews, metadata = (
        [json.loads(line) for line in gzip.decompress((folder / name).read_bytes()).splitlines()]
        for name in ("reviews.gz", "metadata.gz")
    )
    return reviews, metadata


def test_the_files_have_the_fields_of_the_release_of_2018(files: tuple[list[dict], list[dict]]) -> None:
    reviews, metadata = files
    assert {frozenset(record) for record in reviews} == {
        frozenset({"overall", "reviewerID", "asin", "unixReviewTime", "reviewText", "summary"})
    }
    assert {frozenset(record) for record in metadata} == {
        frozenset({"asin", "title", "brand", "category", "description", "price"})
    }
    assert len({record["reviewerID"] for record in reviews}) == 600
    assert {record["asin"] for record in reviews} == {record["asin"] for record in metadata}
    assert all(0 < record["unixReviewTime"] < 2**31 for record in reviews)


def test_the_files_hold_a_little_of_the_dirt_of_real_ones(files: tuple[list[dict], list[dict]]) -> None:
    reviews, metadata = files
    assert 0 < len(metadata) - 240 < 24
    assert 0 < sum(not record["brand"] for record in metadata) < 24
    assert 0 < sum(not record["description"] for record in metadata) < 48
    prices = [record["price"] for record in metadata]
    assert 0 < prices.count("") < 48
    assert any(" - $" in price for price in prices)
    assert any(price.startswith(".a-box") for price in prices)
    assert any("&amp;" in name for record in metadata for name in record["category"])
    pairs = Counter((record["reviewerID"], record["asin"]) for record in reviews)
    assert 0 < sum(count > 1 for count in pairs.values()) < 0.02 * len(reviews)


def test_most_items_have_a_price_and_those_of_a_category_are_near(files: tuple[list[dict], list[dict]]) -> None:
    priced = [(record["category"][2], text.price(record["price"])) for record in files[1]]
    logs = pl.DataFrame(priced, ["category", "price"], orient="row").drop_nulls().with_columns(pl.col("price").log())
    assert len(logs) > 0.8 * len(priced)
    within = logs.select(pl.col("price").std().over("category")).to_series().median()
    assert within < 0.5 * logs["price"].std()


def test_reviews_tell_the_taste_of_their_users(files: tuple[list[dict], list[dict]]) -> None:
    """A user's reviews praise one style only, his own, and many users name it at least twice."""
    reviews, _ = files
    styles = [style.lower() for style, _, _ in vocabulary.STYLES]
    named: dict[str, Counter[str]] = {}
    for record in reviews:
        named.setdefault(record["reviewerID"], Counter()).update(
            style for style in styles if f"This one is {style}" in record["reviewText"]
        )
    told = [counts for counts in named.values() if counts.total() >= 2]
    assert len(told) > 200
    assert all(len(counts) == 1 for counts in told)


def test_titles_tell_brand_style_and_goods(files: tuple[list[dict], list[dict]]) -> None:
    styles = {style for style, _, _ in vocabulary.STYLES}
    for record in files[1]:
        brand, style, rest = record["title"].split(" ", 2)
        assert record["brand"] in {"", brand}
        assert style in styles
        assert plural(rest.split(",")[0]) == record["category"][2]


def test_the_same_bytes_each_time(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_files(world, tmp_path / name / "reviews", tmp_path / name / "metadata", seed=7)
    for name in ("reviews", "metadata"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_vocabulary_has_a_name_for_everything_the_model_can_draw() -> None:
    goods = [noun for nouns in vocabulary.GOODS.values() for noun in nouns.split(", ")]
    assert len(vocabulary.GOODS) == DEPARTMENTS
    assert all(len(nouns.split(", ")) == LEAVES for nouns in vocabulary.GOODS.values())
    assert len({plural(noun) for noun in goods}) == DEPARTMENTS * LEAVES
    assert len(vocabulary.STYLES) == STYLES
    assert len({brand_name(d, b) for d in range(DEPARTMENTS) for b in range(BRANDS)}) == DEPARTMENTS * BRANDS
    assert len(vocabulary.PRAISE) == len(vocabulary.REGRET)
    assert [plural(word) for word in ("Teapot", "Tool Box", "Hair Brush", "Piano Bench", "Chef Knife")] == [
        "Teapots",
        "Tool Boxes",
        "Hair Brushes",
        "Piano Benches",
        "Chef Knives",
    ]
