"""A BERT sentence encoder in plain torch, which starts in a fraction of the time that the libraries for it take.

It computes what ``sentence_transformers`` computes, operation for operation, so that a text has the same bytes; what it
leaves out is the import of two large libraries, seconds of CPU before the first text.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.text.int8 import Shape, packed_embedder

if TYPE_CHECKING:
    import torch

WEIGHTS, TOKENIZER = "model.safetensors", "tokenizer.json"
_MOST_PER_TOKEN = 64
"""Characters of a text's end that are tried first, for each token that is read."""
_UNKNOWN = 1_000
_ENDLESS = re.compile(f"[0-9A-Za-z]{{{_UNKNOWN},}}")
_BOUNDARY = re.compile(r"[ \t\n\r!-/:-@\\\]-`{-~\u4e00-\u9fff]")  # no `[`: it may begin a special token
_LAYER = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)


class BertEncoder:
    """BERT with mean pooling, from a folder of a sentence-transformers model.

    Parameters
    ----------
    folder
        One for which `fits` is true.
    maximum_tokens
        How many of a text's last tokens are read, special ones included.
    layers
        So many of its layers are computed, the first ones; None: all. The weights are those of these layers.

    Raises
    ------
    OSError, ValueError
        A file is missing or damaged, or there are fewer layers.
    """

    def __init__(self, folder: Path, maximum_tokens: int, layers: int | None = None) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        config = _json(folder / "config.json")
        self.maximum_tokens = maximum_tokens
        self.heads, self.epsilon = int(config["num_attention_heads"]), float(config["layer_norm_eps"])
        available = int(config["num_hidden_layers"])
        self.layers = available if layers is None else layers
        if self.layers > available:
            raise ValueError(f"it has {available} layers, not {layers}")
        self.normalised = len(_json(folder / "modules.json")) == 3
        self.tokenizer = Tokenizer.from_str((folder / TOKENIZER).read_text(encoding="utf-8"))
        self.tokenizer.no_padding()
        self._word_by_word = (
            type(self.tokenizer.pre_tokenizer).__name__ == "BertPreTokenizer"
            and getattr(self.tokenizer.model, "max_input_chars_per_word", _UNKNOWN) < _UNKNOWN
        )
        self.tokenizer.enable_truncation(maximum_tokens, direction="left")
        try:
            tensors = load_file(folder / WEIGHTS)
        except SafetensorError as error:
            raise ValueError(f"{WEIGHTS}: {error}") from None
        # The last digits of a product may depend on where in memory a matrix begins, and in the file that is anywhere.
        self.tensors = {
            name: tensor if name == "embeddings.word_embeddings.weight" else tensor.clone()
            for name, tensor in tensors.items()
            if name != "embeddings.position_ids" and not (layers is not None and _above(name, layers))
        }
        if missing := sorted(_names(self.layers) - set(self.tensors)):
            raise ValueError(f"{WEIGHTS} lacks {missing[0]}")

    def weights(self) -> dict[str, "torch.Tensor"]:
        """Return all weights, under the names that sentence-transformers gives them."""
        return {f"0.model.{name}": tensor for name, tensor in self.tensors.items()}

    def settings(self) -> dict[str, Any]:
        """Return what an embedding depends on beside the weights."""
        tokenizer = json.loads(self.tokenizer.to_str())
        return {
            "layers": ["bert", self.layers, self.heads, self.epsilon, "mean", self.normalised],
            "tokenizer": {key: value for key, value in tokenizer.items() if key not in ("truncation", "padding")},
            "maximum_tokens": self.maximum_tokens,
            "truncation_side": "left",
        }

    def last_tokens(self, text: str) -> list[int]:
        """Return the ids of a text's last tokens, special ones included; a long text costs what its end costs.

        BERT takes words apart one by one and knows no word of more than a hundred characters. So a part that begins
        behind a blank or a sign has the same last tokens as the whole, if it has as many as are read.
        """
        characters = _MOST_PER_TOKEN * self.maximum_tokens if self._word_by_word else len(text)
        if len(text) > characters:
            text = _ENDLESS.sub(lambda word: word[0][:_UNKNOWN], text)
        while len(text) > characters:
            if begin := _BOUNDARY.search(text, len(text) - characters):
                ids: list[int] = self.tokenizer.encode(text[begin.end() :]).ids
                if len(ids) == self.maximum_tokens:
                    return ids
            characters *= 4
        whole: list[int] = self.tokenizer.encode(text).ids
        return whole

    def embedder(self, precision: str) -> Callable[[str], np.ndarray]:
        """Return a function from a text to its embedding, (dimension,) float32.

        Parameters
        ----------
        precision
            ``float32``; ``bfloat16`` for the transformer, pooling and normalisation staying in float32; or ``int8``
            for its linear layers, see `symbiosis.text.int8`.
        """
        if precision == "int8":
            together = self._packed()
            return lambda text: together([text])[0]
        import torch
        import torch.nn.functional as F

        tensors = self.tensors
        if precision == "bfloat16":
            tensors = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}

        def pair(name: str) -> tuple[torch.Tensor, torch.Tensor]:
            return tensors[f"{name}.weight"], tensors[f"{name}.bias"]

        words, positions, types = (tensors[f"embeddings.{kind}_embeddings.weight"] for kind in _EMBEDDED)
        width, heads, epsilon = words.shape[1], self.heads, self.epsilon
        scale = (width // heads) ** -0.5
        first_norm = pair("embeddings.LayerNorm")
        layers = [[pair(f"encoder.layer.{layer}.{part}") for part in _LAYER] for layer in range(self.layers)]

        @torch.inference_mode()
        def embed(text: str) -> np.ndarray:
            ids = torch.tensor([self.last_tokens(text)])
            length = ids.shape[1]
            x = F.embedding(ids, words) + types[:1] + positions[None, :length]
            x = F.layer_norm(x, (width,), *first_norm, epsilon)
            for query, key, value, joined, norm, wide, narrow, last_norm in layers:
                q, k, v = (F.linear(x, *p).view(1, length, heads, -1).transpose(1, 2) for p in (query, key, value))
                attended = F.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2).reshape(1, length, -1)
                x = F.layer_norm(F.linear(attended, *joined) + x, (width,), *norm, epsilon)
                inner = F.linear(F.gelu(F.linear(x, *wide)), *narrow)
                x = F.layer_norm(inner + x, (width,), *last_norm, epsilon)
            # A product with a mask of ones and a sum, as the library has it: `mean` differs in the last digit.
            pooled = x.float().sum(dim=1) / float(length)
            vector: np.ndarray = (F.normalize(pooled, dim=1) if self.normalised else pooled)[0].numpy()
            return vector

        return embed

    def batch_embedder(self, precision: str) -> Callable[[Sequence[str]], np.ndarray] | None:
        """Return a function from texts to their embeddings, (texts, dimension) float32, each with the bytes of one.

        None where a text's bytes would depend on the texts beside it: in float32 and bfloat16 they do.
        """
        return self._packed() if precision == "int8" else None

    def _packed(self) -> Callable[[Sequence[str]], np.ndarray]:
        embed = packed_embedder(self.tensors, Shape(self.layers, self.heads, self.epsilon, self.normalised))

        def together(texts: Sequence[str]) -> np.ndarray:
            tokens = [self.tokenizer.encode(text).ids for text in texts]
            return np.concatenate([embed(tokens[start:end]) for start, end in _packs([len(ids) for ids in tokens])])

        return together


PACK = 256
"""Tokens that go through the layers together: beyond these, one text after the other is faster."""


def _packs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first text of each pack and the one after its last: one text, or several of `PACK` tokens at most."""
    starts, filled = [0], 0
    for place, length in enumerate(lengths):
        if filled and filled + length > PACK:
            starts.append(place)
            filled = 0
        filled += length
    return list(zip(starts, [*starts[1:], len(lengths)], strict=True))


def _above(name: str, layers: int) -> bool:
    """Whether a weight is one of a layer that is left out, or of the pooler upon the last."""
    parts = name.split(".")
    return parts[0] == "pooler" or (parts[:2] == ["encoder", "layer"] and int(parts[2]) >= layers)


_EMBEDDED = ("word", "position", "token_type")


def _names(layers: int) -> set[str]:
    """Names of the weights that are computed with."""
    parts = ["embeddings.LayerNorm", *(f"encoder.layer.{layer}.{part}" for layer in range(layers) for part in _LAYER)]
    names = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    return names | {f"embeddings.{kind}_embeddings.weight" for kind in _EMBEDDED}


def positions(folder: Path) -> int:
    """Return how many tokens an encoder in a folder has positions for."""
    return int(_json(folder / "config.json")["max_position_embeddings"])


def fits(folder: Path) -> bool:
    """Return whether a folder holds a BERT in float32 with mean pooling and no further layers or prompts.

    For any other encoder, and wherever a file says something that is not known here, the answer is no.
    """
    needed = ("modules.json", "config.json", "1_Pooling/config.json", "sentence_bert_config.json")
    if not all((folder / name).is_file() for name in (*needed, WEIGHTS, TOKENIZER)):
        return False
    try:
        modules, config, pooling, transformer = (_json(folder / name) for name in needed)
        chosen = folder / "config_sentence_transformers.json"
        library = _json(chosen) if chosen.is_file() else {}
        kinds = [(module["path"], module["type"].rsplit(".", 1)[-1]) for module in modules]
        stack = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
        normalize = folder / "2_Normalize" / "config.json"
        modes = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
        return (
            kinds in (stack[:2], stack)
            and (not normalize.is_file() or _json(normalize).get("module_input_name") == "sentence_embedding")
            and (pooling.get("pooling_mode") == "mean" or modes == ["pooling_mode_mean_tokens"])
            and pooling.get("include_prompt", True)
            and config["model_type"] == "bert"
            and config["hidden_act"] == "gelu"
            and not config.get("is_decoder")
            and config.get("position_embedding_type", "absolute") == "absolute"
            and (config.get("dtype") or config.get("torch_dtype") or "float32") == "float32"
            and not transformer.get("do_lower_case")
            and transformer.get("transformer_task", "feature-extraction") == "feature-extraction"
            and library.get("default_prompt_name") is None
            and library.get("truncate_dim") is None
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return False


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
