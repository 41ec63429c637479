"""The GPT-2 that pre-training starts from: a small one from scratch, or published weights."""

from typing import Any

import torch

from symbiosis.core.errors import InputError
from symbiosis.recommender.network.gpt2 import GPT2, GPT2Config


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


def load_pretrained(name: str, revision: str | None, dropout: float) -> tuple[GPT2, str]:
    """Load GPT-2 weights from the hub or a local folder, safetensors only, every weight accounted for.

    Returns
    -------
    GPT2, str
        The backbone, with as many words as the tokenizer has, and the tokenizer as JSON text.

    Raises
    ------
    InputError
        Nothing of that name can be had, it is no GPT-2, or a weight is missing.
    """
    # Seconds of import, which only published weights need.
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, GPT2Model

    try:
        loaded: Any = GPT2Model.from_pretrained(
            name, revision=revision or "main", use_safetensors=True, output_loading_info=True
        )
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main").backend_tokenizer.to_str()
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"params.yaml: `pretrain.base_model: {name}` cannot be loaded ({str(error).splitlines()[0]}); give a hub "
            "name that can be reached, a local folder with config.json, model.safetensors and tokenizer.json, "
            "or `scratch`"
        ) from None
    published, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(report["mismatched_keys"])
    if missing:
        raise InputError(f"`pretrain.base_model: {name}` lacks the weight {missing[0]} of GPT-2: it is another model")
    published.resize_token_embeddings(Tokenizer.from_str(tokenizer).get_vocab_size())
    settings = published.config.to_dict() | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten: the seed's draws stay the caller's
        backbone = GPT2(GPT2Config.from_dict(settings))
    backbone.load_state_dict(published.state_dict(), strict=True)
    return backbone, tokenizer
