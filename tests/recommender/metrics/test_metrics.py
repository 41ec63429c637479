"""Recall and NDCG: the spec's vectors, laws, and an independent slow version."""

import doctest
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.recommender.evaluation import evaluation
from symbiosis.recommender.metrics import metrics, ranking
from symbiosis.recommender.metrics.metrics import (
    DEPTH,
    HELD_OUT_SETS,
    NEXT_ITEM,
    Protocol,
    ndcg,
    places,
    protocol_of,
    protocol_with,
    ranking_depth,
    recall,
    reciprocal_rank,
)
from symbiosis.recommender.metrics.ranking import top_items


@pytest.mark.parametrize("module", [metrics, ranking, evaluation])
def test_examples_in_docstrings(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_vectors_by_hand() -> None:
    # docs/methods.md, section 1.8
    scores = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]], np.float32)
    train = csr_array(np.eye(1, 8))
    test = csr_array(np.array([[0, 1, 0, 0, 1, 0, 0, 1]]))
    ranked = top_items(scores, train, depth=8, seed=0)
    assert ranked.tolist() == [[1, 2, 3, 4, 5, 6, 7, -1]]
    assert recall(ranked, test, 2) == pytest.approx([1 / 2])
    assert recall(ranked, test, 4) == pytest.approx([2 / 3])
    assert ndcg(ranked, test, 4) == pytest.approx([0.67139], abs=5e-6)


def test_one_held_out_item_makes_recall_a_hit_rate() -> None:
    ranked = np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0]])
    held_out = csr_array(np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0]]))
    assert recall(ranked, held_out, 1).tolist() == [1, 0, 0]
    assert ndcg(ranked, held_out, 3) == pytest.approx([1, 1 / math.log2(4), 1 / math.log2(4)])


def test_the_next_item_by_hand() -> None:
    ranked = np.array([[5, 1, 2, 3, 4, 0, 6, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    held_out = csr_array((np.ones(2), ([0, 1], [2, 9])), shape=(2, 10))
    assert {name: metric(ranked, held_out).tolist() for name, metric in NEXT_ITEM.metrics.items() if name != "mrr"} == {
        "hr@5": [1, 0],
        "ndcg@5": [0.5, 0],
        "hr@10": [1, 1],
        "ndcg@10": [0.5, pytest.approx(1 / math.log2(11))],
    }
    assert reciprocal_rank(ranked, held_out, 10).tolist() == [pytest.approx(1 / 3), 0.1]
    assert NEXT_ITEM.score({"ndcg@10": 0.3, "hr@5": 9}) == 0.3


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, HELD_OUT_SETS), ('{"protocol": "random"}', HELD_OUT_SETS), ('{"protocol": "last_out"}', NEXT_ITEM)],
)
def test_the_protocol_is_that_of_the_split(content: str | None, expected: Protocol, tmp_path: Path) -> None:
    if content:
        (tmp_path / "protocol.json").write_text(content)
    assert protocol_of(tmp_path) is expected
    assert protocol_with([*expected.metrics, "coverage@20"]) is expected


@pytest.mark.parametrize("content", ['{"protocol": "other"}', "[]", "{}"])
def test_an_unknown_protocol_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "protocol.json").write_text(content)
    with pytest.raises(InputError, match=r"must name one of random, last_out: run `dvc repro clean`"):
        protocol_of(tmp_path)
    with pytest.raises(InputError, match="no known protocol"):
        protocol_with(["hr@5"])


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, csr_array, int]:
    """A ranking, padded here and there, the held-out items of its users, some without any, and a k."""
    users, items, seed = draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    ranked = np.argsort(rng.random((users, items)), axis=1)
    for row in ranked:
        row[rng.integers(items // 2, items + 1) :] = -1
    held_out = csr_array((rng.random((users, items)) < draw(st.sampled_from([0.1, 0.5, 1.0]))).astype(np.float32))
    return ranked, held_out, draw(st.integers(1, 15))


def slow(ranked: np.ndarray, held_out: csr_array, k: int) -> list[tuple[float, float]]:
    """Recall and NDCG, one user and one place at a time."""
    results = []
    for row, wanted in zip(ranked.tolist(), held_out.toarray(), strict=True):
        targets = set(np.flatnonzero(wanted).tolist())
        if not targets:
            results.append((math.nan, math.nan))
            continue
        gains = [1 / math.log2(place + 2) if item in targets else 0.0 for place, item in enumerate(row[:k])]
        ideal = sum(1 / math.log2(place + 2) for place in range(min(k, len(targets))))
        results.append((len(targets & set(row[:k])) / min(k, len(targets)), sum(gains) / ideal))
    return results


@given(cases())
def test_equals_the_slow_version(case: tuple[np.ndarray, csr_array, int]) -> None:
    ranked, held_out, k = case
    expected = np.array(slow(ranked, held_out, k))
    np.testing.assert_allclose(recall(ranked, held_out, k), expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(ndcg(ranked, held_out, k), expected[:, 1], rtol=1e-12)


@given(cases(), st.integers(0, 10**6))
def test_renumbering_users_and_items_changes_nothing(case: tuple[np.ndarray, csr_array, int], seed: int) -> None:
    ranked, held_out, k = case
    rng = np.random.default_rng(seed)
    users, items = rng.permutation(ranked.shape[0]), rng.permutation(ranked.shape[1])
    renamed = np.where(ranked == -1, -1, items[ranked])[users]
    moved = csr_array(held_out.toarray()[users][:, np.argsort(items)])
    for metric in (recall, ndcg):
        np.testing.assert_allclose(metric(renamed, moved, k), metric(ranked, held_out, k)[users], rtol=1e-12)


@given(cases())
def test_held_out_items_first_is_perfect_and_last_is_worst(case: tuple[np.ndarray, csr_array, int]) -> None:
    _, held_out, k = case
    wanted = held_out.toarray()
    has_any = wanted.any(axis=1)
    best, worst = np.argsort(-wanted, axis=1, kind="stable"), np.argsort(wanted, axis=1, kind="stable")
    for metric in (recall, ndcg):
        assert metric(best, held_out, k)[has_any] == pytest.approx(1)
        beyond = has_any & ((wanted == 0).sum(axis=1) >= k)
        assert metric(worst, held_out, k)[beyond] == pytest.approx(0)


@given(cases())
def test_what_follows_the_first_k_changes_nothing(case: tuple[np.ndarray, csr_array, int]) -> None:
    ranked, held_out, k = case
    for metric in (recall, ndcg):
        np.testing.assert_array_equal(metric(ranked[:, :k], held_out, k), metric(ranked, held_out, k))


def test_fewer_items_than_places() -> None:
    held_out = csr_array(np.array([[0, 1, 1], [1, 0, 0]]))
    assert HELD_OUT_SETS.means(np.array([[1, 2, 0], [0, 1, 2]]), held_out) == dict.fromkeys(HELD_OUT_SETS.metrics, 1.0)
    assert ranking_depth(held_out) == 3


def test_ranking_depth_leaves_room_for_the_validation_items() -> None:
    held_out = csr_array((np.ones(3), ([0, 0, 1], [4, 5, 4])), shape=(2, 500))
    assert ranking_depth(held_out) == DEPTH + 2


def test_users_without_held_out_items_do_not_count() -> None:
    held_out = csr_array(np.array([[1, 0], [0, 0]]))
    ranked = np.array([[1, 0], [0, 1]])
    assert np.isnan(HELD_OUT_SETS.per_user(ranked, held_out)["recall@20"]).tolist() == [False, True]
    assert HELD_OUT_SETS.means(ranked, held_out)["recall@20"] == 1
    with pytest.raises(ValueError, match="no user has a held-out item"):
        HELD_OUT_SETS.means(ranked, csr_array((2, 2)))


def test_a_ranking_too_short_to_tell_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a ranking \(1, 2\) cannot tell the first 3 of 5 items for 1 users"):
        places(np.array([[0, 1]]), csr_array((1, 5)), 3)
