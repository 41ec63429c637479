"""Full ranking: exclusion, depth, ties; rankings and interactions read back from files."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.recommender.data.interactions import read_matrix, read_sizes
from symbiosis.recommender.metrics import ranking
from symbiosis.recommender.metrics.ranking import rank_all, read_ranking, top_items, without


def random_case(users: int, items: int, seed: int, share: float = 0.3) -> tuple[np.ndarray, csr_array]:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((users, items)).astype(np.float32)
    return scores, csr_array((rng.random((users, items)) < share).astype(np.float32))


@given(st.integers(1, 6), st.integers(1, 30), st.integers(1, 40), st.integers(0, 10**6))
def test_equals_sorting_each_user(users: int, items: int, depth: int, seed: int) -> None:
    scores, excluded = random_case(users, items, seed)
    for user, row in enumerate(top_items(scores, excluded, depth, seed)):
        candidates = np.flatnonzero(excluded.toarray()[user] == 0)
        expected = candidates[np.argsort(-scores[user, candidates])][:depth]
        assert row.tolist() == expected.tolist() + [-1] * (depth - len(expected))


def test_extreme_scores_keep_their_order() -> None:
    tiny = np.finfo(np.float32).tiny
    ascending = np.array([[-np.inf, -3e38, -1, -tiny, 0, tiny, 1, 3e38, np.inf]], np.float32)
    assert top_items(ascending, csr_array((1, 9)), 9, seed=0).tolist() == [list(range(9))[::-1]]


def test_the_two_zeros_tie() -> None:
    scores = np.zeros((400, 2), np.float32)
    scores[:, 0] = -0.0
    assert 150 < (top_items(scores, csr_array((400, 2)), 1, seed=0) == 0).sum() < 250


def test_ties_fall_in_every_order_equally_often() -> None:
    items, draws = 5, 3000
    scores = np.zeros((1, items), np.float32)
    rankings = np.concatenate([top_items(scores, csr_array((1, items)), items, seed) for seed in range(draws)])
    counts = np.array([np.bincount(rankings[:, place], minlength=items) for place in range(items)])
    # Binomial: draws / items in every cell, standard deviation 22.
    assert np.abs(counts - draws / items).max() < 4 * np.sqrt(draws / items * (1 - 1 / items))


def test_ties_differ_between_users_and_spread_over_all_items() -> None:
    shown = top_items(np.zeros((2000, 50), np.float32), csr_array((2000, 50)), 5, seed=3)
    counts = np.bincount(shown.ravel(), minlength=50)
    # Binomial: 200 on average, standard deviation 13.
    assert np.abs(counts - 200).max() < 4 * 13.5
    assert len(np.unique(shown, axis=0)) == 50


@given(st.integers(1, 20), st.integers(0, 100))
def test_ties_do_not_depend_on_the_block(block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(3, size=(20, 15)).astype(np.float32)
    _, excluded = random_case(20, 15, seed)
    whole = top_items(scores, excluded, 10, seed)
    users = rng.permutation(20)
    parts = [users[start : start + block] for start in range(0, 20, block)]
    pieces = [top_items(scores[part], excluded[part], 10, seed, part) for part in parts]
    np.testing.assert_array_equal(np.concatenate(pieces), whole[users])


def test_rank_all_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, excluded = random_case(50, 17, 5)
    whole = rank_all(lambda users: scores[users], excluded, 9, seed=1)
    np.testing.assert_array_equal(whole, top_items(scores, excluded, 9, seed=1))
    monkeypatch.setattr(ranking, "_CELLS", 17 * 4)
    monkeypatch.setattr(ranking, "_CELLS_IN_CACHE", 17 * 3)
    np.testing.assert_array_equal(rank_all(lambda users: scores[users], excluded, 9, seed=1), whole)
    some = np.array([40, 3, 17])
    np.testing.assert_array_equal(rank_all(lambda users: scores[users], excluded, 9, 1, users=some), whole[some])


def test_a_score_that_is_not_a_number_is_refused() -> None:
    scores = np.zeros((3, 4), np.float32)
    scores[1, 2] = np.nan
    with pytest.raises(InputError, match="user 8: the score of item 2 is not a number"):
        top_items(scores, csr_array((3, 4)), 2, 0, users=np.array([7, 8, 9]))


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="do not agree"):
        top_items(np.zeros((3, 4), np.float32), csr_array((3, 5)), 2, 0)


@given(st.integers(1, 5), st.integers(1, 25), st.integers(0, 10**6))
def test_dropping_items_later_equals_leaving_them_out_at_once(users: int, items: int, seed: int) -> None:
    scores, excluded = random_case(users, items, seed)
    rng = np.random.default_rng(seed + 1)
    later = csr_array(((rng.random((users, items)) < 0.2) & (excluded.toarray() == 0)).astype(np.float32))
    longest = int(np.diff(later.indptr).max())
    ranked = without(top_items(scores, excluded, 8 + longest, seed), later, 8)
    np.testing.assert_array_equal(ranked, top_items(scores, csr_array(excluded + later), 8, seed))


def damage(good: np.ndarray, change: str) -> np.ndarray:
    bad = good.copy()
    if change == "users":
        return bad[:-1]
    if change == "depth":
        return bad[:, :-1]
    if change == "type":
        return bad.astype(np.float32)
    if change == "range":
        bad[2, 1] = 30
    if change == "twice":
        bad[2, 1] = bad[2, 0]
    if change == "missing":
        bad[2, -1] = -1
    return bad


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("users", "ranks for 5 users, the data has 6"),
        ("depth", "9 places per user, 10 are needed"),
        ("type", "not int32"),
        ("range", r"items outside 0\.\.29"),
        ("twice", "an item twice"),
        ("missing", "leaves out items"),
    ],
)
def test_a_damaged_ranking_is_refused_by_name(change: str, fault: str, tmp_path: Path) -> None:
    scores, excluded = random_case(6, 30, 0)
    good = top_items(scores, excluded, 10, 0)
    path = tmp_path / "ranking.npy"
    np.save(path, good)
    np.testing.assert_array_equal(read_ranking(path, excluded, 10), good)
    np.save(path, damage(good, change))
    with pytest.raises(InputError, match=f"ranking.npy.*{fault}.*dvc repro"):
        read_ranking(path, excluded, 10)


def test_a_ranking_with_a_training_item_or_cut_short_is_refused(tmp_path: Path) -> None:
    scores, excluded = random_case(6, 30, 0)
    path = tmp_path / "ranking.npy"
    np.save(path, top_items(scores, csr_array((6, 30)), 30, 0)[:, :10])
    with pytest.raises(InputError, match=r"ranking\.npy: it names a training item"):
        read_ranking(path, excluded, 10)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"ranking\.npy is damaged"):
        read_ranking(path, excluded, 10)
    path.unlink()
    with pytest.raises(InputError, match=r"ranking\.npy is missing"):
        read_ranking(path, excluded, 10)


def test_interactions_become_a_sorted_matrix(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pl.DataFrame({"user": [2, 0, 2], "item": [3, 1, 0]}, schema={"user": pl.UInt32, "item": pl.UInt32}).write_parquet(
        path
    )
    matrix = read_matrix(path, (4, 5))
    assert matrix.dtype == np.float32
    assert matrix.indptr.tolist() == [0, 1, 1, 3, 3]
    assert matrix.indices.tolist() == [1, 0, 3]


@pytest.mark.parametrize(
    ("users", "items", "fault"),
    [
        ([0, 9], [1, 1], "user 9 is not one of the 4 in users"),
        ([0, 1], [1, 5], "item 5 is not one of the 5 in items"),
        ([0, None], [1, 1], "user None"),
        ([0, 0], [1, 1], "user 0 has item 1 more than once"),
    ],
)
def test_bad_interactions_are_refused(users: list[int], items: list[int], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pl.DataFrame({"user": users, "item": items}).write_parquet(path)
    with pytest.raises(InputError, match=f"train.parquet: {fault}"):
        read_matrix(path, (4, 5))


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"users\.parquet is missing"):
        read_sizes(tmp_path)
    (tmp_path / "users.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match=r"users\.parquet is damaged"):
        read_sizes(tmp_path)
    pl.DataFrame({"user": [1], "thing": [2]}).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"train\.parquet is damaged.*item"):
        read_matrix(tmp_path / "train.parquet", (4, 5))
