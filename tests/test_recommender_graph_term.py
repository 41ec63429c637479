"""The graph's terms in the item logits: cross-fitted, without the user's own hidden items."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.errors import InputError
from symbiosis.recommender.cross_fitting import fit_propagation
from symbiosis.recommender.params import PropagationParams
from symbiosis.recommender.propagation import TERMS, Propagation, flow

USERS, ITEMS = 30, 8
PARAMS = PropagationParams(seed=4, folds=5, l2=2.0, neighbours=ITEMS)


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
    first, second = (fit_propagation(matrix(dense), PARAMS) for dense in (taken, other))
    terms = [
        first.cross_fitted(np.array([user]), visible),
        Propagation(second.folds, second.without, second.whole, second.degrees, first.unit).cross_fitted(
            np.array([user]), visible
        ),
    ]
    assert np.array_equal(*terms)
    assert not np.array_equal(first.degrees[-1], second.degrees[-1])  # the whole does see it


def test_weights_fitted_on_the_users_own_row_would_know_the_target() -> None:
    """The test above can fail: with the weights of all users the hidden item changes its user's terms."""
    taken = interactions()
    taken[0] = [1, 1, 1, 0, 0, 0, 0, 0]
    other = taken.copy()
    other[0, 2] = 0
    visible = [np.array([0, 1])]
    first, second = (fit_propagation(matrix(dense), PARAMS).terms(visible) for dense in (taken, other))
    assert first[0, 0, 2] > second[0, 0, 2]


def test_folds_part_the_users_evenly() -> None:
    folds = fit_propagation(matrix(interactions()), PARAMS).folds
    assert np.bincount(folds).tolist() == [USERS // 5] * 5


def test_terms_equal_a_plain_computation() -> None:
    taken = interactions()
    propagation = fit_propagation(matrix(taken), PARAMS)
    users = np.array([3, 17, 4])
    visible = [own(taken, user)[:3] for user in users]
    for row, user in enumerate(users):
        others = taken[propagation.folds != propagation.folds[user]].astype(np.float64)
        inverse = np.linalg.inv(others.T @ others + PARAMS.l2 * np.eye(ITEMS))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        strength = np.log1p(np.maximum(weights[visible[row]].sum(axis=0), 0) / propagation.unit)
        degree = np.log1p(others.sum(axis=0) * USERS / len(others))
        terms = propagation.cross_fitted(users, visible)[:, row]
        np.testing.assert_allclose(terms, [strength, degree], rtol=1e-3, atol=1e-4)


def test_unit_is_the_spread_of_cross_fitted_flows() -> None:
    taken = interactions()
    propagation = fit_propagation(matrix(taken), PARAMS)
    flows = [flow([own(taken, u)], propagation.without[propagation.folds[u]]) for u in range(USERS)]
    assert propagation.unit == pytest.approx(np.std(flows), rel=1e-5)


def test_the_largest_incoming_weights_are_kept() -> None:
    full = fit_propagation(matrix(interactions()), PARAMS).whole.toarray()
    few = fit_propagation(matrix(interactions()), PARAMS.model_copy(update={"neighbours": 3})).whole.toarray()
    assert ((few != 0).sum(axis=0) == 3).all()
    for candidate in range(ITEMS):
        largest = np.argsort(-np.abs(full[:, candidate]))[:3]
        np.testing.assert_array_equal(few[largest, candidate], full[largest, candidate])


def test_a_user_without_items_has_no_strength() -> None:
    propagation = fit_propagation(matrix(interactions()), PARAMS)
    terms = propagation.terms([np.zeros(0, dtype=np.int64)])
    assert terms.shape == (TERMS, 1, ITEMS)
    assert not terms[0].any()


def test_save_load_gives_the_same_terms(tmp_path: Path) -> None:
    taken = interactions()
    propagation = fit_propagation(matrix(taken), PARAMS)
    propagation.save(tmp_path)
    again = Propagation.load(tmp_path)
    users, items = np.arange(USERS), [own(taken, user) for user in range(USERS)]
    np.testing.assert_array_equal(propagation.cross_fitted(users, items), again.cross_fitted(users, items))
    np.testing.assert_array_equal(propagation.terms(items), again.terms(items))


@pytest.mark.parametrize("name", ["whole.data.npy", "without_1.indptr.npy", "degrees.npy", "propagation.json"])
def test_damaged_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    fit_propagation(matrix(interactions()), PARAMS).save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=name):
        Propagation.load(tmp_path)


def test_arrays_of_other_data_are_refused(tmp_path: Path) -> None:
    fit_propagation(matrix(interactions()), PARAMS).save(tmp_path)
    np.save(tmp_path / "whole.indices.npy", np.full(3, 99, np.int32))
    with pytest.raises(InputError, match="whole"):
        Propagation.load(tmp_path)


def test_too_small_a_penalty_is_refused() -> None:
    twins = np.repeat(interactions()[:, :1], 2, axis=1)
    with pytest.raises(InputError, match="l2"):
        fit_propagation(matrix(twins), PARAMS.model_copy(update={"l2": 1e-9, "neighbours": 2}))


def test_gates_start_at_zero_and_weigh_the_terms() -> None:
    from symbiosis.recommender.model import GraphGPT2, scratch_config

    model = GraphGPT2(scratch_config(300, 8, 1, 1, 16, 0.0), USERS, ITEMS)
    terms = torch.randn(TERMS, 2, ITEMS)
    assert not model.graph_logits(terms).any()
    with torch.no_grad():
        model.gates.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(model.graph_logits(terms), 2 * terms[0] - terms[1])
