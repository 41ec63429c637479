"""GPT-2 in plain torch, whose attention adds one tensor that holds the causal mask and the graph's R.

The parameters have the names, shapes and initial values of `transformers.GPT2Model`, and the outputs have its bits
(asserted by tests), so published weights load unchanged. It is written out here because importing `transformers` costs
more CPU time than a recommendation, and because serving needs the state of one position only (`read_out`).

References
----------
Radford et al. 2019, Language models are unsupervised multitask learners.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from symbiosis.core.errors import InputError, quoted

_GELU_NEW = math.sqrt(2 / math.pi)


def _gelu_new(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, in the order of operations of the released GPT-2."""
    return 0.5 * x * (1.0 + torch.tanh(_GELU_NEW * (x + 0.044715 * torch.pow(x, 3.0))))


def _gelu_tanh(x: Tensor) -> Tensor:
    """The same approximation as one kernel."""
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _gelu_new,
    "gelu_pytorch_tanh": _gelu_tanh,
    "relu": F.relu,
}
"""Activations of the feed-forward networks, by the names that `transformers` gives them."""


@dataclass(frozen=True)
class GPT2Config:
    """Sizes and settings of a GPT-2, with the names and defaults of `transformers.GPT2Config`.

    Attributes
    ----------
    vocab_size, n_positions
        Number of words; longest text in tokens.
    n_embd, n_layer, n_head, n_inner
        Width, blocks, attention heads, width of the feed-forward network (None: four times `n_embd`).
    activation_function
        One of `ACTIVATIONS`.
    resid_pdrop, embd_pdrop, attn_pdrop
        Dropout after each layer, of the embeddings and of the attention weights.
    layer_norm_epsilon, initializer_range
        Added to variances; standard deviation of the initial weights.
    scale_attn_weights, scale_attn_by_inverse_layer_idx
        Whether scores are divided by the root of the head's width, and by the number of the block.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False

    def __post_init__(self) -> None:
        """Refuse what no network can be built from.

        Raises
        ------
        InputError
            The activation is unknown, or the width is no multiple of the number of heads.
        """
        if self.activation_function not in ACTIVATIONS:
            raise InputError(
                f"the activation `{self.activation_function}` of GPT-2 is not one of {', '.join(ACTIVATIONS)}"
            )
        if self.n_embd % self.n_head:
            raise InputError(f"the width {self.n_embd} of GPT-2 is not a multiple of its {self.n_head} heads")

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "GPT2Config":
        """Read a configuration; other keys, such as those that `transformers` adds, are ignored.

        Raises
        ------
        InputError
            A setting is of another kind, or a size is below 1.
        """
        given = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        for name, value in given.items():
            if not _fits(value, getattr(cls, name)):
                raise InputError(f"GPT-2 cannot have `{name}` {quoted(value)}: restore its config.json")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name."""
        return asdict(self)


def _fits(value: object, usual: object) -> bool:
    """Tell whether a setting is of the kind of its default; that of `n_inner`, None, stands for a size."""
    if isinstance(usual, bool | str):
        return type(value) is type(usual)
    if isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
    is_size = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return is_size or (usual is None and value is None)


class Conv1D(nn.Module):
    """A linear layer whose weights are stored input by output, as in the published files."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(in_features, out_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.out_features)


class Attention(nn.Module):
    """Multi-head attention with an additive bias: ``softmax(Q K^T / sqrt(d) + bias) V``."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.num_heads = config.n_head
        self.scaling = (config.n_embd // config.n_head) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scaling /= layer + 1
        self.c_attn = Conv1D(config.n_embd, 3 * config.n_embd)
        self.c_proj = Conv1D(config.n_embd, config.n_embd)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Attend from every position.

        Parameters
        ----------
        hidden
            (rows, length, width).
        bias
            (rows, 1 or heads, length, length), added to the scores.

        Returns
        -------
        Tensor of shape (rows, length, width)
        """
        queries, keys, values = self._parts(hidden)
        mixed = self._mixed(queries, keys, values, bias).transpose(1, 2).contiguous()
        result: Tensor = self.resid_dropout(self.c_proj(mixed.flatten(2)))
        return result

    def read_out(self, hidden: Tensor, bias: Tensor, last: Tensor) -> Tensor:
        """Attend from one position a row, (rows, width); arguments as in `forward` and `GPT2.read_out`."""
        rows = torch.arange(len(hidden))
        queries, keys, values = self._parts(hidden)
        mixed = self._mixed(queries[rows, :, last][:, :, None], keys, values, bias[rows, :, last][:, :, None])
        result: Tensor = self.resid_dropout(self.c_proj(mixed.flatten(1)))
        return result

    def _parts(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each (rows, heads, length, width of a head)."""
        queries, keys, values = self.c_attn(hidden).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        return queries.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)

    def _mixed(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        dropout = self.attn_dropout.p if self.training else 0.0
        return F.scaled_dot_product_attention(queries, keys, values, bias, dropout, scale=self.scaling)


class FeedForward(nn.Module):
    """Two linear layers with an activation between them, position by position."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        inner = 4 * config.n_embd if config.n_inner is None else config.n_inner
        self.c_fc = Conv1D(config.n_embd, inner)
        self.c_proj = Conv1D(inner, config.n_embd)
        self.act = ACTIVATIONS[config.activation_function]
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, hidden: Tensor) -> Tensor:
        """Map (..., width) to (..., width)."""
        result: Tensor = self.dropout(self.c_proj(self.act(self.c_fc(hidden))))
        return result


class Block(nn.Module):
    """Attention and feed-forward network, each behind a layer norm and with a residual connection."""

    def __init__(self, config: GPT2Config, layer: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = FeedForward(config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        """Map (rows, length, width) to the same shape; `bias` as in `Attention.forward`."""
        hidden = hidden + self.attn(self.ln_1(hidden), bias)
        return hidden + self.mlp(self.ln_2(hidden))

    def read_out(self, hidden: Tensor, bias: Tensor, last: Tensor) -> Tensor:
        """State of one position a row, (rows, width)."""
        state = hidden[torch.arange(len(hidden)), last] + self.attn.read_out(self.ln_1(hidden), bias, last)
        return state + self.mlp(self.ln_2(state))


class GPT2(nn.Module):
    """The network between token vectors and hidden states; `wte` holds the vectors of the words.

    Parameters
    ----------
    config
        Sizes and settings.
    """

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([Block(config, layer) for layer in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Draw the weights of a module, in the order in which `transformers` draws them from the generator."""
        std = self.config.initializer_range
        if isinstance(module, nn.Embedding | Conv1D):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, Attention | FeedForward):
            # Two residual paths a block: their sum keeps its variance, whatever the depth (GPT-2, section 2.3).
            nn.init.normal_(module.c_proj.weight, std=std / math.sqrt(2 * self.config.n_layer))

    def forward(self, embedded: Tensor, bias: Tensor, positions: Tensor) -> Tensor:
        """Return the hidden states of all positions.

        Parameters
        ----------
        embedded
            (rows, length, width), vectors of the tokens without their positions.
        bias
            (rows, 1 or heads, length, length): causal mask and R.
        positions
            int64 (rows, length).

        Returns
        -------
        Tensor of shape (rows, length, width)
        """
        hidden = self.drop(embedded + self.wpe(positions))
        for block in self.h:
            hidden = block(hidden, bias)
        result: Tensor = self.ln_f(hidden)
        return result

    def read_out(self, embedded: Tensor, bias: Tensor, positions: Tensor, last: Tensor) -> Tensor:
        """Return the hidden states of one position a row, (rows, width), as `forward` gives them.

        The last block computes nothing of the other positions but their keys and values, which of two blocks saves a
        third of the work.

        Parameters
        ----------
        embedded, bias, positions
            As in `forward`.
        last
            int64 (rows,), the position of each row.
        """
        hidden = self.drop(embedded + self.wpe(positions))
        *blocks, final = self.h
        for block in blocks:
            hidden = block(hidden, bias)
        result: Tensor = self.ln_f(final.read_out(hidden, bias, last))  # type: ignore[operator]
        return result
