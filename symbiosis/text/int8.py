"""A BERT whose linear layers multiply 8-bit integers: 2.3 times as fast as float32 on a processor with VNNI.

A weight has one scale per output and an activation one per token, taken from that token alone. Sums of integers do not
depend on their order, so the tokens of several texts can go through the linear layers as one matrix, without padding,
and each text keeps the bytes that it has alone; attention is computed text by text. All else (embeddings,
normalisation, softmax, GELU, pooling) stays in float32.

Processors without VNNI may saturate pairs of products: the vectors are then a little off (cosine .997 instead of .998
to float32), and it is no faster than float32. docs/methods.md, section 2.2, has the figures.

References
----------
Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339 (vector-wise scales); Jacob et al. 2018, arXiv 1712.05877.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

LARGEST = 127


class Shape(NamedTuple):
    """What a BERT's weights do not tell.

    Attributes
    ----------
    layers, heads
        How many.
    epsilon
        Of the normalisation.
    normalised
        Whether embeddings have length 1.
    """

    layers: int
    heads: int
    epsilon: float
    normalised: bool


def packed_embedder(
    tensors: Mapping[str, "torch.Tensor"], shape: Shape
) -> Callable[[Sequence[Sequence[int]]], np.ndarray]:
    """Return a function from the token ids of some texts to their embeddings, (texts, dimension) float32.

    Parameters
    ----------
    tensors
        Weights in float32 by name, as BERT has them; quantised here, once.
    shape
        The rest.
    """
    import torch
    import torch.nn.functional as F

    def quantised(*names: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        weight = torch.cat([tensors[f"{name}.weight"] for name in names])
        scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / LARGEST
        whole = (weight / scale[:, None]).round_().to(torch.int8)
        return whole.t().contiguous(), scale, torch.cat([tensors[f"{name}.bias"] for name in names])

    def linear(x: torch.Tensor, matrix: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        # Of a token of zeros 0 times infinity is cast to some integer, which its scale of 0 takes out again.
        largest = x.abs().amax(dim=1, keepdim=True)
        whole = (x * (LARGEST / largest)).round_().to(torch.int8)
        return torch.addcmul(bias, torch._int_mm(whole, matrix) * scale, largest / LARGEST)

    def pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

    words = tensors["embeddings.word_embeddings.weight"]
    places = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][:1]
    first_norm, width = pair("embeddings.LayerNorm"), words.shape[1]
    layers = []
    for number in range(shape.layers):
        name = f"encoder.layer.{number}"
        asked = (f"{name}.attention.self.{part}" for part in ("query", "key", "value"))
        products = [quantised(*asked)]
        products += [quantised(f"{name}.{part}.dense") for part in ("attention.output", "intermediate", "output")]
        layers.append((products, pair(f"{name}.attention.output.LayerNorm"), pair(f"{name}.output.LayerNorm")))

    def attention(part: torch.Tensor) -> torch.Tensor:
        query, key, value = part.view(1, len(part), 3, shape.heads, -1).permute(2, 0, 3, 1, 4)
        scale = (width // shape.heads) ** -0.5
        attended = F.scaled_dot_product_attention(query, key, value, scale=scale)
        return attended.transpose(1, 2).reshape(len(part), width)

    @torch.inference_mode()
    def embed(texts: Sequence[Sequence[int]]) -> np.ndarray:
        lengths = [len(ids) for ids in texts]
        x = F.embedding(torch.tensor([token for ids in texts for token in ids]), words)
        x = x + torch.cat([places[:length] for length in lengths])
        x = F.layer_norm(x, (width,), *first_norm, shape.epsilon)
        for (asked, joined, wide, narrow), norm, last_norm in layers:
            parts = [attention(part) for part in linear(x, *asked).split(lengths)]
            attended = parts[0] if len(parts) == 1 else torch.cat(parts)
            x = F.layer_norm(linear(attended, *joined) + x, (width,), *norm, shape.epsilon)
            inner = linear(F.gelu(linear(x, *wide)), *narrow)
            x = F.layer_norm(inner + x, (width,), *last_norm, shape.epsilon)
        pooled = torch.stack([part.sum(dim=0) / float(len(part)) for part in x.split(lengths)])
        vectors: np.ndarray = (F.normalize(pooled, dim=1) if shape.normalised else pooled).numpy()
        return vectors

    return embed
