"""What a small real language model's prefill says of a query: hidden states and the log-loss of its own text.

After arXiv 2603.20895, with the language model of `symbiosis.text.smollm2`.
"""

from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from symbiosis.text.smollm2 import converted

MIDDLE = 15
"""Of 30 layers, the one whose states are taken."""
PARTS = ("mean", "last", "loss")
BATCH_TOKENS = 1024


def prefill(texts: list[str], folder: Path, maximum_tokens: int = 128) -> dict[str, np.ndarray]:
    """Read texts once and return what the model makes of them.

    Parameters
    ----------
    texts
        N queries.
    folder
        Of the converted weights, see `symbiosis.text.smollm2.converted`.
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
