"""What each of two processes trains, for `test_process_group`: started by the launcher as the workers of a stage are.

Also the tiny task that one process alone trains in that test.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save_file
from scipy.sparse import csr_array

from symbiosis.core.params import read_document, validate_block
from symbiosis.recommender.language.prompts import Prompts
from symbiosis.recommender.language.tokens import Vocabulary, train_tokenizer
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.network.base_models import scratch_config
from symbiosis.recommender.network.cross_fitting import fit_propagation
from symbiosis.recommender.network.model import GraphGPT2
from symbiosis.recommender.network.params import PropagationParams
from symbiosis.recommender.network.relations import Relations
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.finetuning import Finetuning
from symbiosis.recommender.training.launching import train_together
from symbiosis.recommender.training.loop import Row, Schedule, fit
from symbiosis.recommender.training.params import FinetuneParams, PretrainParams
from symbiosis.recommender.training.pretraining import Pretraining, encode_corpus
from symbiosis.recommender.training.process_group import ProcessGroup

USERS, ITEMS, EPOCHS = 16, 12, 3
KILLED_AT = 5
"""Step after which a training is killed; an epoch has fewer."""
FOLDER = "SYMBIOSIS_TEST_FOLDER"

Trained = tuple[dict[str, torch.Tensor], list[Row]]

RATES = {"learning_rate": 3e-3, "id_learning_rate": 1e-2, "seed": 5, "regularisation": 0.1}
FINETUNE = validate_block(read_document(), "finetune", FinetuneParams).model_copy(
    # Batches of 5, 5, 5 and 1: unequal shares, and an empty one.
    update=RATES | {"users_per_batch": 5, "hidden_share": 0.3, "patience": 2}
)
PRETRAIN = validate_block(read_document(), "pretrain", PretrainParams).model_copy(
    update=RATES
    | {
        "interactions": "prompts",
        "patience": 3,
        "content_epochs": 2,
        "interaction_epochs": EPOCHS,
        "maximum_length": 32,
        "tokens_per_batch": 48,
        "users_per_batch": 5,
        "user_dropout": 0.5,
        "text_dropout": 0.5,
    }
)


class Killed(Exception):
    """Stands for the death of all processes."""


def _interactions() -> tuple[csr_array, csr_array]:
    """Training items of each user, two to seven, and one held out."""
    rng = np.random.default_rng(3)
    train, held = np.zeros((2, USERS, ITEMS), dtype=np.float32)
    for user in range(USERS):
        items = rng.permutation(ITEMS)
        train[user, items[: 2 + user % 6]] = 1
        held[user, items[-1]] = 1
    return csr_array(train), csr_array(held)


def _network(dropout: float) -> tuple[GraphGPT2, Vocabulary]:
    texts = [f"The title of <item_{i}> is: lamp {i} has interacted with The user will" for i in range(ITEMS)]
    vocabulary = Vocabulary(train_tokenizer(texts, 320), USERS, ITEMS)
    torch.manual_seed(0)
    return GraphGPT2(scratch_config(vocabulary.n_words, 16, 1, 2, 64, dropout), USERS, ITEMS), vocabulary


def _deadly(losses: Callable[[Any], tuple[str, torch.Tensor]], kill_at: int | None) -> Any:
    """Wrap the loss of a task, so that it dies after so many steps."""
    calls = 0

    def counted(batch: Any) -> tuple[str, torch.Tensor]:
        nonlocal calls
        calls += 1
        if kill_at is not None and calls > kill_at:
            raise Killed
        return losses(batch)

    return counted


def finetuned(group: ProcessGroup, folder: Path, dropout: float = 0.0, kill_at: int | None = None) -> Trained:
    """Fine-tune, or go on with the state in a folder, and die after a step if asked to."""
    model, vocabulary = _network(dropout)
    train, held = _interactions()
    texts = np.random.default_rng(5).normal(size=(ITEMS, 3)).astype(np.float32)
    kinds = csr_array(np.eye(ITEMS, dtype=np.float32))
    params = PropagationParams(seed=2, folds=4, alpha=0.5, neighbours=ITEMS)
    walks = fit_propagation(train, Relations(texts, kinds, kinds), params)
    bias = AttentionBias("ones", vocabulary.n_words, USERS, None)
    task = Finetuning(model, Prompts(vocabulary, 20), bias, walks, train, held, FINETUNE, group=group)
    task.loss = _deadly(task.loss, kill_at)  # type: ignore[method-assign]
    schedule = Schedule(FINETUNE, EPOCHS, EPOCHS * len(task.batches(0)), patience=2)
    curve = fit(model, task, schedule, Checkpoints(folder, 0), lambda row, step: None, "test")
    return model.state_dict(), curve


def pretrained(group: ProcessGroup, folder: Path, kill_at: int | None = None, **settings: object) -> Trained:
    """Pre-train on texts and interactions, or die after a step if asked to."""
    model, vocabulary = _network(0.0)
    train, held = _interactions()
    params = PRETRAIN.model_copy(update=settings)
    rows = [("title", f"The title of <item_{i}> is:", f"lamp {i} " * (9 if i == 0 else 1)) for i in range(ITEMS)]
    rows += [("interactions", f"<user_{u}> has interacted with", "<item_1> <item_4> <item_7>") for u in range(USERS)]
    documents = encode_corpus(pl.DataFrame(rows, schema=["kind", "prompt", "text"], orient="row"), vocabulary)
    bias = AttentionBias("none", vocabulary.n_words, USERS, None)
    asked = Prompts(vocabulary, params.maximum_items)
    prompts = Finetuning(model, asked, bias, None, train, held, params.of_prompts(), group=group)
    task = Pretraining(model, documents, bias, params, vocabulary.end, prompts, group)
    assert {1} < {len(plan.numbers) for plan in task.batches(0)}
    task.loss = _deadly(task.loss, kill_at)  # type: ignore[method-assign]
    curve = fit(model, task, task.schedule(), Checkpoints(folder, 0), lambda row, step: None, "test")
    return model.state_dict(), curve


def killed(group: ProcessGroup, folder: Path, dropout: float = 0.0) -> None:
    """Leave the state after `KILLED_AT` steps in a folder."""
    try:
        finetuned(group, folder, dropout, KILLED_AT)
    except Killed:
        group.from_first(None)  # which may still be writing the state
        return
    raise AssertionError("nothing was killed")


def write(folder: Path, trained: Trained) -> None:
    """Keep weights and curve of a training."""
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in trained[0].items()}, folder / "weights.safetensors")
    (folder / "curve.json").write_text(json.dumps(trained[1]))


def together(group: ProcessGroup) -> None:
    """Train all that the test looks at."""
    folder = Path(os.environ[FOLDER])
    found = {
        "finetuned": finetuned(group, folder / "states_1"),
        "pretrained": pretrained(group, folder / "states_2"),
        "pretrained_on_documents": pretrained(group, folder / "states_5", interactions="documents", patience=None),
        "with_dropout": finetuned(group, folder / "states_3", 0.1),
        "alone_then_together": finetuned(group, folder / "left_alone"),
    }
    killed(group, folder / "left_together")
    killed(group, folder / "states_4", 0.1)
    found["with_dropout_resumed"] = finetuned(group, folder / "states_4", 0.1)
    if group.leads:
        for name, trained in found.items():
            write(folder / name, trained)


if __name__ == "__main__":
    train_together("unused", FINETUNE, FINETUNE, together)
