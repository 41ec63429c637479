"""Pair features without the user's own edges: hand values, invariance, causality."""

import doctest

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from symbiosis.graph import pairs
from symbiosis.graph.attributes import memberships
from symbiosis.graph.build import Graph, build_graph
from symbiosis.graph.pairs import BUCKETS, PairFeatures, bucket_names
from symbiosis.graph.params import BuildGraphParams

USERS, ITEMS = 6, 7
NAMES = bucket_names()


def graph_of(edges: set[tuple[int, int]]) -> Graph:
    """A graph of 7 items: 0 and 1 of one brand, 1 and 2 of one category, 2 and 3 of two."""
    categories = [[], ["a"], ["a", "b", "c"], ["b", "c"], [], [], []]
    brands = ["x", "x", None, None, None, None, None]
    items = pl.DataFrame(
        {"item": range(ITEMS), "brand": brands, "categories": categories},
        schema={"item": pl.UInt32, "brand": pl.String, "categories": pl.List(pl.String)},
    )
    train = pl.DataFrame(sorted(edges), schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row")
    return build_graph(USERS, items, train, BuildGraphParams(minimum_group=2, maximum_group_share=1.0))


def told(graph: Graph, tokens: list[int]) -> dict[tuple[int, int], set[str]]:
    """Names of the buckets of every pair of places (query, key)."""
    _, query, key, buckets = PairFeatures(graph)(np.array([tokens]))
    return {(int(q), int(k)): {NAMES[b] for b in row if b} for q, k, row in zip(query, key, buckets, strict=True)}


def item(number: int) -> int:
    return USERS + number


# User 0 took items 0 to 3; users 1 and 2 took 0 and 1; user 3 took 1 and 4; user 4 took 4 and 2.
EDGES = {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (2, 0), (2, 1), (3, 1), (3, 4), (4, 4), (4, 2)}


def test_features_equal_the_hand_values() -> None:
    pairs_of = told(graph_of(EDGES), [0, item(0), item(1), item(2), item(3), 0])
    assert pairs_of[1, 1] == pairs_of[0, 0] == pairs_of[5, 0] == {"self"}
    assert pairs_of[2, 1] == {
        "other users of both: 2", "same brand: yes", "categories in common: 0", "hops between items: 2"
    }  # fmt: skip
    assert pairs_of[3, 2] == {  # by way of item 4: users 3 and 4
        "other users of both: 0", "same brand: no", "categories in common: 1", "hops between items: 4"
    }  # fmt: skip
    assert pairs_of[4, 3] == {
        "other users of both: 0", "same brand: no", "categories in common: over 1", "hops between items: over 4"
    }  # fmt: skip
    # The read-out position: item 0 is linked to item 1 by users 1 and 2, items 2 and 3 to none of the user's.
    assert pairs_of[5, 1] == {"paths from the user: 2", "hops from the user: 3"}
    assert pairs_of[5, 3] == {"paths from the user: 0", "hops from the user: over 3"}


def test_without_a_user_nobody_is_left_out() -> None:
    pairs_of = told(graph_of(EDGES), [item(0), item(1), item(2)])
    assert "other users of both: 3 to 4" in pairs_of[1, 0]
    assert "hops between items: 2" in pairs_of[2, 0]  # user 0 himself


def test_future_tokens_are_not_looked_at() -> None:
    graph = graph_of(EDGES)
    short, long = told(graph, [0, item(0), item(2)]), told(graph, [0, item(0), item(2), item(1), 0])
    assert "paths from the user: 0" in short[1, 0]
    assert {pair: names for pair, names in long.items() if max(pair) < 3} == short


@given(
    st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), min_size=3, max_size=25),
    st.sets(st.integers(0, ITEMS - 1), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_hidden_items_of_the_user_change_nothing(edges: set[tuple[int, int]], hidden: set[int]) -> None:
    """Whatever else the user took, the features of what his prompt shows stay the same."""
    shown = sorted(i for u, i in edges if u == 0)
    if not shown:
        return
    tokens = [0, *map(item, shown), 0]
    assert told(graph_of(edges), tokens) == told(graph_of(edges | {(0, i) for i in hidden}), tokens)


@given(st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), min_size=4, max_size=30))
@settings(max_examples=40, deadline=None)
def test_features_equal_those_of_the_graph_without_the_user(edges: set[tuple[int, int]]) -> None:
    shown = sorted(i for u, i in edges if u == 0)
    others = {(u, i) for u, i in edges if u != 0}
    if not shown or not others:
        return
    with_user = told(graph_of(edges), [0, *map(item, shown)])
    without = told(graph_of(others), list(map(item, shown)))
    assert {(q - 1, k - 1): names for (q, k), names in with_user.items() if min(q, k) > 0} == without


@given(
    st.sets(st.tuples(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1)), min_size=4, max_size=30),
    st.sets(st.integers(0, ITEMS - 1), min_size=2, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_newer_items_and_guests_get_the_features_of_the_graph_without_them(
    edges: set[tuple[int, int]], listed: set[int]
) -> None:
    """Whether the graph holds the edges of a row's user to all, some or none of its items makes no difference."""
    others = {(u, i) for u, i in edges if u != 0}
    if not others:
        return
    shown = sorted(listed)
    alone = told(graph_of(others), list(map(item, shown)))
    for known in (edges, others):
        named = told(graph_of(known), [0, *map(item, shown)])
        assert {(q - 1, k - 1): names for (q, k), names in named.items() if min(q, k) > 0} == alone


def test_added_users_and_items_have_no_edges_but_brands_and_categories() -> None:
    graph = graph_of(EDGES)
    new = pl.DataFrame(
        {"item": [0, 1], "brand": ["x", "unknown"], "categories": [["b", "c", "other"], None]},
        schema={"item": pl.UInt32, "brand": pl.String, "categories": pl.List(pl.String)},
    )
    groups = [
        memberships(new, kind, names) for kind, names in (("brand", graph.brands), ("category", graph.categories))
    ]
    more = PairFeatures(graph).extended(1, *groups)

    def thing(number: int) -> int:
        return USERS + 1 + number

    guest, first, second = USERS, thing(ITEMS), thing(ITEMS + 1)
    _, query, key, buckets = more(np.array([[guest, thing(0), thing(1), first, second, thing(2), guest]]))
    found = {(int(q), int(k)): {NAMES[b] for b in row if b} for q, k, row in zip(query, key, buckets, strict=True)}
    nothing = {"other users of both: 0", "categories in common: 0", "hops between items: over 4"}
    assert "other users of both: 3 to 4" in found[2, 1]  # users 0, 1 and 2: none of them is the guest
    assert found[3, 2] == nothing | {"same brand: yes"}
    assert found[4, 3] == nothing | {"same brand: no"}
    assert "categories in common: over 1" in found[5, 3]
    assert found[6, 1] == {"paths from the user: 3 to 4", "hops from the user: 3"}
    assert found[6, 3] == {"paths from the user: 0", "hops from the user: over 3"}
    rows = np.array([[0, item(0), item(1), item(2), 0], [3, item(1), item(4), -1, -1]])
    shifted = np.where(rows >= USERS, rows + 1, rows)
    for before, after in zip(PairFeatures(graph)(rows), more(shifted), strict=True):
        np.testing.assert_array_equal(before, after)


def test_rows_do_not_depend_on_each_other() -> None:
    features = PairFeatures(graph_of(EDGES))
    rows = np.array([[0, item(0), item(1), -1], [3, item(1), item(4), 3]])
    row, query, key, buckets = features(rows)
    for number in range(2):
        alone = features(rows[number : number + 1])
        chosen = row == number
        for ours, theirs in zip((query[chosen], key[chosen], buckets[chosen]), alone[1:], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_names_cover_the_buckets() -> None:
    assert len(NAMES) == BUCKETS == len(set(NAMES))


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(pairs)
    assert outcome.attempted >= 1
    assert outcome.failed == 0


def test_a_graph_without_pairs_has_no_common_users() -> None:
    assert "other users of both: 0" in told(graph_of({(0, 0), (1, 1)}), [item(0), item(1)])[1, 0]
