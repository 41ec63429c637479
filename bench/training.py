"""Time training beside the Hugging Face `Trainer`.  Run it:  python -m bench.training --data FOLDER ...

Both train the same network, from the same weights, on the same interaction documents with the same paper bias R,
float32, AdamW, one thread. Ours: length-bucketed batches of a token budget, R gathered from the compact hop table for
the ID tokens of a batch, logits of items only and only where the loss needs them. The plain way: `Trainer` with rows in
random order, our average batch size, padding to the maximum length, R read from a dense node-by-node matrix by the
collator, logits of all words, users and items at every position. Padding is not counted as tokens. Each way runs in a
separate process; memory is its peak resident size.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml
from torch.nn import functional as F

from bench.children import measure_in_child, write_report
from symbiosis.graph.build import Graph
from symbiosis.graph.distances import HopDistances
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.training.params import PretrainParams
from symbiosis.recommender.training.pretraining import Document, Pretraining, encode_corpus, fitted, untrained
from symbiosis.recommender.training.torch_setup import prepare_torch

RATE = 1e-3


def task_of(data: Path, params: PretrainParams) -> tuple[Pretraining, int]:
    """Return model, documents and bias as in the stage `pretrain`, with interaction documents only."""
    documents = pl.read_parquet(data / "corpus/documents.parquet").filter(kind="interactions")
    prepare_torch(params.seed)
    model, vocabulary = untrained(params, documents, Graph.load(data / "graph"), None)
    task = Pretraining(
        model,
        encode_corpus(documents, vocabulary),
        AttentionBias.load("paper", model, data / "graph", data / "distances"),
        params.model_copy(
            update={"content_epochs": 0, "interaction_epochs": 1, "interactions": "documents", "regularisation": 0.0}
        ),
        vocabulary.end,
    )
    return task, vocabulary.end


def length_of(document: Document, maximum: int) -> int:
    """Return the number of tokens of a document that are trained on."""
    return min(maximum, len(document.prompt) + len(document.text))


def ours(data: Path, params: PretrainParams, tokens: int) -> dict[str, float]:
    """Train with our batches up to a number of tokens."""
    task, _ = task_of(data, params)
    documents, model = task.interactions, task.model
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    model.train()
    plans, seen, begun = task.batches(0), 0, 0.0
    for step, plan in enumerate(plans):
        if step == 2:  # the first steps warm up
            seen, begun = 0, time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        task.loss(plan)[1].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        seen += sum(length_of(documents[number], params.maximum_length) for number in plan.numbers)
        if seen >= tokens and step > 2:
            break
    return {
        "rate": seen / (time.perf_counter() - begun),
        "tokens": seen,
        "rows": float(np.mean([len(plan.numbers) for plan in plans])),
    }


def plain(data: Path, params: PretrainParams, tokens: int) -> dict[str, float]:
    """Train with `Trainer`, dense R and logits everywhere."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    task, end = task_of(data, params)
    documents, network = task.interactions, task.model
    rows = max(1, round(float(np.mean([len(plan.numbers) for plan in task.batches(0)]))))
    hops = HopDistances.load(data / "distances")
    n_users, n_items = network.n_users, network.n_items
    dense = np.zeros((n_users + n_items, n_users + n_items), np.float32)
    table = hops.connectivity.astype(np.float32)
    dense[:n_users, n_users:] = table[hops.user_item]
    dense[n_users:, :n_users] = dense[:n_users, n_users:].T
    dense[n_users:, n_users:] = table[hops.item_item]
    length = params.maximum_length
    future = torch.full((length, length), torch.finfo(torch.float32).min).triu(1)

    class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
        """Documents."""

        def __len__(self) -> int:
            return len(documents)

        def __getitem__(self, number: int) -> Document:
            return documents[number]

    def collate(batch: list[Document]) -> dict[str, torch.Tensor]:
        ids = np.full((len(batch), length), end, np.int64)
        labels = np.full((len(batch), length), -100, np.int64)
        bias = torch.zeros(len(batch), 1, length, length)
        for row, document in enumerate(batch):
            text = np.random.default_rng(row).permutation(document.text)
            prompt, text = fitted(document.prompt, text, length, network.n_words)
            stop = len(prompt) + len(text)
            ids[row, :stop] = np.concatenate([prompt, text])
            labels[row, len(prompt) - 1 : stop - 1] = text
            nodes = ids[row] - network.n_words
            where = np.flatnonzero(nodes >= 0)
            scores = dense[np.ix_(nodes[where], nodes[where])]
            bias[row, 0][np.ix_(where, where)] = torch.from_numpy(scores)
        return {"ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels), "bias": bias + future}

    class Plain(torch.nn.Module):
        """The same network with its loss."""

        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: torch.Tensor, labels: torch.Tensor, bias: torch.Tensor) -> dict[str, torch.Tensor]:
            hidden = network(ids, bias, network.collaborative)
            everything = torch.arange(n_users + n_items)
            table = torch.cat([network.backbone.wte.weight, network.vectors(everything, network.collaborative)])
            logits = hidden @ table.T
            return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)}

    class Clock(TrainerCallback):
        """Record when the warm-up ended."""

        begun = 0.0

        def on_step_end(self, arguments: Any, state: Any, control: Any, **others: Any) -> None:
            """Start at the second step."""
            if state.global_step == 2:
                self.begun = time.perf_counter()

    mean = float(np.mean([length_of(document, length) for document in documents]))
    steps = min(len(documents) // rows, 2 + max(3, int(tokens / (rows * mean))))
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=rows,
            max_steps=steps,
            learning_rate=RATE,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            remove_unused_columns=False,
            use_cpu=True,
            disable_tqdm=True,
            optim="adamw_torch_fused",
            seed=params.seed,
        )
        Trainer(Plain(), arguments, train_dataset=Rows(), data_collator=collate, callbacks=[clock]).train()
    seen = (steps - 2) * rows * mean
    return {"rate": seen / (time.perf_counter() - clock.begun), "tokens": seen, "rows": rows}


def main() -> None:
    """Measure every way on every data set and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders of pipelines that ran")
    parser.add_argument("--tokens", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    parser.add_argument("--measure", choices=("ours", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    document = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))["pretrain"]
    document["scratch"] = {"vocabulary": 2000, "width": options.width, "layers": 2, "heads": 2}
    params = PretrainParams.model_validate(document | {"content": False})
    if options.measure:
        torch.set_num_threads(1)
        measured = (ours if options.measure == "ours" else plain)(options.data[0], params, options.tokens)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(measured | {"peak": peak}))
        return
    lines = [
        "# Training: `python -m bench.training`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        "| users | items | ours, tokens/s | plain `Trainer`, tokens/s | ratio | ours, peak MB | plain, peak MB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    sizes = ["--tokens", str(options.tokens), "--width", str(options.width)]
    for data in options.data:
        found = {}
        for way in ("ours", "plain"):
            found[way] = measure_in_child("bench.training", way, data, *sizes)
        a, b = found["ours"], found["plain"]
        graph = Graph.load(data / "graph")
        ratio = a["rate"] / b["rate"]
        lines.append(
            f"| {graph.n_users:,} | {graph.n_items:,} | {a['rate']:,.0f} | {b['rate']:,.0f} | {ratio:.1f} "
            f"| {a['peak']:,.0f} | {b['peak']:,.0f} |"
        )
        print(lines[-1], flush=True)
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
