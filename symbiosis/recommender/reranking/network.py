"""The network that orders candidates: a small one on their features, and GPT-2 with candidates in its sequence.

``has interacted with <h1> .. <hn>. Candidates: <c1> .. <cK>``: every candidate sees the words, the history and itself,
and all of them share one position, so that they could as well stand in a batch. R is added between each candidate and
each item of the history, in every layer by a matrix of its own (connections x heads).
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from symbiosis.recommender.network.gpt2 import GPT2, GPT2Config
from symbiosis.recommender.reranking.candidate_terms import FEATURES
from symbiosis.recommender.reranking.pairs import CONNECTIONS
from symbiosis.recommender.reranking.params import Connectivity

_STAGE_ONE = FEATURES.index("stage one")
_WALK, _LONG_WALK = CONNECTIONS.index("walk"), CONNECTIONS.index("long walk")
_SPREAD = 20
"""Features are small flows and large counts: the logarithm of 1 + 20 |x| brings both into reach."""
_INFORMED = 2.0
"""R's matrices start with it, one head a connection: started at 0 they learn nothing (docs/methods.md, 1.13)."""
_TWO_HOPS, _FOUR_HOPS = 4 / 11, 2 / 11
"""Published R of items two and four hops apart (docs/methods.md, section 1.4)."""
_HEAD = 64


@dataclass(frozen=True)
class CandidateBatch:
    """Candidates of some histories.

    Attributes
    ----------
    items
        int64 (B, K).
    features
        float32 (B, K, len(FEATURES)).
    history
        int64 (B, H), the latest item last, filled up with -1 on the left.
    connections
        float (B, H, K, len(CONNECTIONS)).
    """

    items: Tensor
    features: Tensor
    history: Tensor
    connections: Tensor


@dataclass(frozen=True)
class NetworkConfig:
    """What a network consists of.

    Attributes
    ----------
    backbone
        Sizes of GPT-2; None leaves it out.
    features
        Whether the features have a network of their own.
    connectivity
        R between candidates and history.
    before, after
        Ids of the words before the history and before the candidates.
    dropout
        Of both parts, in training.
    """

    backbone: GPT2Config | None
    features: bool
    connectivity: Connectivity
    before: tuple[int, ...]
    after: tuple[int, ...]
    dropout: float


class RerankingNetwork(nn.Module):
    """Adds to a candidate's stage-one score what features and GPT-2 say; both say nothing at first.

    Parameters
    ----------
    config
        What it consists of.
    vectors
        float32 (I, D), what is known of the items: a projection of it is a token's vector.

    Attributes
    ----------
    scale
        Of the stage-one score.
    matrices
        Of R, float32 (len(CONNECTIONS), heads) a layer.
    """

    vectors: Tensor
    middles: Tensor
    spreads: Tensor
    strengths: Tensor

    def __init__(self, config: NetworkConfig, vectors: Tensor) -> None:
        super().__init__()
        self.config = config
        self.scale = nn.Parameter(torch.ones(()))
        self.register_buffer("vectors", vectors)
        self.register_buffer("middles", torch.zeros(len(FEATURES)))
        self.register_buffer("spreads", torch.ones(len(FEATURES)))
        self.register_buffer("strengths", torch.ones(len(CONNECTIONS)))
        self.matrices = nn.ParameterList()
        drop = nn.Dropout(config.dropout)
        if config.features:
            widths = (len(FEATURES), _HEAD, _HEAD)
            layers = [[nn.Linear(a, b), nn.GELU(), drop] for a, b in pairwise(widths)]
            self.head = nn.Sequential(*(part for layer in layers for part in layer), _silent(_HEAD))
        if config.backbone is not None:
            rate = config.dropout
            sizes = replace(config.backbone, resid_pdrop=rate, embd_pdrop=rate, attn_pdrop=rate)
            self.backbone = GPT2(sizes)
            width, heads = config.backbone.n_embd, config.backbone.n_head
            self.projection = nn.Linear(vectors.shape[1], width, bias=False)
            self.mark = nn.Parameter(0.1 * torch.randn(width))
            self.described = nn.Linear(len(FEATURES), width) if config.features else None
            self.read_out = _silent(width)
            if config.connectivity == "learned":
                started = torch.zeros(len(CONNECTIONS), heads)
                kinds = torch.arange(len(CONNECTIONS))
                started[kinds, kinds % heads] = _INFORMED
                self.matrices.extend(nn.Parameter(started.clone()) for _ in range(config.backbone.n_layer))

    def standardise(self, features: Tensor, connections: Tensor) -> None:
        """Take means and spreads from what it learns from, shaped as in `CandidateBatch`."""
        spread = _compressed(features.flatten(0, 1))
        self.middles.copy_(spread.mean(dim=0))
        self.spreads.copy_(spread.std(dim=0).clamp(min=1e-6))
        self.strengths.copy_(connections.float().flatten(0, 2).square().mean(dim=0).sqrt().clamp(min=1e-6))

    def forward(self, batch: CandidateBatch) -> Tensor:
        """Score candidates, float32 (B, K)."""
        scores = self.scale * batch.features[..., _STAGE_ONE]
        features = (_compressed(batch.features) - self.middles) / self.spreads
        if self.config.features:
            scores = scores + self.head(features)[..., 0]
        if self.config.backbone is not None:
            scores = scores + self.read_out(self._read(batch, features))[..., 0]
        return scores

    def weights(self, rate: float, connectivity_rate: float, decay: float) -> list[dict[str, Any]]:
        """Group the parameters for the optimiser: matrices, then vectors and R's matrices, which do not decay."""
        rest = [p for name, p in self.named_parameters() if not name.startswith("matrices.")]
        return [
            {"params": [p for p in rest if p.dim() >= 2], "peak": rate, "weight_decay": decay},
            {"params": [p for p in rest if p.dim() < 2], "peak": rate, "weight_decay": 0.0},
            {"params": list(self.matrices), "peak": connectivity_rate, "weight_decay": 0.0},
        ]

    def _read(self, batch: CandidateBatch, features: Tensor) -> Tensor:
        """Hidden states of the candidates, (B, K, width)."""
        rows, count = batch.items.shape
        known = batch.history >= 0
        words = [self.backbone.wte(torch.tensor(ids)).expand(rows, -1, -1) for ids in self._words()]
        history = self.projection(self.vectors[batch.history.clamp(min=0)]) + self.mark
        candidates = self.projection(self.vectors[batch.items])
        if self.described is not None:
            candidates = candidates + self.described(features)
        prompt = torch.cat([words[0], history, words[1]], dim=1)
        length, first = prompt.shape[1], words[0].shape[1]
        positions = torch.arange(length + 1).repeat_interleave(torch.tensor([1] * length + [count]))
        hidden = self.backbone.drop(torch.cat([prompt, candidates], dim=1) + self.backbone.wpe(positions))
        visible = torch.ones(rows, length, dtype=torch.bool)
        visible[:, first : first + known.shape[1]] = known
        bias = self._connectivity(batch.connections, known)
        for number, block in enumerate(self.backbone.h):
            layer = None if bias is None else bias @ self.matrices[number] if len(self.matrices) else bias
            hidden = _through(block, hidden, visible, layer, first)
        states: Tensor = self.backbone.ln_f(hidden[:, length:])
        return states

    def _words(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return self.config.before, self.config.after

    def _connectivity(self, connections: Tensor, known: Tensor) -> Tensor | None:
        """R, or what a layer's matrix makes R of: (B, H, K, 1 or connections); None: there is none."""
        mode, here = self.config.connectivity, known[:, :, None, None].float()
        if mode == "none":
            return None
        if mode == "learned":
            return connections.float() / self.strengths
        if mode == "ones":
            return here.expand(-1, -1, connections.shape[2], 1)
        walked = connections[..., _WALK, None] > 0, connections[..., _LONG_WALK, None] > 0
        return torch.where(walked[0], _TWO_HOPS, torch.where(walked[1], _FOUR_HOPS, 0.0)) * here


def _through(block: nn.Module, hidden: Tensor, visible: Tensor, bias: Tensor | None, first: int) -> Tensor:
    """Take prompt and candidates through a block: the prompt attends to what came before, a candidate to it and itself.

    Parameters
    ----------
    block
        Of GPT-2.
    hidden
        (B, prompt + K, width).
    visible
        bool (B, prompt).
    bias
        (B, H, K, 1 or heads), R between history and candidates.
    first
        Place of the history in the prompt.
    """
    attention: Any = block.attn
    queries, keys, values = attention._parts(block.ln_1(hidden))  # type: ignore[operator]
    length = visible.shape[1]
    lowest = torch.finfo(hidden.dtype).min
    hides = torch.where(visible, 0.0, lowest)[:, None, None, :]
    dropout = attention.attn_dropout
    past = torch.full((length, length), lowest).triu(1)
    before = queries[:, :, :length] @ keys[:, :, :length].transpose(-1, -2) * attention.scaling + past + hides
    # What fills up sees nothing, and nothing sees it: a row without any number would be no number.
    prompt = torch.softmax(before.clamp(min=lowest), dim=-1) @ values[:, :, :length]
    asking = queries[:, :, length:]
    scores = asking @ keys[:, :, :length].transpose(-1, -2) * attention.scaling + hides
    if bias is not None:
        connected = F.pad(bias.permute(0, 3, 2, 1), (first, length - first - bias.shape[1]))
        scores = scores + connected
    itself = (asking * keys[:, :, length:]).sum(dim=-1, keepdim=True) * attention.scaling
    shares = dropout(torch.softmax(torch.cat([scores, itself], dim=-1), dim=-1))
    candidates = shares[..., :-1] @ values[:, :, :length] + shares[..., -1:] * values[:, :, length:]
    mixed = torch.cat([dropout(prompt), candidates], dim=2).transpose(1, 2).flatten(2)
    hidden = hidden + attention.resid_dropout(attention.c_proj(mixed))
    result: Tensor = hidden + block.mlp(block.ln_2(hidden))  # type: ignore[operator]
    return result


def _compressed(features: Tensor) -> Tensor:
    return torch.sign(features) * torch.log1p(_SPREAD * features.abs())


def _silent(width: int) -> nn.Linear:
    """Return a linear layer that says nothing at first."""
    layer = nn.Linear(width, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
