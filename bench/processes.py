"""Time data-parallel pre-training beside one process.  Run it:  python -m bench.processes --data FOLDER ...

The stage's own pre-training, without dropout, of the same batches: by one process with one thread, by one with two
threads, and by two processes of one thread each that share every batch. The ways take turns, so that whatever else the
machine does meets all of them; the rate is the median of the rounds, from the first row of the curve to the last.
Padding is not counted as tokens. The deviation is the largest relative one of any loss of the curve from that of one
process with one thread.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from bench.children import write_report
from symbiosis.core.params import read_document, validate_block
from symbiosis.graph.build import Graph
from symbiosis.recommender.network.attention import AttentionBias
from symbiosis.recommender.training.checkpoints import Checkpoints
from symbiosis.recommender.training.launching import run_here, train_together
from symbiosis.recommender.training.loop import Row, Schedule, fit
from symbiosis.recommender.training.params import PretrainParams
from symbiosis.recommender.training.pretraining import Pretraining, encode_corpus, untrained
from symbiosis.recommender.training.process_group import ALONE, WORKER, ProcessGroup
from symbiosis.recommender.training.torch_setup import prepare_torch

WAYS = {"one": "1 process, 1 thread", "threads": "1 process, 2 threads", "two": "2 processes, 1 thread each"}
_TASK = "SYMBIOSIS_BENCH_TASK"
"""Environment variable: what a worker trains and where it writes the result, as JSON."""


def params_of(width: int, layers: int, epochs: int) -> PretrainParams:
    """Return the stage's params, without dropout and of another size."""
    params = validate_block(read_document(), "pretrain", PretrainParams)
    scratch = params.scratch.model_copy(update={"width": width, "layers": layers})
    change = {"scratch": scratch, "dropout": 0.0, "content_epochs": epochs, "interaction_epochs": epochs}
    return params.model_copy(update=change | {"interactions": "documents"})


def measured(group: ProcessGroup, data: Path, params: PretrainParams) -> dict[str, Any]:
    """Pre-train; return tokens and steps a second, and the losses."""
    documents = pl.read_parquet(data / "corpus/documents.parquet")
    prepare_torch(params.seed)
    texts = torch.from_numpy(np.load(data / "item_embeddings/vectors.npy"))
    model, vocabulary = untrained(params, documents, Graph.load(data / "graph"), texts)
    bias = AttentionBias.load(params.bias, model, data / "graph", data / "distances")
    task = Pretraining(model, encode_corpus(documents, vocabulary), bias, params, vocabulary.end, group=group)
    tokens = [
        sum(
            min(params.maximum_length, len(document.prompt) + len(document.text))
            for document in (task.documents(plan)[number] for number in plan.numbers)
        )
        for epoch in range(task.epochs)
        for plan in task.batches(epoch)
    ]
    times: list[tuple[int, float]] = []

    def log(row: Row, step: int) -> None:
        times.append((step, time.perf_counter()))

    with tempfile.TemporaryDirectory() as folder:
        curve = fit(model, task, Schedule(params, task.epochs, len(tokens)), Checkpoints(Path(folder), 1e9), log, "")
    (first, begun), (last, ended) = times[0], times[-1]
    losses = [[row[name] for name in sorted(row) if name.endswith("loss")] for row in curve]
    seconds = ended - begun
    return {"tokens": sum(tokens[first:last]) / seconds, "steps": (last - first) / seconds, "losses": losses}


def worker(task: dict[str, Any]) -> None:
    """Do one way's part of the work."""
    params = params_of(*task["size"])

    def train(group: ProcessGroup) -> None:
        found = measured(group, Path(task["data"]), params)
        if group.leads:
            Path(task["result"]).write_text(json.dumps(found))

    if os.environ.get(WORKER):
        train_together("bench.processes", params, params, train)
    elif task["way"] == "two":
        torch.set_num_threads(2)
        run_here("bench.processes", 2)
    else:
        torch.set_num_threads(2 if task["way"] == "threads" else 1)
        train(ALONE)


def once(way: str, data: Path, size: tuple[int, int, int]) -> dict[str, Any]:
    """Measure one way in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        task = {"way": way, "data": str(data), "size": size, "result": str(result)}
        environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        done = subprocess.run(
            [sys.executable, "-m", "bench.processes"],
            env=environment | {_TASK: json.dumps(task)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: {WAYS[way]} on {data} failed:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def deviation(losses: list[list[float]], wanted: list[list[float]]) -> float:
    """Largest relative deviation of a loss."""
    pairs = zip(chain.from_iterable(losses), chain.from_iterable(wanted), strict=True)
    return max(abs(a - b) / b for a, b in pairs)


def main() -> None:
    """Measure every way on every data set and network, and print a table."""
    if _TASK in os.environ:
        worker(json.loads(os.environ[_TASK]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders of pipelines that ran")
    parser.add_argument("--width", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--report", type=Path, help="Markdown file that is written")
    options = parser.parse_args()
    lines = [
        "# Data-parallel training: `python -m bench.processes`",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip(),
        "",
        f"Cores: {len(os.sched_getaffinity(0))}. Rounds: {options.rounds}.",
        "",
        "| users | items | width | way | tokens/s | steps/s | times one thread | deviation |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for data in options.data:
        graph = Graph.load(data / "graph")
        for width in options.width:
            rounds: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
            for _ in range(options.rounds):
                for way, found in rounds.items():
                    found.append(once(way, data, (width, options.layers, options.epochs)))
            base = float(np.median([found["tokens"] for found in rounds["one"]]))
            for way, found in rounds.items():
                tokens, steps = (float(np.median([each[name] for each in found])) for name in ("tokens", "steps"))
                largest = max(deviation(each["losses"], rounds["one"][0]["losses"]) for each in found)
                lines.append(
                    f"| {graph.n_users:,} | {graph.n_items:,} | {width} | {WAYS[way]} | {tokens:,.0f} | {steps:.2f} "
                    f"| {tokens / base:.2f} | {largest:.1e} |"
                )
                print(lines[-1], flush=True)
    if options.report:
        write_report(options.report, lines)


if __name__ == "__main__":
    main()
