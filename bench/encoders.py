"""How long an encoder keeps a gateway waiting, and how a router routes with its vectors.

    SYMBIOSIS_DATA_DIR=... OMP_NUM_THREADS=1 taskset -c 1 python -m bench.encoders --folder /tmp/encoders \\
        [--speed] [--batches] [--quality realroute12 routerbench_sample] [--seeds 3] [--json]

Speed: texts of 8, 36, 120 and 256 words, all variants in turn, round after round: median of wall time, and the least
CPU time, which is what an encoder takes when nothing else uses the machine. Batches: time per text of 1 to 16 waiting
texts, and the share of texts whose bytes are those of the text alone, for our encoder in every precision (float32 and
bfloat16 as one matrix, padded). Quality: each table is embedded once per variant (kept in the folder), routers are
trained and tested in five folds, see `bench.encoder_quality`; the spread of the seeds is the noise to go by. Controls:
random vectors in the embedding's place, and the same router trained with another seed.

To see a processor without matrix instructions, bfloat16 products or VNNI, start it with
``ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16`` (no AMX), ``AVX512_CORE_VNNI`` or ``AVX2``.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.encoder_quality import Quality, judge
from bench.encoder_variants import MAXIMUM_TOKENS, Embed, installed
from bench.served import ROOT, prepared
from symbiosis.core.params import read_document, validate_block
from symbiosis.routing.data.splits import read_whole
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.queries.params import EmbedQueriesParams
from symbiosis.routing.queries.text_shape import query_vectors
from symbiosis.text import encoder
from symbiosis.text.bert import BertEncoder

WORDS = (8, 36, 120, 256)
WAITING = (1, 2, 4, 8, 16)
ROUNDS = 40
SENTENCE = (
    "how many different integer values of x satisfy the following inequality and why does the answer change when x is "
    "negative or zero and y is a positive prime number below one hundred and seven or so"
)
NOISE = "random vectors"


def text_of(words: int) -> str:
    """Return a text of so many words."""
    given = SENTENCE.split()
    return " ".join(given[place % len(given)] for place in range(words))


def timed(calls: dict[str, Callable[[], Any]], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Return milliseconds of each call, the calls taking turns: ``wall`` (median), ``p99`` and ``cpu`` (least)."""
    wall: dict[str, list[float]] = {name: [] for name in calls}
    cpu: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 5):
        for name, call in calls.items():
            began, used = time.perf_counter(), time.thread_time()
            call()
            if turn >= 5:  # the first ones warm up
                cpu[name].append(time.thread_time() - used)
                wall[name].append(time.perf_counter() - began)
    return {
        name: {
            "wall_ms": round(1e3 * float(np.median(wall[name])), 3),
            "p99_ms": round(1e3 * float(np.quantile(wall[name], 0.99)), 3),
            "cpu_ms": round(1e3 * min(cpu[name]), 3),
        }
        for name in calls
    }


def speed(variants: dict[str, Embed]) -> dict[str, dict[str, dict[str, float]]]:
    """Return times by number of words and variant."""

    def calls(text: str) -> dict[str, Callable[[], Any]]:
        return {name: lambda embed=embed: embed(text) for name, embed in variants.items()}

    return {str(words): timed(calls(text_of(words))) for words in WORDS}


def batches(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Return what batches of waiting texts change: milliseconds per text, and bytes."""
    model = encoder.load(encoder.OFFLINE, MAXIMUM_TOKENS)
    assert isinstance(model, BertEncoder)
    together = encoder.batch_embedder(model, "int8")
    rows: list[dict[str, Any]] = []
    for words in WORDS:
        text = text_of(words)
        found = timed({str(size): lambda own=[text] * size: together(own) for size in WAITING}, 15)
        for size in WAITING:
            times = {key: round(value / size, 3) for key, value in found[str(size)].items() if key != "p99_ms"}
            rows.append({"precision": "int8", "words": words, "waiting": size, **times})
    some = list(texts[:64])
    ways: dict[str, Callable[[Sequence[str]], np.ndarray]] = {
        "int8": together,
        "float32": lambda part: padded(model, part, "float32"),
        "bfloat16": lambda part: padded(model, part, "bfloat16"),
    }
    for precision, embed in ways.items():
        alone = np.concatenate([embed([text]) for text in some])
        for size in WAITING[1:]:
            parts = [embed(some[start : start + size]) for start in range(0, len(some), size)]
            same = (np.concatenate(parts) == alone).all(axis=1).mean()
            rows.append({"precision": precision, "waiting": size, "same_bytes": round(float(same), 4)})
    return rows


def padded(model: BertEncoder, texts: Sequence[str], precision: str) -> np.ndarray:
    """Embed texts in one padded batch, as sentence-transformers does."""
    import torch
    from sentence_transformers import SentenceTransformer

    own = _LIBRARY.get(precision)
    if own is None:
        own = encoder.load_trainable(encoder.OFFLINE, MAXIMUM_TOKENS)
        assert isinstance(own, SentenceTransformer)
        if precision == "bfloat16":
            own[0].to(torch.bfloat16)
        _LIBRARY[precision] = own
    assert model.maximum_tokens == own.max_seq_length
    with torch.inference_mode():
        features = own[0](own.preprocess(list(texts)))
        mask = features["attention_mask"][:, :, None].float()
        states: Any = features["token_embeddings"].float()
        vectors: np.ndarray = ((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy()
    return vectors


_LIBRARY: dict[str, Any] = {}


def quality(what: str, folder: Path, seeds: int, only: Sequence[str] | None) -> dict[str, Quality]:
    """Route a table with every variant; see `bench.encoder_quality.judge`."""
    place = (folder / what).resolve()
    place.mkdir(parents=True, exist_ok=True)
    with prepared(what, place):
        whole, llms, queries = read_whole(Path("data/routing"), Path("data/embeddings"))
    document = read_document(ROOT / "params.yaml")
    weight = validate_block(document, "embed_queries", EmbedQueriesParams).shape_weight
    texts = queries["query_text"][whole.outcomes.queries].to_list()
    kept = place / "vectors"
    kept.mkdir(exist_ok=True)
    vectors = {}
    with contextlib.redirect_stdout(sys.stderr):
        variants, _ = installed(folder, texts)
    for name, embed in variants.items():
        if name == "float32" or (only is not None and name not in only):
            continue
        file = kept / f"{name.replace(' ', '_').replace(',', '')}.npy"
        if not file.exists():
            print(f"{what}: {name}", file=sys.stderr, flush=True)
            np.save(file, np.stack([embed(text) for text in texts]))
        vectors[name] = np.load(file)
    noise = np.random.default_rng(0).standard_normal((len(texts), 384)).astype(np.float32)
    vectors[NOISE] = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    joined = {name: query_vectors(rows, texts, weight) for name, rows in vectors.items()}
    router = validate_block(document, "router_train", RouterTrainParams)
    given = {name: lambda rows, own=own: own for name, own in joined.items()}
    return judge(whole, texts, llms, given, router, seeds)


def table(found: dict[str, Any]) -> list[str]:
    """Return what was found as lines of Markdown."""
    lines = [f"# Encoders: {found['processor']}, torch {found['torch']}, {found['threads']} thread(s)", ""]
    if "speed" in found:
        heads = [f"{words} words: wall / CPU ms" for words in WORDS]
        lines += [f"| encoder | {' | '.join(heads)} |", "| --- " * (len(heads) + 1) + "|"]
        for name in found["speed"][str(WORDS[0])]:
            cells = [found["speed"][str(words)][name] for words in WORDS]
            lines.append(
                f"| {name} | " + " | ".join(f"{cell['wall_ms']:.2f} / {cell['cpu_ms']:.2f}" for cell in cells) + " |"
            )
        lines.append("")
    if "batches" in found:
        lines += ["| int8, ms per text (CPU) | " + " | ".join(f"{size} waiting" for size in WAITING) + " |"]
        lines.append("| --- " * (len(WAITING) + 1) + "|")
        for words in WORDS:
            own = [row for row in found["batches"] if row.get("words") == words]
            lines.append(f"| {words} words | " + " | ".join(f"{row['cpu_ms']:.2f}" for row in own) + " |")
        lines += ["", "| same bytes as alone | " + " | ".join(f"{size} waiting" for size in WAITING[1:]) + " |"]
        lines.append("| --- " * len(WAITING) + "|")
        for precision in ("float32", "bfloat16", "int8"):
            shares = [
                row["same_bytes"] for row in found["batches"] if row["precision"] == precision and "same_bytes" in row
            ]
            lines.append(f"| {precision} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
        lines.append("")
    for what, rows in found.get("quality", {}).items():
        lines += [
            f"## {what}",
            "",
            "| encoder | AIQ | spread over seeds | gain, router trained on it [95 %] | other LLM chosen "
            "| gain, today's router given its vectors [95 %] | other LLM chosen |",
            "| --- " * 7 + "|",
        ]
        for name, row in rows.items():
            lines.append(
                f"| {name} | {row['aiq']:.4f} | {row['spread']:.4f} "
                f"| {row['gain']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] | {100 * row['flips']:.1f} % "
                f"| {row['swapped_gain']:+.4f} [{row['swapped_low']:+.4f}, {row['swapped_high']:+.4f}] "
                f"| {100 * row['swapped_flips']:.1f} % |"
            )
        lines.append("")
    return lines + [f"Left out: {reason}." for reason in found["left_out"]]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="exported networks and vectors are kept there")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--batches", action="store_true")
    parser.add_argument("--quality", nargs="*", default=[], metavar="TABLE", help="names in configs/, or synthetic")
    parser.add_argument("--only", nargs="+", metavar="VARIANT", help="embed the tables with these alone")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="instead of tables")
    options = parser.parse_args()
    import torch

    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    texts = [" ".join(text_of(60).split()[start : start + 3 + start % 40]) for start in range(CALIBRATED)]
    with contextlib.redirect_stdout(sys.stderr):  # NNCF prints
        variants, left_out = installed(folder, texts)
    found: dict[str, Any] = {
        "processor": _processor(),
        "instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", "all"),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "left_out": left_out,
    }
    if options.speed:
        found["speed"] = speed(variants)
    if options.batches:
        found["batches"] = batches(texts)
    for what in options.quality:
        rows = quality(what, folder, options.seeds, options.only)
        found.setdefault("quality", {})[what] = {name: asdict(row) for name, row in rows.items()}
    print(json.dumps(found, indent=2) if options.json else "\n".join(table(found)))


CALIBRATED = 100


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
