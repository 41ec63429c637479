"""What is trained of the backbone: all, nothing, or adapters of the attention."""

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from stock_gpt2 import stock_config
from transformers import GPT2LMHeadModel

from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document, validate_block
from symbiosis.graph.build import Graph
from symbiosis.recommender.language.tokens import END, Vocabulary, train_tokenizer
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.adapters import adapt
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.loop import Row, Schedule, fit
from symbiosis.recommender.training.params import LoraParams, PretrainParams, Tune
from symbiosis.recommender.training.pretraining import Plan, Pretraining, encode_corpus, untrained

USERS, ITEMS = 5, 4
LORA = LoraParams(rank=4, alpha=8)
PARAMS = validate_block(read_document(), "pretrain", PretrainParams).model_copy(update={"precision": "float32"})
EPOCHS = {"content_epochs": 3, "interaction_epochs": 3, "interactions": "documents", "regularisation": 0.1}
DOCUMENTS = pl.DataFrame(
    [("title", f"The title of <item_{i}> is:", f"lamp {i}") for i in range(ITEMS)]
    + [("interactions", f"<user_{u}> has interacted with", "<item_1> <item_3> <item_2>") for u in range(USERS)],
    schema=["kind", "prompt", "text"],
    orient="row",
)
GRAPH = Graph(
    user_offsets=np.arange(USERS + 1),
    user_items=np.array([0, 1, 2, 3, 0], dtype=np.int32),
    item_offsets=np.array([0, 2, 3, 4, 5]),
    item_users=np.array([0, 4, 1, 2, 3], dtype=np.int32),
    brands=(),
    brand_offsets=np.array([0]),
    brand_items=np.array([], dtype=np.int32),
    categories=(),
    category_offsets=np.array([0]),
    category_items=np.array([], dtype=np.int32),
)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder such as the hub gives: a tiny GPT-2."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = train_tokenizer([*DOCUMENTS["prompt"], *DOCUMENTS["text"]], 300)
    torch.manual_seed(4)
    GPT2LMHeadModel(stock_config(scratch_config(tokenizer.get_vocab_size(), 16, 2, 2, 32, 0.1))).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        f'{{"tokenizer_class": "GPT2Tokenizer", "eos_token": "{END}", "bos_token": "{END}", "unk_token": "{END}"}}'
    )
    return folder


def started(gpt2: Path) -> tuple[GraphGPT2, Vocabulary]:
    """Model and vocabulary as `pretrain` starts with them."""
    params = PARAMS.model_copy(update={"base_model": str(gpt2), "maximum_length": 32})
    torch.manual_seed(0)
    return untrained(params, DOCUMENTS, GRAPH, torch.eye(ITEMS))


def task_of(model: GraphGPT2, vocabulary: Vocabulary) -> Pretraining:
    return Pretraining(
        model,
        encode_corpus(DOCUMENTS, vocabulary),
        AttentionBias("ones", vocabulary.n_words, USERS, None),
        PARAMS.model_copy(update={"maximum_length": 32, "tokens_per_batch": 60, "seed": 2} | EPOCHS),
        vocabulary.end,
    )


def train(model: GraphGPT2, task: Pretraining, folder: Path, seconds: float = 1e9) -> None:
    settings = {"warmup_share": 0.1, "learning_rate": 1e-2, "id_learning_rate": 1e-2, "weight_decay": 0.1, "seed": 1}
    schedule = Schedule(PARAMS.model_copy(update=settings), task.epochs, task.schedule().steps)
    fit(model, task, schedule, Checkpoints(folder, seconds), ignore, "test")


def ignore(_row: Row, _step: int) -> None:
    pass


def copied(model: GraphGPT2) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    assert list(before) == list(after)
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}


@torch.no_grad()
def logits(model: GraphGPT2, vocabulary: Vocabulary) -> torch.Tensor:
    model.eval()
    ids = np.array([[vocabulary.user(0), 5, vocabulary.item(1), vocabulary.item(2), 7]])
    bias = AttentionBias("ones", vocabulary.n_words, USERS, None)(ids)
    return model.word_logits(model(torch.from_numpy(ids), bias, model.content))


OWN = {"content.weight", "collaborative.weight", "projection.weight"}
"""What this training reaches beside the backbone: gates and scalars have no part in it."""


@pytest.mark.parametrize("tune", ["full", "frozen", "lora"])
def test_what_is_trained(gpt2: Path, tmp_path: Path, tune: Tune) -> None:
    model, vocabulary = started(gpt2)
    base = GPT2LMHeadModel.from_pretrained(gpt2).transformer.state_dict()
    before = copied(model)
    for name, tensor in base.items():
        assert torch.equal(before[f"backbone.{name}"], tensor)
    merge = adapt(model, tune, LORA)
    train(model, task_of(model, vocabulary), tmp_path)
    merge()
    moved = changed(before, copied(model))
    assert moved >= OWN
    attention = {f"backbone.h.{layer}.attn.{part}.weight" for layer in range(2) for part in ("c_attn", "c_proj")}
    expected = {
        "full": {name for name in before if name.startswith("backbone.")},
        "frozen": set(),
        "lora": attention,
    }
    assert moved - OWN == expected[tune]
    for name in attention if tune == "lora" else ():
        ranks = torch.linalg.matrix_rank(model.state_dict()[name] - before[name], rtol=1e-4)
        assert 1 <= int(ranks) <= LORA.rank


def assert_one_position_sees_the_adapters(model: GraphGPT2) -> None:
    ids = torch.randint(0, model.n_words, (3, 6), generator=torch.Generator().manual_seed(2))
    bias, last = torch.full((6, 6), torch.finfo(torch.float32).min).triu(1).repeat(3, 1, 1, 1), torch.tensor([5, 2, 4])
    with torch.no_grad():
        whole = model.eval()(ids, bias, model.content)[torch.arange(3), last]
        torch.testing.assert_close(model.read_out(ids, bias, model.content, last), whole, rtol=1e-4, atol=1e-5)


def test_adapters_start_at_the_base_and_merge_into_what_they_were(gpt2: Path, tmp_path: Path) -> None:
    model, vocabulary = started(gpt2)
    base = logits(model, vocabulary)
    merge = adapt(model, "lora", LORA)
    assert torch.equal(logits(model, vocabulary), base)
    trainable = {name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * 2 * 2  # layers, projections, A and B
    assert all(".attn." in name and "lora_" in name for name in trainable)
    train(model, task_of(model, vocabulary), tmp_path)
    adapted = logits(model, vocabulary)
    assert_one_position_sees_the_adapters(model)
    merge()
    merged = logits(model, vocabulary)
    assert not torch.allclose(adapted, base, atol=1e-3)
    torch.testing.assert_close(merged, adapted, rtol=1e-4, atol=1e-5)
    (tmp_path / "saved").mkdir()
    model.save(tmp_path / "saved")
    assert torch.equal(logits(GraphGPT2.load(tmp_path / "saved"), vocabulary), merged)  # a plain model


class Killed(Exception):
    """Stands for the death of the process."""


@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_a_killed_training_ends_with_the_same_bytes(gpt2: Path, tmp_path: Path, tune: Tune) -> None:
    def trained(folder: Path, kill_at: int | None) -> dict[str, torch.Tensor]:
        model, vocabulary = started(gpt2)
        merge = adapt(model, tune, LORA)
        task = task_of(model, vocabulary)
        loss, calls = task.loss, 0

        def counted(plan: Plan) -> tuple[str, torch.Tensor]:
            nonlocal calls
            calls += 1
            if calls == kill_at:
                raise Killed
            return loss(plan)

        task.loss = counted  # type: ignore[method-assign]
        train(model, task, folder, seconds=0)
        merge()
        return copied(model)

    straight = trained(tmp_path / "straight", None)
    with pytest.raises(Killed):
        trained(tmp_path / "killed", 4)
    assert changed(straight, trained(tmp_path / "killed", None)) == set()


def test_peft_is_imported_for_adapters_alone(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)  # an import of it would fail
    for tune in ("full", "frozen"):
        adapt(started(gpt2)[0], tune, LORA)()  # type: ignore[arg-type]
    with pytest.raises(ImportError):
        adapt(started(gpt2)[0], "lora", LORA)


@pytest.mark.parametrize("tune", ["frozen", "lora"])
def test_a_network_from_nothing_must_be_trained(tune: str) -> None:
    document = read_document()
    document["pretrain"] |= {"tune": tune}  # type: ignore[operator]
    with pytest.raises(InputError, match=f"`pretrain`: .*`tune: {tune}` would leave the scratch network"):
        validate_block(document, "pretrain", PretrainParams)
