"""Walks and their spread come out the same in however many blocks they are made."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import csr_array

from symbiosis.recommender.network import walks
from symbiosis.recommender.network.cross_fitting import Spread

taken = arrays(np.float32, (9, 6), elements=st.sampled_from([0.0, 0.0, 1.0]))


@given(taken, st.integers(1, 6), st.integers(1, 40))
def test_blocks_change_no_link(dense: np.ndarray, neighbours: int, at_once: int) -> None:
    train, ties = csr_array(dense), np.random.default_rng(0).permutation(6)
    whole = walks.walk_links(train, 0.4, 0.2, neighbours, ties)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walks, "_WALKS", at_once)
        parts = walks.walk_links(train, 0.4, 0.2, neighbours, ties)
    for name in ("data", "indices", "indptr"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@given(arrays(np.float32, (2, 12), elements=st.floats(-100, 100, width=32)), st.integers(1, 11))
def test_a_spread_in_blocks_is_that_of_all_numbers(values: np.ndarray, cut: int) -> None:
    spread = Spread(2)
    spread.add(values[:, None, :cut])
    spread.add(values[:, None, cut:])
    assert spread.deviations() == pytest.approx(values.std(axis=1, dtype=np.float64), rel=1e-9, abs=1e-9)
