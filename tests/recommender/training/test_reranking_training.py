"""Training of the re-ranker: it learns what stage one cannot say, and from training interactions alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reranking_world import BACKBONE, N_ITEMS, WORDS, sequences, stage_one, vectors
from scipy.sparse import csr_array

from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS
from symbiosis.recommender.reranking.network import NetworkConfig, RerankingNetwork
from symbiosis.recommender.reranking.params import RerankParams
from symbiosis.recommender.reranking.proposals import Proposals
from symbiosis.recommender.reranking.reranker import Reranker
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.loop import Schedule, fit
from symbiosis.recommender.training.reranking import Reranking, made_network

ROOT = Path(__file__).parents[3]
SMALL: dict[str, Any] = {"candidates": 15, "rivals": 12, "targets": 2, "epochs": 3, "maximum_items": 5, "dropout": 0.1}


def params(**changed: Any) -> RerankParams:
    return RerankParams(**(read_document(ROOT / "params.yaml")["rerank"] | SMALL | changed))  # type: ignore[operator]


def held_out(taken: csr_array, step: int) -> csr_array:
    """One item of each user that he has not taken."""
    rows = [set(taken.indices[a:b].tolist()) for a, b in zip(taken.indptr, taken.indptr[1:], strict=False)]
    items = [next((user * step + k) % N_ITEMS for k in range(N_ITEMS) if (user * step + k) % N_ITEMS not in row)
             for user, row in enumerate(rows)]  # fmt: skip
    return csr_array((np.ones(len(items), np.float32), (range(len(items)), items)), shape=taken.shape)


def trained(folder: Path, given: RerankParams, step: int = 3) -> tuple[Reranking, list[dict[str, float]]]:
    torch.manual_seed(given.seed)
    network = RerankingNetwork(
        NetworkConfig(BACKBONE, True, "learned", **WORDS, dropout=given.dropout), torch.from_numpy(vectors())
    )
    taken = sequences()
    task = Reranking(network, stage_one(taken), taken, held_out(taken, step), given, HELD_OUT_SETS)
    schedule = Schedule(given, given.epochs, given.epochs * len(task.batches(0)), given.patience)
    weights = network.weights(given.learning_rate, given.connectivity_rate, given.weight_decay)
    return task, fit(network, task, schedule, Checkpoints(folder, 1e9), lambda row, step: None, "test", weights)


def test_the_loss_falls_and_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    given = params(learning_rate=0.01, epochs=6, patience=6)
    task, curve = trained(tmp_path / "one", given)
    assert curve[-1]["loss"] < curve[0]["loss"] - 0.02
    other, again = trained(tmp_path / "other", given)
    assert curve == again
    for name, tensor in task.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name
    moved = [
        matrix for matrix in task.network.matrices if not torch.isin(matrix.detach(), torch.tensor([0.0, 2.0])).all()
    ]
    assert len(moved) == BACKBONE.n_layer


def test_held_out_items_choose_an_epoch_and_teach_nothing(tmp_path: Path) -> None:
    given = params(epochs=1)
    (one, first), (other, second) = (trained(tmp_path / str(step), given, step) for step in (3, 7))
    assert first[0]["loss"] == second[0]["loss"]
    assert first[0]["recall@20"] != second[0]["recall@20"]
    for name, tensor in one.network.state_dict().items():
        assert torch.equal(tensor, other.network.state_dict()[name]), name


def test_groups_hold_their_hidden_items_among_the_rivals() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(BACKBONE, True, "learned", **WORDS, dropout=0.0)
    taken = sequences()
    task = Reranking(
        RerankingNetwork(config, torch.from_numpy(vectors())), stage_one(taken), taken, held_out(taken, 3), params(),
        HELD_OUT_SETS,
    )  # fmt: skip
    assert (task._wanted.sum(dim=1) > 0).all()
    assert task._learned.items.shape[1] == SMALL["rivals"]
    assert all(len(set(row)) == len(row) for row in task._learned.items.tolist())
    assert sorted(np.concatenate(task.batches(0)).tolist()) == list(range(len(task._wanted)))


def test_the_weight_is_the_best_on_validation(tmp_path: Path) -> None:
    given = params(epochs=1, score_weights=[0, 1, 1000])
    task, _ = trained(tmp_path, given)
    taken = sequences()
    found = stage_one(taken)
    reranker = Reranker(Proposals(found.whole, found.weights, task.candidates, True, 2), [task.network], 5)
    truth = held_out(taken, 3).toarray().astype(np.float32)
    noise = np.random.default_rng(0).random(truth.shape, np.float32) / 2
    weight, reached = task.best_weight(reranker, lambda users: (truth + noise)[users])
    assert weight == 1000
    assert reached[1000] > reached[0]
    weight, _ = task.best_weight(reranker, lambda users: (noise - truth)[users])
    assert weight == 0


def test_prompts_that_do_not_fit_are_refused(trained_model: Path) -> None:
    with pytest.raises(InputError, match=r"`rerank.maximum_items` 500 gives prompts of"):
        made_network(trained_model, vectors(), params(maximum_items=500))


@pytest.fixture
def trained_model(tmp_path: Path) -> Path:
    from recommender_world import write_recommender

    from symbiosis.core.layout import PRETRAINED

    return write_recommender(tmp_path) / PRETRAINED


def test_it_starts_from_the_pretrained_weights_or_from_drawn_ones(trained_model: Path) -> None:
    from symbiosis.recommender.network.model import GraphGPT2

    model = GraphGPT2.load(trained_model)
    texts = model.texts.numpy()
    torch.manual_seed(1)
    same = made_network(trained_model, texts, params(start="pretrained"))
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(same.backbone.state_dict()[name], tensor), name
    assert torch.equal(same.projection.weight, model.projection.weight)
    other = made_network(trained_model, texts, params(start="random", random={"width": 8, "layers": 3, "heads": 2}))
    assert (other.backbone.config.n_embd, len(other.matrices)) == (8, 3)
    assert not hasattr(made_network(trained_model, texts, params(language_model=False)), "backbone")
