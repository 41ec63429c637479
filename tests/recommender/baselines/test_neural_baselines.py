"""The baselines trained by gradient descent: known answers, what they may see, and the same bytes again."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from conftest import ROOT
from scipy.sparse import csr_array
from test_baselines import checkerboard, item_frame, random_split, write_split

from stages import baseline as stage
from symbiosis.core.errors import InputError
from symbiosis.recommender.baselines import s3rec
from symbiosis.recommender.baselines.base import IterativeParams, learn, tune
from symbiosis.recommender.baselines.bert4rec import BERT4Rec
from symbiosis.recommender.baselines.lightgcn import LightGCN
from symbiosis.recommender.baselines.multi_vae import MultiVAE
from symbiosis.recommender.baselines.neural import NeuralBaseline
from symbiosis.recommender.baselines.registry import BASELINES
from symbiosis.recommender.baselines.s3rec import S3Rec
from symbiosis.recommender.baselines.sequential import SequentialBaseline, shuffled
from symbiosis.recommender.data.training_data import TrainingData
from symbiosis.recommender.metrics.metrics import HELD_OUT_SETS
from symbiosis.recommender.metrics.ranking import rank_all

COMMON = {"dimension": [16], "dropout": [0.2], "learning_rate": [0.01], "weight_decay": [0.01], "users_per_batch": [16]}
TRANSFORMER: dict[str, list[Any]] = {"maximum_length": [20], "order": ["time"], "layers": [1], "heads": [2]}
SHAPES: dict[str, dict[str, list[Any]]] = {
    "multi_vae": {"hidden": [16], "beta": [0.1], "annealing_epochs": [3]},
    "lightgcn": {"layers": [2], "l2": [0.0001]},
    "sasrec": TRANSFORMER,
    "gru4rec": {"hidden": [16], "maximum_length": [20], "order": ["time"]},
    "bert4rec": TRANSFORMER | {"masked_share": [0.3]},
    "md_cvae": {"hidden": [16], "text_dimension": [8], "beta": [0.1], "annealing_epochs": [3], "mutual": [0.1]},
    "fdsa": TRANSFORMER,
    "s3rec": TRANSFORMER | {"pretraining_epochs": [1], "masked_share": [0.3]},
    "unisrec": TRANSFORMER | {"text_dimension": [8], "experts": [2]},
}
SEQUENTIAL = [name for name in SHAPES if issubclass(BASELINES[name], SequentialBaseline)]


def params_of(name: str, **changed: Any) -> IterativeParams:
    return BASELINES[name].Params(**({"seed": 1, "epochs": 12, "patience": 12} | COMMON | SHAPES[name] | changed))


def prepared(name: str, data: TrainingData, **changed: Any) -> NeuralBaseline:
    """The baseline before its first epoch."""
    model = BASELINES[name](data, seed=0)
    assert isinstance(model, NeuralBaseline)
    model.fit(**next(params_of(name, **changed).settings()))
    return model


def timed(train: csr_array, seed: int = 0) -> TrainingData:
    times = np.random.default_rng(seed).permutation(train.nnz)
    return TrainingData(train, times, item_frame(train.shape[1]).drop("item"))


def test_every_neural_baseline_is_tested_here() -> None:
    assert set(SHAPES) == {name for name, kind in BASELINES.items() if issubclass(kind, NeuralBaseline)}


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
def test_items_in_random_order_are_learned_from_and_scored_in_order_of_time(name: str) -> None:
    """Every user walks round a circle: who learned in order of time knows what comes next, the other what is near."""
    items, users = 24, 96
    rows = [[(start + step) % items for step in range(6)] for start in range(items) for _ in range(users // items)]
    taken = csr_array((np.ones(6 * users, np.float32), (np.repeat(np.arange(users), 6), np.ravel(rows))))
    times = np.array([row.index(item) for row, user in zip(rows, range(users), strict=True)
                      for item in taken.indices[taken.indptr[user] : taken.indptr[user + 1]]])  # fmt: skip
    data = TrainingData(taken, times, item_frame(items).drop("item"))
    ahead = {}
    for order in ("time", "random"):
        model: Any = prepared(name, data, order=[order])
        for _ in range(15):
            model.epoch()
        scores = model.scores(np.arange(users))
        following, before = ([(row[place] + step) % items for row in rows] for place, step in ((-1, 1), (0, -1)))
        every = np.arange(users)
        ahead[order] = float((scores[every, following] - scores[every, before]).mean())
        np.testing.assert_array_equal(model.sequences.indices, data.sequences().indices)
    assert ahead["time"] > ahead["random"]


def test_a_random_order_keeps_each_users_items() -> None:
    sequences = csr_array((np.ones(7), [4, 2, 0, 3, 1, 0, 5], [0, 4, 4, 7]), shape=(3, 6))
    found = [shuffled(sequences, np.random.default_rng(seed)) for seed in range(20)]
    assert {tuple(sorted(part.indices[:4])) for part in found} == {(0, 2, 3, 4)}
    assert {tuple(sorted(part.indices[4:])) for part in found} == {(0, 1, 5)}
    assert len({tuple(part.indices) for part in found}) > 10


def test_params_are_validated_without_torch() -> None:
    """Every stage validates the params of all baselines: none may pay for importing torch."""
    code = "import sys, symbiosis.params; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0


def test_all_have_the_same_budget() -> None:
    blocks = yaml.safe_load((ROOT / "params.yaml").read_text())["baselines"]
    params = [BASELINES[name].Params(**blocks[name]) for name in SHAPES]
    assert {len(list(each.settings())) for each in params} == {6}
    assert {(each.epochs, each.patience) for each in params if isinstance(each, IterativeParams)} == {(100, 10)}


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_checkerboard_is_solved_perfectly(name: str) -> None:
    train = checkerboard(40)
    model = prepared(name, timed(train))
    for _ in range(30):
        model.epoch()
        if rank_all(model.scores, train, 1, seed=0).ravel().tolist() == list(range(40)):
            return
    pytest.fail("thirty epochs do not solve it")


@pytest.mark.parametrize("name", list(SHAPES))
def test_data_without_structure_give_the_level_of_chance(name: str) -> None:
    users, items = 600, 120
    train, validation, test = random_split(users, items, seed=4)
    params = params_of(name, epochs=2, users_per_batch=[64])
    found, record, _ = tune(BASELINES[name](timed(train), 1), params, validation, 100)
    assert record["epoch"] in (1, 2)
    level = 20 / (items - 10)
    assert HELD_OUT_SETS.means(found, test)["recall@20"] == pytest.approx(
        level, abs=4 * np.sqrt(level * (1 - level) / users)
    )


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_second_fit_forgets_the_first_and_gives_the_same_bytes(name: str) -> None:
    train, _, _ = random_split(40, 30, seed=6)
    params, data = params_of(name, epochs=2), timed(train)
    setting = next(params.settings())
    model = BASELINES[name](data, seed=0)
    found = []
    for _ in range(2):
        assert list(learn(model, params, setting)) == [1, 2]
        found.append(model.scores(np.arange(40)))
    np.testing.assert_array_equal(found[0], found[1])
    assert found[0].dtype == np.float32
    assert found[0].shape == (40, 30)
    other = BASELINES[name](data, seed=1)
    list(learn(other, params, setting))
    assert (other.scores(np.arange(40)) != found[0]).any()


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_user_scores_the_same_alone_and_among_others(name: str) -> None:
    """Padding is never seen: the longest of the batch changes nothing for the others."""
    dense = random_split(30, 40, seed=2)[0].toarray()
    dense[:10, :30] = 0  # short histories, some of them empty
    model = prepared(name, timed(csr_array(dense)))
    model.epoch()
    together = model.scores(np.arange(30))
    for user in (0, 3, 9, 25):
        np.testing.assert_allclose(model.scores(np.array([user]))[0], together[user], atol=2e-5)


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_stage_never_looks_at_the_test(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    train, validation, test = random_split(30, 120, seed=9)
    write_split(tmp_path, {"train": train, "validation": validation, "test": test})
    params = params_of(name, epochs=1)
    stage.work(name, params)
    folder = tmp_path / "data/rankings" / name
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    (tmp_path / "data/clean/test.parquet").write_bytes(b"poisoned")
    stage.work(name, params)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}


# ------------------------------------------------------------------- histories


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_order_matters(name: str) -> None:
    """Two users with the same items in another order are scored differently."""
    train = csr_array(np.array([[1, 1, 1, 0, 0], [1, 1, 1, 0, 0], [0, 1, 0, 1, 1]], dtype=np.float32))
    data = TrainingData(train, np.array([1, 2, 3, 3, 2, 1, 1, 2, 3]), item_frame(5).drop("item"))
    model = prepared(name, data)
    for _ in range(3):
        model.epoch()
    scores = model.scores(np.arange(2))
    assert not np.allclose(scores[0], scores[1], atol=1e-4)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_unknown_times_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="times are unknown"):
        BASELINES[name](TrainingData(checkerboard(6)), seed=0)


@pytest.mark.parametrize("name", [name for name in SEQUENTIAL if name != "bert4rec"])
def test_later_items_change_nothing(name: str) -> None:
    train = checkerboard(20)
    model = prepared(name, timed(train))
    assert isinstance(model, SequentialBaseline)
    model.network.eval()
    items, _ = model.padded(np.arange(4))
    changed = items.clone()
    changed[:, 5:] = (items[:, 5:] + 3) % 20
    with torch.no_grad():
        before, after = model.encode(items), model.encode(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_histories_are_the_latest_items_in_order() -> None:
    train = csr_array(np.array([[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], dtype=np.float32))
    model = prepared("sasrec", TrainingData(train, np.array([4, 1, 3, 2, 9])), maximum_length=[3])
    assert isinstance(model, SequentialBaseline)
    items, lengths = model.padded(np.arange(3))
    assert items.tolist() == [[3, 2, 0], [1, 4, 4], [4, 4, 4]]
    assert lengths.tolist() == [3, 1, 0]
    items, lengths = model.padded(np.arange(3), spare=1)
    assert items.tolist() == [[2, 0, 4], [1, 4, 4], [4, 4, 4]]
    assert lengths.tolist() == [2, 1, 0]
    assert [batch.tolist() for batch in model.batches()] == [[0]]  # nothing follows a single item


def test_the_next_item_loss_by_hand() -> None:
    """Logits (0, ln 3): the two next items have probabilities 3/4 and 1/4."""
    train = csr_array(np.ones((1, 2), np.float32))
    model = prepared("sasrec", TrainingData(train, np.array([1, 2])), dimension=[2])
    assert isinstance(model, SequentialBaseline)
    with torch.no_grad():
        model.network["item"].weight.copy_(torch.tensor([[0.0, 0], [1, 0], [5, 5]]))
    hidden = torch.tensor([[[np.log(3), 1.0], [np.log(3), -7], [9, 9]]], dtype=torch.float32)
    loss = model.cross_entropy(hidden, torch.tensor([[1, 0, 2]]))  # the last is padding
    assert loss.item() == pytest.approx(-(np.log(3 / 4) + np.log(1 / 4)) / 2, rel=1e-6)


def test_bert4rec_predicts_only_what_it_does_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    train = checkerboard(20)
    model = prepared("bert4rec", timed(train), masked_share=[0.35])
    assert isinstance(model, BERT4Rec)
    seen: list[torch.Tensor] = []
    target: list[torch.Tensor] = []
    encode, entropy = model.encode, model.cross_entropy
    monkeypatch.setattr(model, "encode", lambda items: seen.append(items) or encode(items))
    monkeypatch.setattr(model, "cross_entropy", lambda hidden, items: target.append(items) or entropy(hidden, items))
    model.loss(np.arange(5))
    items, _ = model.padded(np.arange(5))
    masked = target[0] < 20
    assert masked.sum(dim=1).tolist() == [3] * 5  # of nine
    assert (seen[0][masked] == model.mask).all()
    assert (seen[0][~masked] == items[~masked]).all()
    assert (target[0][masked] == items[masked]).all()


def test_s3rec_pretraining_gives_every_loss_its_due() -> None:
    train = checkerboard(20)
    model = prepared("s3rec", timed(train), masked_share=[0.35], pretraining_epochs=[0])
    assert isinstance(model, S3Rec)
    before = {name: loss.item() for name, loss in model.pretraining_losses(np.arange(20)).items()}
    assert set(before) == set(s3rec._WEIGHTS)
    longer = prepared("s3rec", timed(train), masked_share=[0.35], pretraining_epochs=[40])
    assert isinstance(longer, S3Rec)
    after = {name: loss.item() for name, loss in longer.pretraining_losses(np.arange(20)).items()}
    assert all(after[name] < before[name] for name in before)
    plain = prepared("s3rec", TrainingData(train, np.arange(train.nnz)), pretraining_epochs=[2])
    assert isinstance(plain, S3Rec)
    assert set(plain.pretraining_losses(np.arange(5))) == {"masked items", "segments"}  # nothing known of the items


def test_fdsa_sees_what_the_items_are() -> None:
    """Items that nobody took tell only by their attributes: one without any adds nothing, padding neither."""
    train = checkerboard(20)
    model = prepared("fdsa", timed(train))
    assert isinstance(model, SequentialBaseline)
    model.network.eval()
    with torch.no_grad():
        model.network["item"].weight.zero_()
        # Of `item_frame`: 3, 6 and 9 have no attribute, 1 and 13 share all of theirs, 1 and 2 do not.
        states = model.encode(torch.tensor([[3], [6], [20], [1], [13], [2]]))[:, 0]
    torch.testing.assert_close(states[0], states[1])
    torch.testing.assert_close(states[0], states[2])
    torch.testing.assert_close(states[3], states[4])
    assert not torch.allclose(states[3], states[5])
    assert not torch.allclose(states[3], states[0])


@pytest.mark.parametrize("name", ["unisrec", "md_cvae"])
def test_an_item_that_nobody_took_is_ranked_by_its_text(name: str) -> None:
    """Users of even items like what is called even: of two new items they rank the even one first."""
    dense = checkerboard(20).toarray()
    dense[:, :2] = 0
    words = ["red wine glass", "blue beer mug"]
    items = (
        item_frame(20)
        .drop("item")
        .with_columns(
            title=pl.Series([words[i % 2] for i in range(20)]),
            brand=pl.lit(None, pl.String),
            categories=pl.lit(None, pl.List(pl.String)),
        )
    )
    train = csr_array(dense)
    data = TrainingData(train, np.random.default_rng(0).permutation(train.nnz), items)
    model = prepared(name, data, **({"mutual": [1]} if name == "md_cvae" else {}))
    for _ in range(30):
        model.epoch()
    scores = model.scores(np.arange(2, 20))
    even = np.arange(2, 20) % 2 == 0
    assert ((scores[:, 0] > scores[:, 1]) == even).all()


# ------------------------------------------------------------------- whole profiles


def test_lightgcn_smooths_by_the_formula() -> None:
    dense = (np.random.default_rng(0).random((7, 5)) < 0.5).astype(np.float64)
    dense[0], dense[:, 0] = 1, 1
    model = prepared("lightgcn", TrainingData(csr_array(dense.astype(np.float32))), layers=[3])
    assert isinstance(model, LightGCN)
    one_way = dense / np.sqrt(dense.sum(axis=1))[:, None] / np.sqrt(dense.sum(axis=0))
    graph = np.block([[np.zeros((7, 7)), one_way], [one_way.T, np.zeros((5, 5))]])
    start = model.network["vectors"].weight.detach().numpy()
    expected = sum(np.linalg.matrix_power(graph, layer) @ start for layer in range(4)) / 4
    np.testing.assert_allclose(model.scores(np.arange(7)), expected[:7] @ expected[7:].T, atol=1e-6)


def test_lightgcn_draws_what_the_user_did_not_take() -> None:
    train, _, _ = random_split(20, 15, seed=0)
    model = prepared("lightgcn", TrainingData(train))
    assert isinstance(model, LightGCN)
    users = np.repeat(np.arange(20), 50)
    drawn = model.untaken(users)
    assert not train.toarray()[users, drawn].any()
    for user in range(20):
        assert set(drawn[users == user]) == set(np.flatnonzero(train.toarray()[user] == 0))


def test_multi_vae_loss_by_hand() -> None:
    """A decoder that says (2, 1, 0, -1) whatever the latent vector, and an encoder that says N(1, 1)."""
    train = csr_array(np.array([[1, 0, 1, 0]], np.float32))
    model = prepared("multi_vae", TrainingData(train), dimension=[3], beta=[0.5], annealing_epochs=[2])
    assert isinstance(model, MultiVAE)
    with torch.no_grad():
        for side in ("encoder", "decoder"):
            model.network[side][2].weight.zero_()
        model.network["encoder"][2].bias.copy_(torch.tensor([1.0, 1, 1, 0, 0, 0]))
        model.network["decoder"][2].bias.copy_(torch.tensor([2.0, 1, 0, -1]))
    likelihood, divergence = 2.88038, 3 * 0.5  # of the unit normal with mean 1, three times
    weights = [0.25, 0.5, 0.5]  # beta is reached with the second step
    for weight in weights:
        assert model.loss(np.array([0])).item() == pytest.approx(likelihood + weight * divergence, abs=1e-4)
