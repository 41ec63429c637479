"""Laws of the linear heads: low-rank updates, forgetting, and arms that do not touch each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from symbiosis.routing.model.linear_heads import (
    LEAST_KEPT,
    REFRESH,
    LinearHeads,
    inverse_of,
    sherman_morrison,
    woodbury,
)


def blank(n_llms: int = 2, dimension: int = 4, penalty: float = 1.0) -> LinearHeads:
    return LinearHeads.blank(n_llms, dimension, 1, penalty)


@pytest.mark.parametrize(("precision", "tolerance"), [(np.float64, 1e-6), (np.float32, 1e-3)])
def test_ten_thousand_updates_equal_one_fit(precision: type, tolerance: float) -> None:
    """In both precisions of the weights; A_l and b_l are sums in float64."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((10_000, 16)) / 4, rng.standard_normal((10_000, 1))
    heads = blank(1, 16)
    heads.weights = heads.weights.astype(precision)
    for row in range(len(x)):
        heads.update(0, x[row], y[row])
    assert heads.weights.dtype == precision
    direct = np.linalg.inv(np.eye(16) + x.T @ x)
    assert np.abs(heads.weights[0, :, :16] - direct).max() <= tolerance * np.abs(direct).max()
    theta = direct @ x.T @ y
    assert np.abs(heads.weights[0, :, 16:] - theta).max() <= tolerance * np.abs(theta).max()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), scale=st.floats(1e-3, 1e3), n=st.integers(1, 300))
def test_the_inverse_stays_symmetric_and_positive_definite(seed: int, scale: float, n: int) -> None:
    rng = np.random.default_rng(seed)
    inverse = np.eye(5)
    for _ in range(n):
        sherman_morrison(inverse, scale * rng.standard_normal(5))
    np.testing.assert_array_equal(inverse, inverse.T)
    assert np.linalg.eigvalsh(inverse).min() > 0


@settings(max_examples=30)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 12))
def test_a_batch_equals_one_by_one(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 4)), rng.standard_normal((n, 1))
    single, batch = blank(), blank()
    for row in range(n):
        single.update(1, x[row], y[row])
    batch.update_batch(1, x, y)
    np.testing.assert_allclose(batch.weights, single.weights, rtol=1e-9, atol=1e-12)
    assert batch.updates.tolist() == [0, n]
    inverse = np.eye(4)
    gain = woodbury(inverse, x)
    np.testing.assert_array_equal(inverse, inverse.T)
    np.testing.assert_allclose(gain, inverse_of(np.eye(4) + x.T @ x) @ x.T, rtol=1e-9, atol=1e-12)


def test_an_empty_batch_changes_nothing_and_a_large_one_is_computed_afresh() -> None:
    heads = blank()
    heads.update_batch(0, np.empty((0, 4)), np.empty((0, 1)))
    np.testing.assert_array_equal(heads.weights, blank().weights)
    rng = np.random.default_rng(1)
    heads.update_batch(0, rng.standard_normal((REFRESH + 3, 4)), rng.standard_normal((REFRESH + 3, 1)))
    np.testing.assert_array_equal(heads.weights[0, :, :4], inverse_of(heads.precision[0]))


def test_an_observation_of_weight_four_counts_as_four() -> None:
    x, y = np.array([1.0, 0.5, -1.0, 2.0]), np.array([0.7])
    once, four = blank(), blank()
    once.update(0, x, y, weight=4.0)
    for _ in range(4):
        four.update(0, x, y)
    np.testing.assert_allclose(once.weights, four.weights, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("forgetting", [1.0, 0.9])
def test_llms_without_feedback_stay_as_they_are_to_the_last_bit(forgetting: float) -> None:
    rng = np.random.default_rng(2)
    heads = blank(3)
    heads.forgetting = forgetting
    heads.update(2, rng.standard_normal(4), np.ones(1))
    before = heads.copy()
    for _ in range(REFRESH + 5):
        heads.update(1, rng.standard_normal(4), np.ones(1))
    for name in ("precision", "moments", "weights"):
        np.testing.assert_array_equal(getattr(heads, name)[[0, 2]], getattr(before, name)[[0, 2]])


# ---------------------------------------------------------------- forgetting


def test_forgetting_weighs_by_age() -> None:
    """Before the first refresh A_l is the discounted sum, penalty included; the weights are its solution."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 1))
    heads = blank(1)
    heads.forgetting = 0.95
    for row in range(40):
        heads.update(0, x[row], y[row])
    share = 0.95 ** np.arange(39, -1, -1)
    precision = 0.95**40 * np.eye(4) + (share * x.T) @ x
    np.testing.assert_allclose(heads.precision[0], precision, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(heads.weights[0, :, 4:], np.linalg.solve(precision, (share * x.T) @ y), rtol=1e-7)
    heads.refresh(0)  # puts the whole penalty back
    np.testing.assert_allclose(heads.precision[0], precision + (1 - 0.95**40) * np.eye(4), rtol=1e-9, atol=1e-12)
    heads.refresh(0)
    np.testing.assert_allclose(heads.precision[0], precision + (1 - 0.95**40) * np.eye(4), rtol=1e-9, atol=1e-12)


def test_the_variance_of_an_llm_grows_while_only_others_answer_up_to_a_bound() -> None:
    x = np.array([[1.0, 0.0, 0.0, 0.0]])
    heads = blank()
    heads.forgetting = 0.99
    seen = [heads.predict(x)[1][0, 0]]
    for _ in range(600):
        heads.update(1, x[0], np.zeros(1))
        seen.append(heads.predict(x)[1][0, 0])
    assert (np.diff(seen) >= 0).all()
    assert seen[1] == pytest.approx(seen[0] / 0.99)
    assert seen[-1] == pytest.approx(seen[0] / LEAST_KEPT)
    # The next feedback of the LLM itself applies the same discount to what is known.
    heads.update(0, np.zeros(4), np.zeros(1))
    np.testing.assert_allclose(heads.precision[0], LEAST_KEPT * np.eye(4))
    assert heads.age.tolist() == [0, 1]


def test_only_heads_that_forget_follow_a_change() -> None:
    rng = np.random.default_rng(4)
    errors = {}
    for forgetting in (1.0, 0.98):
        heads = blank(1)
        heads.forgetting = forgetting
        for n in range(1000):
            x = rng.standard_normal(4)
            heads.update(0, x, np.array([x[0] if n < 700 else -x[0]]))
        errors[forgetting] = abs(float(heads.weights[0, 0, 4]) + 1)
    assert errors[0.98] < 0.05 < 0.5 < errors[1.0]


def test_copies_and_parts_share_nothing_and_keep_everything() -> None:
    heads = blank(3)
    heads.forgetting = 0.9
    heads.update(1, np.ones(4), np.ones(1))
    part = heads.take([2, 1]).extend(blank(1))
    assert part.updates.tolist() == [0, 1, 0]
    assert part.age.tolist() == [1, 0, 0]
    assert part.forgetting == 0.9
    np.testing.assert_array_equal(part.kept, [1, 0.9, 1])
    np.testing.assert_array_equal(part.penalty, np.ones((3, 4)))
    before = heads.copy()
    part.update(1, np.ones(4), np.ones(1))
    for name in ("precision", "moments", "weights", "age", "kept"):
        np.testing.assert_array_equal(getattr(heads, name), getattr(before, name))
