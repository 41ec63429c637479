"""Any sentence encoder, through the library sentence-transformers, which takes seconds to import."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from symbiosis.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


def read(folder: Path, maximum_tokens: int) -> "SentenceTransformer":
    """Return an encoder that reads a text's last `maximum_tokens` tokens, and that may be trained.

    Raises
    ------
    OSError, ValueError, RuntimeError
        The folder holds no encoder in safetensors.
    """
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    model.max_seq_length = maximum_tokens
    model.tokenizer.truncation_side = "left"
    return model


def positions(model: "SentenceTransformer") -> int | None:
    """Return how many tokens an encoder has positions for; None: it does not say."""
    return getattr(getattr(model[0].auto_model, "config", None), "max_position_embeddings", None)


class LibraryEncoder:
    """An encoder of sentence-transformers, as `symbiosis.text.encoder.Encoder`.

    Parameters
    ----------
    model
        As `read` returns it; it is not changed but for being put in evaluation mode.
    """

    def __init__(self, model: "SentenceTransformer") -> None:
        self.model = model.eval()
        self.maximum_tokens = int(model.max_seq_length or 0)

    def weights(self) -> dict[str, "torch.Tensor"]:
        """Return all weights by name."""
        weights: dict[str, torch.Tensor] = self.model.state_dict()
        return weights

    def settings(self) -> dict[str, Any]:
        """Return what an embedding depends on beside the weights."""
        tokenizer = json.loads(self.model.tokenizer.backend_tokenizer.to_str())
        return {
            "layers": repr(self.model),
            # How the last call cut and filled up its texts is part of the state, but changes nothing.
            "tokenizer": {key: value for key, value in tokenizer.items() if key not in ("truncation", "padding")},
            "maximum_tokens": self.maximum_tokens,
            "truncation_side": self.model.tokenizer.truncation_side,
            "prompt": self._prompt(),
            "dimension": self.model.truncate_dim,
        }

    def embedder(self, precision: str) -> Callable[[str], np.ndarray]:
        """Return a function from a text to its embedding, (dimension,) float32.

        Parameters
        ----------
        precision
            ``float32``; or ``bfloat16`` for a copy of the transformer, the layers upon it staying in float32.

        Raises
        ------
        InputError
            The precision is ``int8``.
        """
        if precision == "int8":
            raise InputError(
                "params.yaml: `embed_queries.precision`: int8 is for a BERT with mean pooling, which this encoder is "
                "not: use float32 or bfloat16"
            )
        import torch

        model = self.model
        if precision == "bfloat16":
            model = deepcopy(model)
            model[0].to(torch.bfloat16)
        transformer, *layers = model
        prompt, dimension = self._prompt(), model.truncate_dim

        @torch.inference_mode()
        def embed(text: str) -> np.ndarray:
            # `encode` gives the same bytes, but sorting and batching take a good part of a short text's time.
            features = transformer(model.preprocess([text], prompt=prompt))
            if precision == "bfloat16":
                features = {
                    name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
                    for name, value in features.items()
                }
            for layer in layers:
                features = layer(features)
            vector: np.ndarray = features["sentence_embedding"][0, :dimension].numpy()
            return vector

        return embed

    def batch_embedder(self, precision: str) -> None:
        """Return None: in a batch of padded texts a text's bytes depend on the others."""

    def _prompt(self) -> str | None:
        """Return what the encoder is configured to put before every text."""
        prompts: dict[str, str | None] = self.model.prompts
        return prompts.get(self.model.default_prompt_name) if self.model.default_prompt_name else None
