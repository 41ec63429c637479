"""Decoders of `transformers` as the backbone: the plain model where R is 0, and R where it is not."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from tiny_language_model import WORDS, write_language_model
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from symbiosis.core.errors import InputError
from symbiosis.recommender.language.tokens import END, Vocabulary
from symbiosis.recommender.network.base_models import load_pretrained
from symbiosis.recommender.network.decoders import Decoder, decoder_of
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.training.adapters import adapt
from symbiosis.recommender.training.params import LoraParams
from symbiosis.recommender.training.pretraining import start_from_titles

SIZES: dict[str, Any] = {
    "vocab_size": 24,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
KINDS = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM),
}
LENGTH = 7
FUTURE = torch.full((LENGTH, LENGTH), torch.finfo(torch.float32).min).triu(1)
IDS = torch.tensor([[3, 5, 2, 7, 7, 1, 4], [1, 2, 3, 4, 5, 6, 7]])
POSITIONS = torch.arange(LENGTH).expand(2, -1)
USERS, ITEMS = 2, 3


@pytest.fixture(params=list(KINDS))
def plain(request: pytest.FixtureRequest) -> Any:
    config, model = KINDS[request.param]
    more = {"head_dim": 4, "sliding_window": 8} if request.param == "gemma3" else {}
    torch.manual_seed(3)
    return model(config(**SIZES, **more)).model.eval()


def bias(heads: int = 1) -> torch.Tensor:
    return FUTURE.repeat(2, heads, 1, 1)


@torch.no_grad()
def test_without_r_it_is_the_plain_model(plain: Any) -> None:
    expected = plain(IDS, use_cache=False).last_hidden_state
    decoder = decoder_of(plain, None, 0.0)
    for heads in (1, 4):
        torch.testing.assert_close(decoder(decoder.wte(IDS), bias(heads), POSITIONS), expected)


@torch.no_grad()
def test_r_reaches_every_layer_and_head_and_no_future(plain: Any) -> None:
    decoder = decoder_of(plain, None, 0.0)
    embedded = decoder.wte(IDS)
    without = decoder(embedded, bias(4), POSITIONS)
    for head in range(4):
        r = bias(4)
        r[:, head, 4, 1] += 3.0
        with_r = decoder(embedded, r, POSITIONS)
        assert torch.equal(with_r[:, :4], without[:, :4])
        assert (with_r[:, 4] - without[:, 4]).abs().max() > 1e-5
    # A key that R hides might as well be another token.
    hidden = bias()
    hidden[:, :, 2:, 1] = torch.finfo(torch.float32).min
    other = embedded.clone()
    other[:, 1] = decoder.wte(torch.tensor(9))
    assert torch.equal(decoder(embedded, hidden, POSITIONS)[:, 2:], decoder(other, hidden, POSITIONS)[:, 2:])


@torch.no_grad()
def test_repeated_positions_are_no_new_text(plain: Any) -> None:
    decoder = decoder_of(plain, None, 0.0)
    positions = torch.tensor([[0, 1, 2, 2, 2, 3, 4]] * 2)
    embedded = decoder.wte(IDS)
    other = embedded.clone()
    other[:, 0] = decoder.wte(torch.tensor(11))
    moved = decoder(embedded, bias(), positions) - decoder(other, bias(), positions)
    assert (moved[:, -1].abs().max(dim=-1).values > 1e-6).all()


@torch.no_grad()
def test_one_position_is_read_out_as_forward_gives_it(plain: Any) -> None:
    decoder = decoder_of(plain, None, 0.0)
    embedded, last = decoder.wte(IDS), torch.tensor([4, 6])
    states = decoder(embedded, bias(), POSITIONS)
    assert torch.equal(decoder.read_out(embedded, bias(), POSITIONS, last), states[torch.arange(2), last])


@torch.no_grad()
def test_the_first_layers_are_kept(plain: Any) -> None:
    states = plain(IDS, attention_mask=bias(), use_cache=False, output_hidden_states=True).hidden_states
    expected = plain.norm(states[2])
    decoder = decoder_of(plain, 2, 0.0)
    torch.testing.assert_close(decoder(decoder.wte(IDS), bias(), POSITIONS), expected)
    assert len(decoder.config.settings.get("layer_types") or "ab") == 2
    with pytest.raises(InputError, match="`pretrain.base_layers` is 9, but the base model has 2"):
        decoder_of(plain, 9, 0.0)


def graph_model(plain: Any) -> GraphGPT2:
    decoder = decoder_of(plain, None, 0.0)
    torch.manual_seed(1)
    return GraphGPT2(decoder.config, USERS, ITEMS, torch.eye(ITEMS), None, 0.5, 0.5, decoder).eval()


@torch.no_grad()
def test_the_model_survives_saving_and_grows(plain: Any, tmp_path: Path) -> None:
    model = graph_model(plain)
    ids = torch.tensor([[3, 24, 5, 26, 27, 25, 4], [1, 25, 3, 28, 26, 24, 7]])
    expected = model(ids, bias(), model.collaborative)
    model.save(tmp_path)
    again = GraphGPT2.load(tmp_path)
    assert isinstance(again.backbone, Decoder)
    assert torch.equal(again(ids, bias(), again.collaborative), expected)
    trained = GraphGPT2.load(tmp_path, dropout=0.25)
    assert trained.backbone.config.to_dict()["attention_dropout"] == 0.25
    grown = again.extended(torch.zeros(1, 16), torch.zeros(1, ITEMS))
    moved = torch.where(ids >= 26, ids + 1, ids)  # there is a user more before the items
    torch.testing.assert_close(grown(moved, bias(), grown.collaborative), expected)


def test_lora_trains_the_attention_alone(plain: Any) -> None:
    model = graph_model(plain)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    merge = adapt(model, "lora", LoraParams(rank=2, alpha=4))
    optimizer = torch.optim.SGD([one for one in model.backbone.parameters() if one.requires_grad], lr=1.0)
    for _ in range(2):  # the second factor starts at 0: the first step moves it alone
        optimizer.zero_grad()
        model(IDS, bias(), model.collaborative).square().sum().backward()
        optimizer.step()
    merge()
    after = model.backbone.state_dict()
    moved = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    parts = ("q_proj", "k_proj", "v_proj", "o_proj")
    assert moved == {f"model.layers.{layer}.self_attn.{part}.weight" for layer in range(3) for part in parts}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama with tied words, as the hub would give it."""
    place = write_language_model(tmp_path / "llama")
    model = AutoModelForCausalLM.from_pretrained(place)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(place)
    return place


def test_a_folder_is_loaded_with_an_end_token(folder: Path) -> None:
    backbone, description = load_pretrained(str(folder), None, 0.0, 2)
    assert isinstance(backbone, Decoder)
    assert END in description
    assert backbone.wte.weight.shape == (len(WORDS) + 1, 16)
    assert backbone.wte.weight.dtype == torch.float32
    stock = AutoModel.from_pretrained(folder, dtype=torch.float32)
    assert torch.equal(backbone.wte.weight[: len(WORDS)], stock.get_input_embeddings().weight)
    assert len(backbone.model.layers) == 2


def test_untied_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="whose word embeddings are tied"):
        load_pretrained(str(write_language_model(tmp_path / "llama")), None, 0.0)


@torch.no_grad()
def test_items_start_at_the_words_of_their_titles(folder: Path) -> None:
    from tokenizers import Tokenizer

    backbone, description = load_pretrained(str(folder), None, 0.0)
    model = GraphGPT2(backbone.config, USERS, ITEMS, None, None, 0.5, 0.25, backbone)
    vocabulary = Vocabulary(Tokenizer.from_str(description), USERS, ITEMS)
    before = model.content.weight.clone()
    documents = pl.DataFrame(
        [("title", "The title of <item_1> is:", "red glove"), ("brand", "The brand of <item_2> is:", "steel")],
        schema=["kind", "prompt", "text"],
        orient="row",
    )
    start_from_titles(model, vocabulary, documents)
    words = backbone.wte(torch.tensor([WORDS.index("red"), WORDS.index("glove")])).mean(dim=0)
    for table in (model.content, model.collaborative):
        torch.testing.assert_close(model.vectors(torch.tensor(USERS + 1), table), words)  # no text was given
    others = torch.tensor([0, 1, 2, 4])
    assert torch.equal(model.content.weight[others], before[others])
