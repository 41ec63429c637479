"""Links between items and the terms made of them: known answers and brute force."""

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_array

from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.reranking import item_links
from symbiosis.recommender.reranking.candidate_terms import FEATURES, TERMS, CandidateTerms
from symbiosis.recommender.reranking.item_links import ItemContent, fit_links, strongest_links, two_steps

ITEMS = pl.DataFrame(
    {
        "title": ["red glove", "blue glove", "tin kettle", "tin whistle"],
        "brand": ["Acme", "Acme", None, "Bolt"],
        "categories": [["garden"], ["garden"], ["kitchen"], None],
        "description": [None] * 4,
    },
    schema_overrides={"description": pl.String},
)


def in_order(sequences: list[list[int]], n_items: int = 4) -> TrainingData:
    """Users who took these items, in this order."""
    rows = sorted((user, item, time) for user, row in enumerate(sequences) for time, item in enumerate(row))
    users, items, times = (np.array(column) for column in zip(*rows, strict=True))
    taken = csr_array((np.ones(len(rows), np.float32), (users, items)), shape=(len(sequences), n_items))
    return TrainingData(taken, times, ITEMS if n_items == 4 else None)


def terms_of(data: TrainingData, directed: bool = True) -> CandidateTerms:
    content = ItemContent.of(data, 0)
    everyone = np.arange(data.interactions.shape[0])
    links = fit_links(data.sequences(), everyone, content, directed, 0)
    return CandidateTerms(content, links, 0.5, np.full(len(TERMS) - 1, 2, np.float32))


def test_terms_by_hand() -> None:
    """Steps: 0>1 twice, 1>2 once, 0>2 once over an item between; from 0 they sum to 2.5."""
    found = terms_of(in_order([[0, 1, 2], [0, 1]])).terms([np.array([0, 1])])[:, 0]
    of = dict(zip(TERMS, found, strict=True))
    following = [0, 0.5 * 2 / 2.5**0.5, 0.5 * 0.5 / 2.5**0.5 + 1, 0]
    np.testing.assert_allclose(of["next recent"], np.log1p(np.array(following) / 2), rtol=1e-6)
    np.testing.assert_allclose(of["popularity"], np.log1p([2, 2, 1, 0]), rtol=1e-6)
    # Of one brand, which two of the four items have, are 0 and 1, the older of which counts half.
    np.testing.assert_allclose(of["brand recent"], np.log1p(np.array([1.5, 1.5, 0, 0]) * np.log(2) / 2), rtol=1e-6)
    np.testing.assert_allclose(of["brand last"], np.log1p(np.array([1, 1, 0, 0]) * np.log(2) / 2), rtol=1e-6)
    assert of["alike recent"][1] > of["alike recent"][3] == 0  # 0 and 1 share the word glove


def test_steps_follow_the_order_of_time() -> None:
    links = terms_of(in_order([[3, 0, 2], [3, 0]])).links
    expected = np.zeros((4, 4))
    expected[3, [0, 2]] = np.array([2, 0.5]) / 2.5**0.5
    expected[0, 2] = 1
    np.testing.assert_allclose(links.matrices["next"].toarray(), expected, rtol=1e-6)
    assert links.lasts.tolist() == [1, 0, 1, 0]


def test_the_best_are_proposed_and_described() -> None:
    rng = np.random.default_rng(0)
    data = in_order([rng.permutation(30)[:6].tolist() for _ in range(100)], 30)
    terms, weights = terms_of(data), np.linspace(0.1, 1, len(TERMS))
    histories = [data.sequences().indices[6 * user : 6 * user + 6] for user in range(90)]
    scores, proposed = terms.proposed(histories, weights, 5)
    np.testing.assert_allclose(scores, np.tensordot(weights, terms.terms(histories), 1), rtol=1e-4, atol=1e-5)
    for row, history in enumerate(histories):
        allowed = np.setdiff1d(np.arange(30), history)
        assert set(proposed[row]) == set(allowed[np.argsort(-scores[row, allowed])[:5]])
    described = terms.features(histories, proposed, scores)
    assert described.shape == (90, 5, len(FEATURES))
    of = dict(zip(FEATURES, np.moveaxis(described, 2, 0), strict=True))
    assert (np.diff(of["stage one"], axis=1) <= 0).all()
    np.testing.assert_array_equal(of["users"], terms.links.users[proposed])
    np.testing.assert_array_equal(of["users of the latest"][:, 0], terms.links.users[[row[-1] for row in histories]])
    walk = (terms.terms(histories)[TERMS.index("walk recent")]).astype(np.float64)
    np.testing.assert_allclose(np.log1p(of["walk recent"] / 2), np.take_along_axis(walk, proposed, 1), rtol=1e-5)
    assert of["walk recent share"].max(axis=1) == pytest.approx(1)


def test_without_direction_the_order_means_nothing() -> None:
    rows = [[0, 1, 2], [3, 1], [2, 0, 3]]
    one, other = (terms_of(in_order(part), directed=False).links for part in (rows, [row[::-1] for row in rows]))
    for name in item_links.LINKS:
        np.testing.assert_allclose(one.matrices[name].toarray(), other.matrices[name].toarray(), rtol=1e-6)
    assert not one.lasts.any()
    assert terms_of(in_order(rows)).links.lasts.tolist() == [0, 1, 1, 1]


def test_two_steps_equal_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    first, second = ((rng.random((20, 20)) * (rng.random((20, 20)) < 0.3)).astype(np.float32) for _ in range(2))
    monkeypatch.setattr(item_links, "_KEPT", 4)
    monkeypatch.setattr(item_links, "_ROWS", 7)
    found = two_steps(csr_array(first), csr_array(second)).toarray()
    expected = first @ second
    np.fill_diagonal(expected, 0)
    expected[expected < np.sort(expected, axis=1)[:, -4][:, None]] = 0
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_strongest_links_stay() -> None:
    links = csr_array(np.array([[0, 3, 1, 2], [5, 0, 5, 5], [0, 0, 0, 0], [1, 0, 0, 0]], np.float32))
    expected = [[0, 3, 0, 2], [5, 0, 5, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    assert strongest_links(links, 2).toarray().tolist() == expected


def test_a_part_of_the_users_counts_for_all() -> None:
    data = in_order([[0, 1], [0, 2], [3, 0], [2, 3]])
    links = fit_links(data.sequences(), np.array([0, 1]), ItemContent.of(data, 0), True, 0)
    assert links.users.tolist() == [4, 2, 2, 0]
