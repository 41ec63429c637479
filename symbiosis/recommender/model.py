"""GPT-2 with user and item tokens; the backbone is `transformers`' own, unforked.

What is unusual: words, users and items share one id space but not one table; there are two sets of ID embeddings,
`content` (learnt from texts) and `collaborative` (learnt from interactions), tied by mutual regularisation; attention
takes one additive tensor that holds causal mask and graph connectivity.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from symbiosis.errors import InputError


class GraphGPT2(nn.Module):
    """The recommender's language model.

    Parameters
    ----------
    config
        Configuration of the backbone; ``vocab_size`` is the number of words.
    n_users, n_items
        Numbers of ID tokens.
    """

    def __init__(self, config: GPT2Config, n_users: int, n_items: int) -> None:
        super().__init__()
        self.config, self.n_users, self.n_items = config, n_users, n_items
        self.backbone = GPT2Model(config)
        self.content = nn.Embedding(n_users + n_items, config.n_embd)
        self.collaborative = nn.Embedding(n_users + n_items, config.n_embd)
        for table in (self.content, self.collaborative):
            nn.init.normal_(table.weight, std=config.initializer_range)

    @property
    def n_words(self) -> int:
        """Number of word ids."""
        return int(self.config.vocab_size)

    def forward(self, ids: Tensor, bias: Tensor, table: nn.Embedding) -> Tensor:
        """Hidden states.

        Parameters
        ----------
        ids
            int64, shape (rows, length).
        bias
            float, shape (rows, 1 or heads, length, length): causal mask and R, see `AttentionBias`.
        table
            The ID embeddings to read, `self.content` or `self.collaborative`.

        Returns
        -------
        Tensor of shape (rows, length, width)
        """
        node = ids - self.n_words
        words = self.backbone.wte(ids.clamp(max=self.n_words - 1))
        embedded = torch.where((node >= 0)[..., None], table(node.clamp(min=0)), words)
        hidden: Tensor = self.backbone(
            inputs_embeds=embedded, attention_mask=bias.to(embedded.dtype), use_cache=False
        ).last_hidden_state
        return hidden

    def word_logits(self, hidden: Tensor) -> Tensor:
        """Scores of all words, shape (..., W); tied to the word embeddings."""
        return hidden @ self.backbone.wte.weight.T

    def item_logits(self, hidden: Tensor) -> Tensor:
        """Scores of all items, shape (..., I); tied to the collaborative item embeddings."""
        return hidden @ self.collaborative.weight[self.n_users :].T

    def disagreement(self, ids: Tensor, learning: nn.Embedding, fixed: nn.Embedding) -> Tensor:
        """Mutual regularisation: mean squared distance of the two embeddings of the batch's unique ID tokens.

        The published code sums over every position and dimension, so its weight depends on batch size and length;
        this is the mean over unique tokens (specification, F16 and section 9.5).
        """
        node = torch.unique(ids[ids >= self.n_words]) - self.n_words
        if not len(node):
            return torch.zeros(())
        return (learning(node) - fixed(node).detach()).square().sum(-1).mean()

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` into an existing folder."""
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )
        described = {"n_users": self.n_users, "n_items": self.n_items, "backbone": self.config.to_diff_dict()}
        (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, dropout: float = 0.0) -> "GraphGPT2":
        """Read what `save` wrote; every tensor must be there and fit.

        Raises
        ------
        InputError
            A file is missing, damaged or does not fit.
        """
        weights = folder / "model.safetensors"
        try:
            described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config = GPT2Config(**described["backbone"])
            config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = dropout
            model = cls(config, described["n_users"], described["n_items"])
            model.load_state_dict(load_file(weights), strict=True)
        except (OSError, ValueError, KeyError, SafetensorError, RuntimeError) as error:
            raise InputError(f"{weights} or its config.json is missing or damaged ({error}): run `dvc repro`") from None
        return model


def scratch_config(vocabulary: int, width: int, layers: int, heads: int, positions: int, dropout: float) -> GPT2Config:
    """Return the configuration of a small GPT-2."""
    if width % heads:
        raise InputError(f"params.yaml: `pretrain.scratch.width` {width} is no multiple of `heads` {heads}")
    return GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
    )


def load_pretrained(name: str, revision: str | None, dropout: float) -> tuple[GPT2Model, str]:
    """Load GPT-2 weights from the hub or a local folder, safetensors only, every weight accounted for.

    Returns
    -------
    GPT2Model, str
        The backbone and its tokenizer as JSON text.

    Raises
    ------
    InputError
        Nothing of that name can be had, it is no GPT-2, or a weight is missing.
    """
    from transformers import AutoTokenizer

    try:
        loaded: Any = GPT2Model.from_pretrained(
            name,
            revision=revision or "main",
            use_safetensors=True,
            output_loading_info=True,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
        )
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision or "main").backend_tokenizer.to_str()
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"params.yaml: `pretrain.base_model: {name}` cannot be loaded ({str(error).splitlines()[0]}); give a hub "
            "name that can be reached, a local folder with config.json, model.safetensors and tokenizer.json, "
            "or `scratch`"
        ) from None
    backbone, report = loaded
    missing = sorted(report["missing_keys"]) + sorted(report["mismatched_keys"])
    if missing:
        raise InputError(f"`pretrain.base_model: {name}` lacks the weight {missing[0]} of GPT-2: it is another model")
    return backbone, tokenizer
