"""The graph's terms in the item logits: cross-fitted, without the user's own hidden items."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.graph.build import build_graph
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.cross_fitting import fit_propagation
from symbiosis.recommender.network.graph_terms import TERMS, Propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations

USERS, ITEMS = 30, 8
PARAMS = PropagationParams(seed=4, folds=5, alpha=0.4, neighbours=ITEMS)
BRANDS = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [0, 0], [0, 0], [0, 0]], dtype=np.float32)


def relations() -> Relations:
    texts = np.random.default_rng(7).normal(size=(ITEMS, 3)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return Relations(texts, csr_array(BRANDS), csr_array(np.eye(ITEMS, dtype=np.float32)))


def fitted(taken: np.ndarray, params: PropagationParams = PARAMS) -> Propagation:
    return fit_propagation(matrix(taken), relations(), params)


def walks(taken: np.ndarray) -> np.ndarray:
    """By the definition: from an item to one of its users, from him to another of his items."""
    taken = taken.astype(np.float64)
    to_user = taken.T / np.maximum(1, taken.sum(axis=0))[:, None]
    to_item = taken / np.maximum(1, taken.sum(axis=1))[:, None]
    links = to_user**PARAMS.alpha @ to_item**PARAMS.alpha
    np.fill_diagonal(links, 0)
    return links


def interactions(seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((USERS, ITEMS)) < 0.4).astype(np.float32)


def matrix(dense: np.ndarray) -> csr_array:
    return csr_array(dense.astype(np.float32))


def own(dense: np.ndarray, user: int) -> np.ndarray:
    return np.flatnonzero(dense[user])


@given(st.integers(0, USERS - 1), st.integers(0, ITEMS - 1))
@settings(max_examples=30, deadline=None)
def test_training_terms_do_not_contain_the_target(user: int, hidden: int) -> None:
    """Give a user one more training item, or take it: his terms from the same visible items stay the same bytes."""
    taken = interactions()
    other = taken.copy()
    other[user, hidden] = 1 - other[user, hidden]
    visible = [np.flatnonzero(np.delete(taken[user], hidden, 0))[:2]]
    first, second = fitted(taken), fitted(other)
    second = dataclasses.replace(second, units=first.units)
    terms = [propagation.cross_fitted(np.array([user]), visible) for propagation in (first, second)]
    assert np.array_equal(*terms)
    assert not np.array_equal(first.degrees[-1], second.degrees[-1])  # the whole does see it


def test_weights_fitted_on_the_users_own_row_would_know_the_target() -> None:
    """The test above can fail: with the weights of all users the hidden item changes its user's terms."""
    taken = interactions()
    taken[0] = [1, 1, 1, 0, 0, 0, 0, 0]
    other = taken.copy()
    other[0, 2] = 0
    visible = [np.array([0, 1])]
    first, second = (fitted(dense).terms(visible) for dense in (taken, other))
    assert first[0, 0, 2] > second[0, 0, 2]


def test_folds_part_the_users_evenly() -> None:
    folds = fitted(interactions()).folds
    assert np.bincount(folds).tolist() == [USERS // 5] * 5


def test_terms_equal_a_plain_computation() -> None:
    taken = interactions()
    propagation, common = fitted(taken), relations()
    users = np.array([3, 17, 4])
    visible = [own(taken, user)[:3] for user in users]
    units = propagation.units
    for row, user in enumerate(users):
        others = taken[propagation.folds != propagation.folds[user]]
        links, items = walks(others), visible[row]
        flows = [
            links[items].sum(axis=0),
            (links[items] @ links).sum(axis=0),
            (np.maximum(common.texts[items] @ common.texts.T, 0) ** 2).sum(axis=0),
            (BRANDS[items] @ BRANDS.T).sum(axis=0),
            np.isin(np.arange(ITEMS), items),
        ]
        strengths = [np.log1p(flow / unit) for flow, unit in zip(flows, units, strict=True)]
        degree = np.log1p(others.sum(axis=0) * USERS / len(others))
        terms = propagation.cross_fitted(users, visible)[:, row]
        np.testing.assert_allclose(terms, [*strengths, degree], rtol=1e-4, atol=1e-5)


def test_units_are_the_spread_of_cross_fitted_flows() -> None:
    taken = interactions()
    propagation = fitted(taken)
    links = [walks(taken[propagation.folds != fold]) for fold in range(PARAMS.folds)]
    spread = np.std([taken[user] @ links[propagation.folds[user]] for user in range(USERS)])
    assert propagation.units[0] == pytest.approx(spread, rel=1e-4)


def test_the_strongest_links_are_kept() -> None:
    full = fitted(interactions()).whole.toarray()
    few = fitted(interactions(), PARAMS.model_copy(update={"neighbours": 3})).whole.toarray()
    for item in range(ITEMS):
        np.testing.assert_array_equal(np.sort(few[item])[-3:], np.sort(full[item])[-3:])
        assert (few[item] > 0).sum() == 3


def test_groups_weigh_by_rarity_and_categories_share_a_length_of_one() -> None:
    """Four items: the first two share a rare category and, with the third, a wide one; the last has none."""
    frame = pl.DataFrame(
        {
            "item": [0, 1, 2, 3],
            "title": list("abcd"),
            "brand": ["x", "x", None, None],
            "categories": [["rare", "wide"], ["rare", "wide"], ["wide"], []],
            "description": [None] * 4,
        },
        schema_overrides={"description": pl.String},
    )
    params = BuildGraphParams(minimum_group=2, maximum_group_share=1.0)
    graph = build_graph(1, frame, pl.DataFrame({"user": [0, 0], "item": [0, 1]}), params)
    common = Relations.of(graph, np.zeros((4, 2), np.float32))
    _, brands, categories = flows = np.empty((3, 4, 4), np.float32)
    common.flows(csr_array(np.eye(4, dtype=np.float32)), flows)
    np.testing.assert_allclose(brands, np.pad(np.full((2, 2), np.log(4 / 2)), (0, 2)), rtol=1e-6)
    rare, wide = np.log(4 / 2), np.log(4 / 3)
    across = np.sqrt(wide / (rare + wide))
    expected = [[1, 1, across, 0], [1, 1, across, 0], [across, across, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(categories, expected, rtol=1e-6)


def test_a_user_without_items_has_no_strength() -> None:
    propagation = fitted(interactions())
    terms = propagation.terms([np.zeros(0, dtype=np.int64)])
    assert terms.shape == (len(TERMS), 1, ITEMS)
    assert not terms[:-1].any()


def test_save_load_gives_the_same_terms(tmp_path: Path) -> None:
    taken = interactions()
    propagation = fitted(taken)
    propagation.save(tmp_path)
    again = Propagation.load(tmp_path)
    users, items = np.arange(USERS), [own(taken, user) for user in range(USERS)]
    np.testing.assert_array_equal(propagation.cross_fitted(users, items), again.cross_fitted(users, items))
    np.testing.assert_array_equal(propagation.terms(items), again.terms(items))


@pytest.mark.parametrize(
    "name",
    ["whole.data.npy", "without_1.indptr.npy", "degrees.npy", "texts.npy", "brands.data.npy", "propagation.json"],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    fitted(interactions()).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name):
        Propagation.load(tmp_path)


def test_arrays_of_other_data_are_refused(tmp_path: Path) -> None:
    fitted(interactions()).save(tmp_path)
    np.save(tmp_path / "whole.indices.npy", np.full(3, 99, np.int32))
    with pytest.raises(InputError, match="whole"):
        Propagation.load(tmp_path)
    whole = fitted(interactions())
    whole.save(tmp_path)
    np.save(tmp_path / "whole.indices.npy", whole.whole.indices + np.int32(ITEMS))  # a product would write anywhere
    with pytest.raises(InputError, match="whole"):
        Propagation.load(tmp_path)
    whole.save(tmp_path)
    np.save(tmp_path / "degrees.npy", whole.degrees[:, 1:])
    with pytest.raises(InputError, match="degrees"):
        Propagation.load(tmp_path)


def test_gates_start_at_zero_and_weigh_the_terms() -> None:
    model = GraphGPT2(scratch_config(300, 8, 1, 1, 16, 0.0), USERS, ITEMS)
    terms, hidden = torch.randn(len(TERMS), 2, ITEMS), torch.randn(2, 8)
    assert not model.graph_logits(terms).any()
    assert not model.graph_logits(terms, hidden).any()
    with torch.no_grad():
        model.gates.copy_(torch.tensor([2.0, -1.0, 0.0, 0.0, 0.0, 0.0]))
        model.gating.weight[2, 0] = 3.0
    shared = 2 * terms[0] - terms[1]
    torch.testing.assert_close(model.graph_logits(terms), shared)
    torch.testing.assert_close(model.graph_logits(terms, hidden), shared + 3 * hidden[:, :1] * terms[2])
