"""Any decoder of `transformers` as the backbone, with the methods of `symbiosis.recommender.network.gpt2.GPT2`.

What it must do: take vectors in place of token ids, a float mask of four dimensions that is added to the attention
scores, and positions. Llama (SmolLM2 is one), Qwen2 and Gemma3 do, each with its rotary positions; the items of a list
share a position, as in GPT-2. The mask is always given: without one, repeated positions are taken for several texts in
a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from symbiosis.core.errors import InputError
from symbiosis.recommender.network.gpt2 import GPT2, GPT2Config

GPT2_TYPE = "gpt2"


@dataclass(frozen=True)
class DecoderConfig:
    """Configuration of a decoder, with the names that `GPT2Config` has for its sizes.

    Attributes
    ----------
    settings
        Of `transformers`, ``model_type`` among them.
    """

    settings: Mapping[str, Any]

    @property
    def vocab_size(self) -> int:
        """Number of words."""
        return int(self.settings["vocab_size"])

    @property
    def n_positions(self) -> int:
        """Longest text in tokens."""
        return int(self.settings["max_position_embeddings"])

    @property
    def n_embd(self) -> int:
        """Width."""
        return int(self.settings["hidden_size"])

    @property
    def n_head(self) -> int:
        """Attention heads."""
        return int(self.settings["num_attention_heads"])

    @property
    def initializer_range(self) -> float:
        """Standard deviation of initial weights."""
        return float(self.settings["initializer_range"])

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name."""
        return dict(self.settings)


BackboneConfig = GPT2Config | DecoderConfig


def config_of(settings: Mapping[str, Any], dropout: float) -> BackboneConfig:
    """Read the configuration of a backbone, as `to_dict` gives it.

    Parameters
    ----------
    settings
        Without ``model_type`` those of a GPT-2.
    dropout
        While it is trained; a decoder has it in its attention alone.

    Raises
    ------
    InputError
        A setting of a GPT-2 is out of range.
    """
    if settings.get("model_type", GPT2_TYPE) == GPT2_TYPE:
        rates = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
        return GPT2Config.from_dict({**settings, **rates})
    return DecoderConfig({**settings, "attention_dropout": dropout})


def backbone_of(config: BackboneConfig) -> "GPT2 | Decoder":
    """Make a network of a configuration, its weights drawn."""
    return GPT2(config) if isinstance(config, GPT2Config) else Decoder(config)


class Decoder(nn.Module):
    """A decoder between token vectors and hidden states; `wte` holds the vectors of the words.

    Parameters
    ----------
    config
        Sizes and settings.
    model
        The network, `transformers`' base model without a head; drawn from the configuration if not given.
    """

    def __init__(self, config: DecoderConfig, model: nn.Module | None = None) -> None:
        super().__init__()
        # Seconds of import, which no GPT-2 needs.
        from transformers import AutoConfig, AutoModel

        self.config = config
        if model is None:
            settings = dict(config.settings)
            described = AutoConfig.for_model(settings.pop("model_type"), **settings)
            described._attn_implementation = "sdpa"
            model = AutoModel.from_config(described)
        self.model: Any = model

    @property
    def wte(self) -> nn.Embedding:
        """The vectors of the words."""
        words: nn.Embedding = self.model.get_input_embeddings()
        return words

    def forward(self, embedded: Tensor, bias: Tensor, positions: Tensor) -> Tensor:
        """Return the hidden states of all positions, (rows, length, width); arguments as in `GPT2.forward`."""
        answer = self.model(inputs_embeds=embedded, attention_mask=bias, position_ids=positions, use_cache=False)
        states: Tensor = answer.last_hidden_state
        return states

    def read_out(self, embedded: Tensor, bias: Tensor, positions: Tensor, last: Tensor) -> Tensor:
        """Return the hidden states of one position a row, (rows, width); arguments as in `GPT2.read_out`."""
        return self.forward(embedded, bias, positions)[torch.arange(len(embedded)), last]


def decoder_of(published: Any, layers: int | None, dropout: float) -> Decoder:
    """Make a backbone of a loaded decoder, in float32.

    Parameters
    ----------
    published
        A base model of `transformers`; it is cut and becomes part of the result.
    layers
        The first so many are kept, with the norm behind the last; None: all.
    dropout
        Of the attention.

    Raises
    ------
    InputError
        It has fewer layers, or scores words by other vectors than it reads them by.
    """
    config = published.config
    if not config.tie_word_embeddings:
        raise InputError(
            f"`pretrain.base_model` is a {config.model_type} that scores words by other vectors than it reads them by: "
            "give one whose word embeddings are tied"
        )
    if layers is not None:
        if layers > len(published.layers):
            raise InputError(
                f"params.yaml: `pretrain.base_layers` is {layers}, but the base model has {len(published.layers)}"
            )
        published.layers = published.layers[:layers]
        config.num_hidden_layers = layers
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:layers]
    for layer in published.layers:
        layer.self_attn.attention_dropout = dropout
    kept = {name: value for name, value in config.to_dict().items() if name not in ("dtype", "_name_or_path")}
    settings = config_of(kept, dropout)
    assert isinstance(settings, DecoderConfig)
    return Decoder(settings, published.float())
