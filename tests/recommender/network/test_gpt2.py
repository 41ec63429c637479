"""Our GPT-2 has the bits of the library's: initial weights, outputs and gradients."""

import pytest
import torch
from stock_gpt2 import stock_config
from transformers import GPT2Model

from symbiosis.core.errors import InputError
from symbiosis.recommender.network.gpt2 import ACTIVATIONS, GPT2, GPT2Config

SMALL = {"vocab_size": 70, "n_positions": 16, "n_embd": 32, "n_layer": 2, "n_head": 4}


def pair(**settings: object) -> tuple[GPT2Model, GPT2]:
    """The library's network and ours, made from the same seed."""
    config = GPT2Config.from_dict(SMALL | settings)
    torch.manual_seed(3)
    stock = GPT2Model(stock_config(config))
    after = torch.get_rng_state()
    torch.manual_seed(3)
    ours = GPT2(config)
    assert torch.equal(torch.get_rng_state(), after)  # the same draws, so what is drawn next is the same too
    return stock, ours


def inputs(rows: int = 3, length: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token vectors, a bias with causal mask, and positions."""
    generator = torch.Generator().manual_seed(1)
    future = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)
    bias = torch.randn(rows, 4, length, length, generator=generator) + future
    positions = torch.randint(0, 16, (rows, length), generator=generator)
    return torch.randn(rows, length, 32, generator=generator), bias, positions


def test_initial_weights_have_the_bits_of_the_library() -> None:
    stock, ours = pair()
    assert list(stock.state_dict()) == list(ours.state_dict())
    for name, tensor in stock.state_dict().items():
        assert torch.equal(tensor, ours.state_dict()[name]), name


@pytest.mark.parametrize(
    "settings",
    [
        *({"activation_function": name} for name in ACTIVATIONS),
        {"scale_attn_by_inverse_layer_idx": True, "n_inner": 40},
        {"scale_attn_weights": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("training", [False, True])
def test_outputs_and_gradients_have_the_bits_of_the_library(settings: dict[str, object], training: bool) -> None:
    stock, ours = (network.train(training) for network in pair(**settings))
    embedded, bias, positions = inputs()
    torch.manual_seed(5)  # dropout
    theirs = stock(inputs_embeds=embedded, attention_mask=bias, position_ids=positions, use_cache=False)
    torch.manual_seed(5)
    states = ours(embedded, bias, positions)
    assert torch.equal(states, theirs.last_hidden_state)
    names = [name for name, _ in ours.named_parameters() if name != "wte.weight"]  # the inputs are vectors already
    found = torch.autograd.grad(states.square().sum(), [ours.get_parameter(name) for name in names])
    wanted = torch.autograd.grad(theirs.last_hidden_state.square().sum(), [stock.get_parameter(name) for name in names])
    for name, mine, other in zip(names, found, wanted, strict=True):
        assert torch.equal(mine, other), name


def test_bfloat16_has_the_bits_of_the_library() -> None:
    stock, ours = (network.eval() for network in pair())
    embedded, bias, positions = inputs()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        theirs = stock(inputs_embeds=embedded, attention_mask=bias, position_ids=positions, use_cache=False)
        assert torch.equal(ours(embedded, bias, positions), theirs.last_hidden_state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"activation_function": "swish"}, "activation `swish`"), ({"n_head": 5}, "width 32 .* 5 heads")],
)
def test_a_network_that_cannot_be_built_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GPT2Config.from_dict(SMALL | settings)
