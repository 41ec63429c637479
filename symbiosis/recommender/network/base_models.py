"""The network that pre-training starts from: a small GPT-2 from scratch, or published weights."""

from typing import Any

import torch

from symbiosis.core.errors import InputError
from symbiosis.recommender.language.tokens import END
from symbiosis.recommender.network.decoders import GPT2_TYPE, Decoder, decoder_of
from symbiosis.recommender.network.gpt2 import GPT2, GPT2Config
from symbiosis.text import smollm2


def scratch_config(vocabulary: int, width: int, layers: int, heads: int, positions: int, dropout: float) -> GPT2Config:
    """Return the configuration of a small GPT-2.

    Raises
    ------
    InputError
        The width is no multiple of the number of heads.
    """
    if width % heads:
        raise InputError(f"params.yaml: `pretrain.scratch.width` {width} is no multiple of `heads` {heads}")
    return GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        activation_function="gelu_pytorch_tanh",  # gelu_new in one kernel
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )


def load_pretrained(
    name: str, revision: str | None, dropout: float, layers: int | None = None
) -> tuple[GPT2 | Decoder, str]:
    """Load published weights from the hub or a local folder, safetensors only, every weight accounted for.

    Parameters
    ----------
    name
        Hub name or folder; ``smollm2-135m`` is in an installed package, see `symbiosis.text.smollm2`.
    revision
        Of a hub name.
    dropout
        While it is trained.
    layers
        The first so many are kept; None: all.

    Returns
    -------
    GPT2 or Decoder, str
        The backbone, with as many words as the tokenizer has, and the tokenizer as JSON text.

    Raises
    ------
    InputError
        Nothing of that name can be had, it is no decoder that can be used, or a weight is missing.
    """
    # Seconds of import, which only published weights need.
    from tokenizers import AddedToken, Tokenizer
    from transformers import AutoConfig, AutoModel, AutoTokenizer, GPT2Model

    place = str(smollm2.converted()) if name == smollm2.NAME else name
    revision = revision or "main"
    try:
        kind = AutoConfig.from_pretrained(place, revision=revision).model_type
        loader = GPT2Model if kind == GPT2_TYPE else AutoModel
        loaded: Any = loader.from_pretrained(
            place, revision=revision, use_safetensors=True, output_loading_info=True, attn_implementation="sdpa"
        )
        tokenizer = AutoTokenizer.from_pretrained(place, revision=revision).backend_tokenizer.to_str()
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"params.yaml: `pretrain.base_model: {name}` cannot be loaded ({str(error).splitlines()[0]}); give a hub "
            "name that can be reached, a local folder with config.json, model.safetensors and tokenizer.json, "
            f"{smollm2.NAME}, or `scratch`"
        ) from None
    published, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(report["mismatched_keys"])
    if missing:
        raise InputError(f"`pretrain.base_model: {name}` lacks the weight {missing[0]} of {kind}: it is another model")
    words = Tokenizer.from_str(tokenizer)
    if kind != GPT2_TYPE and words.token_to_id(END) is None:
        words.add_special_tokens([AddedToken(END, special=True)])
        tokenizer = words.to_str()
    published.resize_token_embeddings(words.get_vocab_size())
    if kind != GPT2_TYPE:
        return decoder_of(published, layers, dropout), tokenizer
    if layers is not None:
        if layers > len(published.h):
            raise InputError(f"params.yaml: `pretrain.base_layers` is {layers}, but {name} has {len(published.h)}")
        published.h, published.config.n_layer = published.h[:layers], layers
    settings = published.config.to_dict() | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten: the seed's draws stay the caller's
        backbone = GPT2(GPT2Config.from_dict(settings))
    backbone.load_state_dict(published.state_dict(), strict=True)
    return backbone, tokenizer
