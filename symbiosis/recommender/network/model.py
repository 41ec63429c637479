"""GPT-2 with user and item tokens; the network itself is `symbiosis.recommender.network.gpt2`.

What is unusual: words, users and items share one id space but not one table; there are two sets of ID embeddings,
`content` (learnt from texts) and `collaborative` (learnt from interactions), tied by mutual regularisation; an item's
vector is a free vector plus a learned projection of the embedding of its text, so that an item nobody took can be
served; attention takes one additive tensor that holds causal mask and graph connectivity.
"""

import json
from contextlib import nullcontext
from operator import index
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from symbiosis.core.errors import InputError
from symbiosis.graph.pairs import BUCKETS
from symbiosis.recommender.network.decoders import BackboneConfig, Decoder, backbone_of, config_of
from symbiosis.recommender.network.gpt2 import GPT2, GPT2Config
from symbiosis.recommender.network.graph_terms import TERMS


class _NothingDrawn(TorchFunctionMode):
    """Make a network without memory and without initial weights, to be filled by those that were trained.

    On the meta device alone, `torch.nn.init` would import torch's compiler: a second for weights that nobody reads.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> "_NothingDrawn":
        self._device = torch.device("meta")
        self._device.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._device.__exit__(*error)


class GraphGPT2(nn.Module):
    """The recommender's language model.

    Parameters
    ----------
    config
        Configuration of the backbone; ``vocab_size`` is the number of words.
    n_users, n_items
        Numbers of ID tokens.
    texts
        float32 (I, D), the embedding of each item's text; None leaves texts out of the item vectors.
    warm
        bool (I,), the items with training interactions, all if not given; the others have no free vector, only their
        text.
    user_scale, item_scale
        Factors of the free vectors. Small ones learn slowly, so that what texts and graph tell of all items is
        learnt before what is true of one alone.
    backbone
        Of published weights; drawn from the configuration if not given.

    Attributes
    ----------
    gates
        Weights of the graph's terms in the item logits, (len(TERMS),), learnt from 0.
    gating
        What a user's prompt adds to them, linear in the hidden state, learnt from 0.
    scalars
        Learned R, (buckets of pair features, heads), from 0, so that training starts as plain GPT-2.
    """

    warm: Tensor
    texts: Tensor

    def __init__(
        self,
        config: BackboneConfig,
        n_users: int,
        n_items: int,
        texts: Tensor | None = None,
        warm: Tensor | None = None,
        user_scale: float = 1.0,
        item_scale: float = 1.0,
        backbone: GPT2 | Decoder | None = None,
    ) -> None:
        super().__init__()
        self.config, self.n_users, self.n_items = config, n_users, n_items
        self.user_scale, self.item_scale = user_scale, item_scale
        self.backbone = backbone_of(config) if backbone is None else backbone
        self.content = nn.Embedding(n_users + n_items, config.n_embd)
        self.collaborative = nn.Embedding(n_users + n_items, config.n_embd)
        for table in (self.content, self.collaborative):
            nn.init.normal_(table.weight, std=config.initializer_range)
        self.gates = nn.Parameter(torch.zeros(len(TERMS)))
        self.gating = nn.Linear(config.n_embd, len(TERMS), bias=False)
        nn.init.zeros_(self.gating.weight)
        self.scalars = nn.Embedding(BUCKETS, config.n_head, padding_idx=0)
        nn.init.zeros_(self.scalars.weight)
        self.register_buffer("warm", torch.ones(n_items, dtype=torch.bool) if warm is None else warm)
        self.register_buffer("texts", torch.zeros(n_items, 1) if texts is None else texts)
        self.projection = nn.Linear(self.texts.shape[1], config.n_embd, bias=False)
        nn.init.normal_(self.projection.weight, std=config.initializer_range)

    @property
    def n_words(self) -> int:
        """Number of word ids."""
        return int(self.config.vocab_size)

    def forward(self, ids: Tensor, bias: Tensor, table: nn.Embedding, withheld: Tensor | None = None) -> Tensor:
        """Hidden states of all positions.

        Parameters
        ----------
        ids
            int64, shape (rows, length).
        bias
            float, shape (rows, 1 or heads, length, length): causal mask and R, see `AttentionBias`.
        table
            The ID embeddings to read, `self.content` or `self.collaborative`.
        withheld
            bool of the shape of `ids`: users without their vector, items without their text.

        Returns
        -------
        Tensor of shape (rows, length, width)
        """
        embedded = self.embedded(ids, table, withheld)
        hidden: Tensor = self.backbone(embedded, bias.to(embedded), self.positions(ids))
        return hidden

    def read_out(
        self, ids: Tensor, bias: Tensor, table: nn.Embedding, last: Tensor, withheld: Tensor | None = None
    ) -> Tensor:
        """Return the hidden states of one position a row, (rows, width), as `forward` gives them.

        Parameters
        ----------
        ids, bias, table, withheld
            As in `forward`.
        last
            int64, shape (rows,).
        """
        embedded = self.embedded(ids, table, withheld)
        return self.backbone.read_out(embedded, bias.to(embedded.dtype), self.positions(ids), last)

    def embedded(self, ids: Tensor, table: nn.Embedding, withheld: Tensor | None = None) -> Tensor:
        """Vectors of tokens before the first block, without positions, shape (rows, length, width)."""
        node = ids - self.n_words
        words = self.backbone.wte(ids.clamp(max=self.n_words - 1))
        return torch.where((node >= 0)[..., None], self.vectors(node.clamp(min=0), table, withheld), words)

    def vectors(self, node: Tensor, table: nn.Embedding, withheld: Tensor | None = None) -> Tensor:
        """Vectors of users and items, shape (..., width), for node numbers: users ``0 .. U-1``, then items.

        Of what is `withheld`, bool of the shape of `node`, a user has a vector of zeros and an item its free vector
        alone.
        """
        is_item = node >= self.n_users
        item = (node - self.n_users).clamp(min=0)
        scale = torch.where(is_item, self.item_scale * self.warm[item], self.user_scale)
        has_text = is_item
        if withheld is not None:
            scale, has_text = scale * (is_item | ~withheld), is_item & ~withheld
        return table(node) * scale[..., None] + self.projection(self.texts[item]) * has_text[..., None]

    def positions(self, ids: Tensor) -> Tensor:
        """Positions of tokens: those of a list of items share one, for a list has no order.

        Returns
        -------
        int64 tensor of the shape of `ids`
        """
        is_item = ids >= self.n_words + self.n_users
        follows = torch.zeros_like(is_item)
        follows[:, 1:] = is_item[:, 1:] & is_item[:, :-1]
        return torch.arange(ids.shape[1], device=ids.device)[None] - follows.cumsum(dim=1)

    def word_logits(self, hidden: Tensor) -> Tensor:
        """Scores of all words, shape (..., W); tied to the word embeddings."""
        return hidden @ self.backbone.wte.weight.T

    def item_vectors(self) -> Tensor:
        """Collaborative vectors of all items, shape (I, width)."""
        free = self.collaborative.weight[self.n_users :] * (self.item_scale * self.warm)[:, None]
        return free + self.projection(self.texts)

    def item_logits(self, hidden: Tensor, vectors: Tensor | None = None) -> Tensor:
        """Scores of all items by their vectors alone, shape (..., I); `item_vectors` may be at hand already."""
        return hidden @ (self.item_vectors() if vectors is None else vectors).T

    def graph_logits(self, terms: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Part of the item logits that the graph gives.

        Parameters
        ----------
        terms
            (len(TERMS), B, I), see `symbiosis.recommender.network.graph_terms`.
        hidden
            (B, width), the read-out states; without them the gates are the same for all users.

        Returns
        -------
        Tensor of shape (B, I)
        """
        if hidden is None:
            return torch.tensordot(self.gates, terms, dims=1)
        return torch.einsum("bk,kbi->bi", self.gates + self.gating(hidden), terms)

    def scores(
        self, hidden: Tensor | None, terms: Tensor | None, personal_gates: bool, vectors: Tensor | None = None
    ) -> Tensor:
        """Scores of all items: what the network and the graph say, either or both.

        Parameters
        ----------
        hidden
            (B, width), the read-out states; None if the network does not score.
        terms
            (len(TERMS), B, I); None without the graph's terms.
        personal_gates
            Whether the gates of the terms depend on the states.
        vectors
            `item_vectors`, if at hand already.

        Returns
        -------
        float32 tensor of shape (B, I)
        """
        if terms is None:
            assert hidden is not None
            return self.item_logits(hidden, vectors).float()
        graph = self.graph_logits(terms, hidden if personal_gates else None).float()
        return graph if hidden is None else self.item_logits(hidden, vectors).float() + graph

    def extended(self, users: Tensor, texts: Tensor) -> "GraphGPT2":
        """Return the same network for inference with more users and items; other weights are shared, not copied.

        The free vectors of trained items have a direction in common, the level that training gave them. A new item gets
        their mean: without it, new items of `scientific18_cold` took a fifth of all lists (``python -m bench.guests``).

        Parameters
        ----------
        users
            float32 (new users, width), their vectors before `user_scale`.
        texts
            float32 (new items, D), embeddings of the texts of items without a free vector of their own.
        """
        n_users, n_items = self.n_users + len(users), self.n_items + len(texts)
        state = self.state_dict()
        for name in ("content.weight", "collaborative.weight"):
            items = state[name][self.n_users :]
            level = items[self.warm].mean(dim=0).expand(len(texts), -1)
            state[name] = torch.cat([state[name][: self.n_users], users, items, level])
        state["texts"] = torch.cat([self.texts, texts])
        state["warm"] = torch.cat([self.warm, torch.ones(len(texts), dtype=torch.bool)])
        with _NothingDrawn():
            empty = torch.zeros(n_items, self.texts.shape[1])
            model = GraphGPT2(self.config, n_users, n_items, empty, None, self.user_scale, self.item_scale)
        model.load_state_dict(state, strict=True, assign=True)
        model.backbone = self.backbone  # with what of it is in no state: a decoder's rotary positions
        return model.eval()

    def disagreement(self, ids: Tensor, learning: nn.Embedding, fixed: nn.Embedding) -> Tensor:
        """Mutual regularisation: mean squared distance of the two embeddings of the batch's unique ID tokens.

        The published code sums over every position and dimension, so its weight depends on batch size and length;
        this is the mean over unique tokens (docs/methods.md, sections 1.11, F16, and 1.5).
        """
        node = torch.unique(ids[ids >= self.n_words]) - self.n_words
        if not len(node):
            return torch.zeros((), device=ids.device)
        return (learning(node) - fixed(node).detach()).square().sum(-1).mean()

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``config.json`` into an existing folder."""
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )
        described = {
            "n_users": self.n_users,
            "n_items": self.n_items,
            "text_dimensions": self.texts.shape[1],
            "user_scale": self.user_scale,
            "item_scale": self.item_scale,
            "backbone": self.config.to_dict(),
        }
        (folder / "config.json").write_text(json.dumps(described, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, dropout: float | None = None) -> "GraphGPT2":
        """Read what `save` wrote; every tensor must be there and fit.

        Parameters
        ----------
        folder
            Holds ``model.safetensors`` and ``config.json``.
        dropout
            Of the backbone while it is trained further. None: the model is for inference; no initial weights are
            drawn, which takes longer than reading the trained ones.

        Raises
        ------
        InputError
            A file is missing, damaged or does not fit.
        """
        weights = folder / "model.safetensors"
        try:
            described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            config = config_of(described["backbone"], dropout or 0.0)
            scales = float(described["user_scale"]), float(described["item_scale"])
            n_users, n_items = index(described["n_users"]), index(described["n_items"])
            # A decoder's rotary positions are in no file: they have to be made.
            with _NothingDrawn() if dropout is None and isinstance(config, GPT2Config) else nullcontext():
                texts = torch.zeros(n_items, described["text_dimensions"])
                model = cls(config, n_users, n_items, texts, None, *scales)
            model.load_state_dict(load_file(weights), strict=True, assign=dropout is None)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
            raise InputError(f"{weights} or its config.json is missing or damaged ({error}): run `dvc repro`") from None
        return model
