"""The re-ranker: what connects history and candidates, what a candidate sees, and what happens to the scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reranking_world import BACKBONE, N_ITEMS, N_USERS, WORDS, sequences, stage_one, vectors

from symbiosis.core.errors import InputError
from symbiosis.recommender.reranking.candidate_terms import FEATURES, TERMS
from symbiosis.recommender.reranking.network import CandidateBatch, NetworkConfig, RerankingNetwork
from symbiosis.recommender.reranking.pairs import CONNECTIONS, Connections, latest
from symbiosis.recommender.reranking.params import Connectivity
from symbiosis.recommender.reranking.proposals import Proposals
from symbiosis.recommender.reranking.reranker import Reranker, save_none
from symbiosis.recommender.reranking.stage_one import drawn_folds


def network(
    connectivity: Connectivity = "learned", *, features: bool = True, backbone: bool = True
) -> RerankingNetwork:
    torch.manual_seed(0)
    config = NetworkConfig(BACKBONE, True, connectivity, **WORDS, dropout=0.0)
    made = RerankingNetwork(config, torch.from_numpy(vectors())).eval()
    for name, weight in made.named_parameters():  # what says nothing at first shall say something here
        if "read_out" in name or "head" in name:
            torch.nn.init.normal_(weight, std=0.5)
    return made


def batch(rows: int = 3, count: int = 7, maximum: int = 5) -> CandidateBatch:
    rng = np.random.default_rng(8)
    items = np.stack([rng.permutation(N_ITEMS)[:count] for _ in range(rows)])
    history = latest([rng.permutation(N_ITEMS)[: row + 2] for row in range(rows)], maximum)
    connections = rng.random((rows, maximum, count, len(CONNECTIONS)), np.float32) * (history >= 0)[:, :, None, None]
    features = rng.random((rows, count, len(FEATURES)), np.float32)
    return CandidateBatch(*map(torch.from_numpy, (items, features, history, connections)))


def reranker(weight: float = 0.0, count: int = 12) -> Reranker:
    found = stage_one(sequences())
    return Reranker(Proposals(found.whole, found.weights, count, True, 2), [network(), network()], 5, weight)


def test_connections_are_the_entries_of_the_links() -> None:
    taken = sequences()
    terms = stage_one(taken).whole
    history, candidates = latest([np.array([3, 4]), np.array([7])], 3), np.array([[5, 6], [8, 7]])
    found = Connections(terms)(history, candidates)
    assert not found[:, 0].any()  # what fills up is connected with nothing
    for kind, name in enumerate(("walk", "long walk", "next", "previous", "text walk")):
        dense = np.log1p(50 * terms.links.matrices[name].toarray())
        np.testing.assert_allclose(found[0, 1:, :, kind], dense[np.ix_([3, 4], [5, 6])], rtol=1e-5)
        np.testing.assert_allclose(found[1, 2, :, kind], dense[7, [8, 7]], rtol=1e-5)
    text = np.maximum(vectors() @ vectors().T, 0)
    np.testing.assert_allclose(found[0, 1:, :, CONNECTIONS.index("text")], text[np.ix_([3, 4], [5, 6])], rtol=1e-5)


def test_a_hidden_item_is_connected_by_other_users_alone() -> None:
    """Another item in a user's row moves no connection that his own groups are learned with."""
    taken = sequences()
    changed = taken.copy()
    user = 11
    last = changed.indptr[user + 1] - 1
    changed.indices[last] = next(item for item in range(N_ITEMS) if item not in taken[[user]].indices)
    fold = drawn_folds(N_USERS, seed=2)[user]
    history, everything = latest([taken.indices[taken.indptr[user] : last]], 8), np.arange(N_ITEMS)[None]
    one, other = (Connections(stage_one(rows).without[fold])(history, everything) for rows in (taken, changed))
    np.testing.assert_array_equal(one, other)
    whole = [Connections(stage_one(rows).whole)(history, everything) for rows in (taken, changed)]
    assert not np.array_equal(whole[0], whole[1])


@pytest.mark.parametrize("connectivity", ["none", "ones", "paper", "learned"])
def test_a_candidate_sees_the_prompt_and_itself(connectivity: Connectivity) -> None:
    model, given = network(connectivity), batch()
    both = model(given)
    for place in (0, 4):
        alone = replace(
            given,
            items=given.items[:, place : place + 1],
            features=given.features[:, place : place + 1],
            connections=given.connections[:, :, place : place + 1],
        )
        torch.testing.assert_close(model(alone)[:, 0], both[:, place], rtol=1e-4, atol=1e-5)


def test_what_fills_up_changes_nothing() -> None:
    model, given = network(), batch(maximum=5)
    wider = replace(
        given,
        history=torch.nn.functional.pad(given.history, (2, 0), value=-1),
        connections=torch.nn.functional.pad(given.connections, (0, 0, 0, 0, 2, 0)),
    )
    # The latest item has the same place from the end, so positions are moved along with what fills up.
    moved = model.backbone.wpe.weight.data.clone()
    moved[4:] = model.backbone.wpe.weight.data[2:-2]
    expected = model(given)
    model.backbone.wpe.weight.data = moved
    torch.testing.assert_close(model(wider), expected, rtol=1e-4, atol=1e-5)


def test_connectivity_is_what_tells_candidates_apart() -> None:
    """The same candidate twice: only R can make a difference, and only in the modes that read it."""
    given = batch(rows=1, count=2)
    twice = replace(given, items=given.items[:, :1].repeat(1, 2), features=given.features[:, :1].repeat(1, 2, 1))
    linked = twice.connections.clone()
    linked[:, :, 0, :2] = 0  # no walk to the first
    for connectivity, differs in (("none", False), ("ones", False), ("paper", True), ("learned", True)):
        scores = network(connectivity)(replace(twice, connections=linked))[0].tolist()  # type: ignore[arg-type]
        assert (abs(scores[0] - scores[1]) > 1e-5) == differs, connectivity


def test_it_starts_with_the_order_of_stage_one() -> None:
    torch.manual_seed(0)
    model = RerankingNetwork(
        NetworkConfig(BACKBONE, True, "learned", **WORDS, dropout=0.0), torch.from_numpy(vectors())
    )
    given = batch()
    torch.testing.assert_close(model(given), given.features[..., FEATURES.index("stage one")])


def test_the_scores_of_candidates_change_hands() -> None:
    one = reranker()
    histories = [np.array([3, 4, 5]), np.array([20]), np.zeros(0, np.int64)]
    scores = np.random.default_rng(1).normal(size=(3, N_ITEMS + 2)).astype(np.float32)
    found = one.reordered(scores, histories)
    assert (np.sort(found, axis=1) == np.sort(scores, axis=1)).all()
    np.testing.assert_array_equal(found[2], scores[2])  # nothing to go by
    np.testing.assert_array_equal(found[:, N_ITEMS:], scores[:, N_ITEMS:])  # items it does not know
    candidates, judged = one.judged(histories[:2])
    for row, history in enumerate(histories[:2]):
        np.testing.assert_array_equal(found[row, history], scores[row, history])
        movable = [item for item in candidates[row] if one.known[item] and item not in history]
        best = dict(zip(candidates[row], judged[row], strict=True))
        by_network = sorted(movable, key=lambda item: -best[item])
        assert [float(x) for x in found[row, by_network]] == sorted(map(float, scores[row, movable]), reverse=True)
        others = np.setdiff1d(np.arange(N_ITEMS), movable)
        np.testing.assert_array_equal(found[row, others], scores[row, others])


def test_a_large_weight_keeps_the_order() -> None:
    scores = np.random.default_rng(1).normal(size=(1, N_ITEMS)).astype(np.float32)
    np.testing.assert_array_equal(reranker(weight=1e6).reordered(scores, [np.array([3, 4])]), scores)
    assert (reranker(weight=0).reordered(scores, [np.array([3, 4])]) != scores).any()


def test_saved_and_read_again_it_says_the_same(tmp_path: Path) -> None:
    one = reranker(weight=0.3)
    one.save(tmp_path)
    again = Reranker.load(tmp_path)
    assert again is not None
    histories = [np.array([3, 4, 5]), np.array([20])]
    for mine, theirs in zip(one.judged(histories), again.judged(histories), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (again.weight, again.maximum_items) == (0.3, 5)
    assert len(again.proposals.weights) == len(TERMS)


def test_no_reranker(tmp_path: Path) -> None:
    assert Reranker.load(tmp_path / "nowhere") is None
    save_none(tmp_path)
    assert Reranker.load(tmp_path) is None


@pytest.mark.parametrize(
    "damaged", ["network_1.safetensors", "reranker.json", "proposals/proposals.json", "proposals/walk.indices.npy"]
)
def test_a_damaged_file_is_named(tmp_path: Path, damaged: str) -> None:
    reranker().save(tmp_path)
    file = tmp_path / damaged
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputError, match=r"damaged"):
        Reranker.load(tmp_path)


def test_refitted_links_learn_more_and_nothing_else_changes() -> None:
    one, taken = reranker(), sequences()
    again = one.refitted(taken)
    for name, matrix in one.proposals.terms.links.matrices.items():
        np.testing.assert_array_equal(matrix.toarray(), again.proposals.terms.links.matrices[name].toarray())
    more = one.refitted(sequences(seed=4))
    assert not np.array_equal(more.proposals.terms.links.users, one.proposals.terms.links.users)
    np.testing.assert_array_equal(more.proposals.terms.units, one.proposals.terms.units)
    assert more.networks == one.networks
