"""One scorer for known users, newer clicks, guests and new items."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from scipy.sparse import csr_array

from symbiosis.graph.build import Graph, build_graph
from symbiosis.graph.distances import HopDistances
from symbiosis.graph.pairs import PairFeatures
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.data.interactions import items_of
from symbiosis.recommender.inference.scoring import History, Scorer
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.network.attention import AttentionBias, BiasMode
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.cross_fitting import fit_propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.network.newcomers import NewItems
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations

USERS, ITEMS, COLD, LISTED = 14, 11, 3, 6
OLD = ITEMS - COLD
"""The last items are without interactions: a model that was trained beside them, or one to which they are new."""
EVERYONE = np.arange(USERS)


def table() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item": range(ITEMS),
            "brand": ["x", "y", "x", None, "y", None, "x", None, "x", "y", "new"],
            "categories": [["a"], ["a", "b"], [], ["b"], ["a"], None, ["b"], ["a"], ["b"], ["a", "b"], []],
        },
        schema={"item": pl.UInt32, "brand": pl.String, "categories": pl.List(pl.String)},
    )


def texts() -> np.ndarray:
    vectors = np.random.default_rng(7).normal(size=(ITEMS, 3)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def interactions() -> csr_array:
    taken = np.random.default_rng(3).random((USERS, ITEMS)) < 0.45
    taken[:, OLD:] = False
    taken[:, 0] |= ~taken.any(axis=1)
    return csr_array(taken.astype(np.float32))


def graph() -> Graph:
    """Of the old items."""
    users, items = interactions().nonzero()
    edges = pl.DataFrame({"user": users, "item": items}, schema={"user": pl.UInt32, "item": pl.UInt32})
    return build_graph(USERS, table()[:OLD], edges, BuildGraphParams(minimum_group=2, maximum_group_share=1.0))


def distances(n_items: int) -> HopDistances:
    """By their definition on the bipartite graph: shortest paths, counted in hops."""
    train = interactions()[:, :n_items].toarray() > 0
    adjacent = np.block([[np.zeros((USERS, USERS)), train], [train.T, np.zeros((n_items, n_items))]]) > 0
    hops, reached = np.full(adjacent.shape, 255), np.eye(len(adjacent), dtype=bool)
    for step in range(len(adjacent)):
        hops[reached & (hops == 255)] = step
        reached = reached | ((reached.astype(int) @ adjacent) > 0)
    connectivity = np.concatenate([1 / (1 + np.arange(6)), np.zeros(250)]).astype(np.float32)
    return HopDistances(hops[:USERS, USERS:].astype(np.uint8), hops[USERS:, USERS:].astype(np.uint8), connectivity)


def new_items() -> NewItems:
    numbered = table()[OLD:].with_columns(item=pl.int_range(pl.len(), dtype=pl.UInt32))
    return NewItems.of(numbered, texts()[OLD:], graph())


def scorer(mode: BiasMode = "learned", terms: bool = True, n_items: int = OLD) -> Scorer:
    """Model with random weights; with `ITEMS` items it holds the cold ones, as mean items, else it never saw them."""
    vocabulary = Vocabulary(train_tokenizer(["has interacted with The user will"] * 9, 280), USERS, n_items)
    torch.manual_seed(1)
    whole = GraphGPT2(scratch_config(vocabulary.n_words, 16, 2, 2, 64, 0.0), USERS, ITEMS, torch.from_numpy(texts()))
    with torch.no_grad():
        for weights in (whole.gates, whole.gating.weight, whole.scalars.weight[1:], whole.collaborative.weight):
            weights.normal_()
        for weights in whole.backbone.parameters():  # those of a new network hardly look at the prompt
            weights.add_(torch.randn_like(weights), alpha=0.2)
        for table_of_ids in (whole.content.weight, whole.collaborative.weight):
            table_of_ids[USERS + OLD :] = table_of_ids[USERS : USERS + OLD].mean(0)
    kept = whole.state_dict()
    for name in ("content.weight", "collaborative.weight"):
        kept[name] = kept[name][: USERS + n_items]
    kept |= {name: kept[name][:n_items] for name in ("texts", "warm")}
    model = GraphGPT2(whole.config, USERS, n_items, torch.zeros(n_items, 3)).eval()
    model.load_state_dict(kept)
    new = new_items()
    pairs = PairFeatures(graph())
    bias = AttentionBias(mode, vocabulary.n_words, USERS, distances(n_items), None, model.scalars)
    if mode == "learned":
        more = pairs.extended(0, new.brands, new.categories)
        bias = replace(bias, pairs=pairs if n_items == OLD else more)
    propagation = None
    if terms:
        params = PropagationParams(seed=4, folds=2, alpha=0.4, neighbours=ITEMS)
        propagation = fit_propagation(interactions()[:, :OLD], Relations.of(graph(), texts()[:OLD]), params)
        propagation = propagation if n_items == OLD else propagation.extended(new)
    return Scorer(model, Prompts(vocabulary, LISTED), bias, propagation, seed=5)


def known(train: csr_array, users: np.ndarray = EVERYONE) -> list[History]:
    return [History(items_of(train, user), int(user)) for user in users]


MODES: list[BiasMode] = ["none", "ones", "paper", "learned"]


@pytest.mark.parametrize("terms", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_known_users_keep_their_scores_to_the_bit(mode: BiasMode, terms: bool) -> None:
    """Beside guests, and with new items."""
    train, plain = interactions()[:, :OLD], scorer(mode, terms)
    before = plain.scores(EVERYONE, train)
    np.testing.assert_array_equal(plain.extended().scores(EVERYONE, train), before)
    more = plain.extended(new_items()).prepared_for_histories()(known(train))
    np.testing.assert_allclose(more[:, :OLD], before, atol=1e-5)
    assert np.ptp(more[:, OLD:], axis=0).min() > 0  # the new ones are scored, by user


@pytest.mark.parametrize("mode", MODES)
def test_new_items_are_scored_as_mean_items_that_nobody_took(mode: BiasMode) -> None:
    """A model that holds the cold items, with the mean vector of the others, and one to which they come later."""
    beside = scorer(mode, n_items=ITEMS).extended().prepared_for_histories()
    later = scorer(mode).extended(new_items()).prepared_for_histories()
    session = np.array([2, OLD + 1, 4, OLD])
    asked = [*known(interactions()), History(newer=session), History(items_of(interactions(), 3), 3, session)]
    np.testing.assert_allclose(later(asked), beside(asked), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_a_guest_is_the_mean_user_whom_the_graph_does_not_know(mode: BiasMode) -> None:
    """The same model with one more user in its table, put together here."""
    plain = scorer(mode)
    state = plain.model.state_dict()
    for name in ("content.weight", "collaborative.weight"):
        mean = state["collaborative.weight"][:USERS].mean(0, keepdim=True)
        state[name] = torch.cat([state[name][:USERS], mean, state[name][USERS:]])
    model = GraphGPT2(plain.model.config, USERS + 1, OLD, torch.zeros(OLD, 3)).eval()
    model.load_state_dict(state)
    words = Vocabulary(plain.prompts.vocabulary.tokenizer, USERS + 1, OLD)
    items = np.array([4, 1, 6])
    train = interactions()[:, :OLD].toarray()
    lonely = csr_array(np.vstack([train, np.zeros(OLD, np.float32)]))
    bias = replace(plain.bias, n_users=USERS + 1)
    if mode == "learned":
        users, columns = lonely.nonzero()
        edges = pl.DataFrame({"user": users, "item": columns}, schema={"user": pl.UInt32, "item": pl.UInt32})
        group = BuildGraphParams(minimum_group=2, maximum_group_share=1.0)
        bias = replace(bias, pairs=PairFeatures(build_graph(USERS + 1, table()[:OLD], edges, group)))
    if mode == "paper":
        hops = distances(OLD)
        direct = np.ones((1, OLD), np.uint8)
        shown = np.minimum(hops.item_item, 2)  # by way of the guest
        bias = replace(bias, distances=HopDistances(np.vstack([hops.user_item, direct]), shown, hops.connectivity))
    by_hand = Scorer(model, Prompts(words, LISTED), bias, plain.propagation, seed=5)
    expected = by_hand.prepared_for_histories()([History(items, USERS)])
    # The order of a list means nothing, but that a learned bias goes by the items named so far.
    listed = np.random.default_rng([5, USERS]).permutation(np.sort(items))[::-1]
    found = plain.extended().prepared_for_histories()([History(newer=listed)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_newer_clicks_change_scores_and_repeated_ones_do_not(mode: BiasMode) -> None:
    score = scorer(mode).extended().prepared_for_histories()
    own = items_of(interactions(), 2)
    others = np.setdiff1d(np.arange(OLD), own)
    (before,) = score([History(own, 2)])
    (after,) = score([History(own, 2, others[:2])])
    assert np.abs(after - before).max() > 0.01
    (again,) = score([History(own, 2, own[:1])])
    np.testing.assert_array_equal(again, before)
    (repeated,) = score([History(own, 2, np.array([*others[:2], others[0], *others[:2]]))])
    np.testing.assert_allclose(repeated, after, atol=1e-5)


def test_the_newest_items_stand_in_a_prompt_that_is_too_short() -> None:
    plain = scorer(terms=False).extended()
    plain.prompts.maximum_items = 2
    score = plain.prepared_for_histories()
    last, whole = score([History(newer=np.array([5, 1])), History(newer=np.array([0, 3, 5, 1]))])
    np.testing.assert_allclose(whole, last, atol=1e-5)
    own = items_of(interactions(), 2)
    alone, after = score([History(own, 2), History(own, 2, np.setdiff1d(np.arange(OLD), own)[:1])])
    assert np.abs(after - alone).max() > 0.01


def test_an_empty_session_is_scored() -> None:
    assert np.isfinite(scorer().extended().prepared_for_histories()([History()])).all()


def test_a_scorer_without_a_guest_says_so() -> None:
    plain = scorer()
    with pytest.raises(ValueError, match="only an extended scorer"):
        plain.prepared_for_histories()([History(newer=np.array([1]))])
    with pytest.raises(ValueError, match="extended once"):
        plain.extended().extended()


def test_groups_of_new_items_are_weighted_as_in_training() -> None:
    """By hand: the cosine of weighted groups, rarity by the sizes in training."""
    relations = Relations.of(graph(), texts()[:OLD]).extended(new_items())
    names, rarity = graph().categories, np.log(OLD / np.diff(graph().category_offsets))
    rows = [set(row or []) for row in table()["categories"].to_list()]
    weights = np.array([[(name in row) * np.sqrt(rarity[n]) for n, name in enumerate(names)] for row in rows])
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    expected = np.divide(weights, lengths, out=np.zeros_like(weights), where=lengths > 0)
    np.testing.assert_allclose(relations.categories.toarray(), expected, atol=1e-6)
    assert relations.brands.toarray()[OLD:].sum(axis=1).tolist() == [1.0, 1.0, 0.0]  # the last is of no known brand
