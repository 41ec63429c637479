"""Measure how well requests find and reasons name their item.  Run it:  python -m bench.free_text --data FOLDER ...

Each FOLDER holds data/ and models/ as `make repro` leaves them. Requests: for every test interaction, its item's last
category, or two random words of its title, serve as the request; the result is the rank of the item among those the
user has not taken (training and validation). Methods: the recommender without the request; the similarity of request
and item texts alone; their sum, as `symbiosis recommend --request` ranks; the request's words in the prompt before the
user token, a form of prompt that training never used; and the recommender plus the log-likelihood that the pre-trained
model gives the request as an item's title. The weight of the sum is chosen on validation interactions first.

Reasons: for test interactions, the share of reasons that contain a word (four letters or more, in at most half of all
items) of the item's title, brand or categories, and the share that contain one of a random item.
"""

import argparse
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from scipy.sparse import csr_array

from bench.children import write_report
from symbiosis.core import layout
from symbiosis.recommender.data.interactions import read_matrix, read_sizes
from symbiosis.recommender.data.item_texts import item_texts, read_items
from symbiosis.recommender.inference.asking import WEIGHT
from symbiosis.recommender.inference.loading import load_scorer
from symbiosis.recommender.inference.reasons import Sampling, Writer
from symbiosis.recommender.inference.requests import Requests

WEIGHTS = (5.0, 10.0, 20.0, 40.0)
REASONS = 200
_WORD = re.compile(r"\w{3,}")
_LONG = re.compile(r"[a-z]{4,}")


def requests_of(items: pl.DataFrame, kind: str) -> list[str]:
    """Return one request per item, empty if the item has no such words."""
    rng = np.random.default_rng(0)
    if kind == "category":
        return [(categories or [""])[-1] for categories in items["categories"].to_list()]
    words = [_WORD.findall(title or "") for title in items["title"]]
    return [" ".join(rng.permutation(row)[:2]) for row in words]


@torch.no_grad()
def title_likelihood(writer: Writer, request: str) -> np.ndarray:
    """Return the log-likelihood of a request as each item's title, float32 (I,)."""
    prompts = writer.vocabulary.encode([f"The title of <item_{item}> is:" for item in range(writer.model.n_items)])
    (words,) = writer.vocabulary.encode([request])
    ids = np.stack([np.concatenate([prompt, words]) for prompt in prompts]).astype(np.int64)
    start = len(prompts[0])
    hidden = writer.model(torch.from_numpy(ids), writer.bias(ids), writer.model.content)[:, start - 1 : -1]
    chances = torch.log_softmax(writer.model.word_logits(hidden), -1)
    likelihood: np.ndarray = chances.gather(-1, torch.from_numpy(ids[:, start:])[..., None]).sum((1, 2)).numpy()
    return likelihood


def ranks(scores: np.ndarray, taken: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return the rank of one item per row among those not taken, with mid-ranks for ties."""
    scores = np.where(taken, -np.inf, scores)
    own = scores[np.arange(len(items)), items][:, None]
    return 1 + (scores > own).sum(1) + ((scores == own).sum(1) - 1) / 2


def row(name: str, place: np.ndarray) -> str:
    """Return one row of the table."""
    first, among_ten = (place <= 1).mean(), (place <= 10).mean()
    return f"| {name} | {place.mean():.1f} | {np.median(place):.1f} | {first:.3f} | {among_ten:.3f} |"


def measure_requests(root: Path, kind: str) -> list[str]:
    """Return the table for one kind of request."""
    items_table = read_items(root / layout.ITEMS)
    shape = read_sizes(root / layout.CLEAN)
    train, validation, test = (
        read_matrix(root / layout.CLEAN / f"{part}.parquet", shape) for part in ("train", "validation", "test")
    )
    graph, distances = root / layout.GRAPH, root / layout.DISTANCES
    scorer = load_scorer(root)
    compare = Requests.load(root / layout.EMBEDDINGS, items_table)
    writer = Writer.load(root / layout.PRETRAINED, graph, distances)
    plain = scorer.scores(np.arange(shape[0]), train)
    asked = requests_of(items_table, kind)
    similarity: dict[str, np.ndarray] = {}
    for request in set(asked):
        vector = compare.encode([request])[0]
        if vector.any():  # the command refuses the others
            similarity[request] = compare.vectors @ vector

    def pairs(part: csr_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        users, items = part.tocoo().coords
        known = np.array([asked[item] in similarity for item in items])
        return users[known], items[known], np.stack([similarity[asked[item]] for item in items[known]])

    if not similarity:
        return ["No such request has a word that several items' texts have, but not most: nothing to measure."]
    lines = ["| way | mean rank | median | first | among ten |", "| --- | ---: | ---: | ---: | ---: |"]
    users, items, like = pairs(validation)
    taken = train[users].toarray() > 0
    lines += [row(f"validation: sum, weight {w:g}", ranks(plain[users] + w * like, taken, items)) for w in WEIGHTS]
    users, items, like = pairs(test)
    taken = (train + validation)[users].toarray() > 0
    words, prompts = np.empty((2, *like.shape), np.float32), scorer.prompts
    for request in sorted({asked[item] for item in items}):
        where = np.flatnonzero([asked[item] == request for item in items])
        scorer.prompts = prompts.asking(request)
        words[0, where] = scorer.scores(users[where], train)
        words[1, where] = title_likelihood(writer, request)
    lines += [
        row("test: without the request", ranks(plain[users], taken, items)),
        row("test: similarity alone", ranks(like, taken, items)),
        row(f"test: sum, weight {WEIGHT:g}", ranks(plain[users] + WEIGHT * like, taken, items)),
        row("test: words in the prompt", ranks(words[0], taken, items)),
        row("test: likelihood as a title", ranks(plain[users] + words[1], taken, items)),
    ]
    return [f"{len(items)} of {test.nnz} test interactions have a request with a word from the item texts.", "", *lines]


def measure_reasons(root: Path) -> list[str]:
    """Return the table of reasons; every drawn reason has its own seed."""
    writer = Writer.load(root / layout.PRETRAINED, root / layout.GRAPH, root / layout.DISTANCES)

    def words(text: str) -> set[str]:
        return {word.removesuffix("s") for word in _LONG.findall(text.lower())}

    texts_of_items = item_texts(read_items(root / layout.ITEMS), ["title", "brand", "categories"])
    about = [words(text) for text in texts_of_items]
    common = Counter(word for row in about for word in row)
    about = [{word for word in row if common[word] <= len(about) / 2} for row in about]
    test = read_matrix(root / layout.CLEAN / "test.parquet", read_sizes(root / layout.CLEAN)).tocoo()
    rng = np.random.default_rng(0)
    lines = ["| words | name the item | name a random item | different reasons | words a reason |"]
    lines += ["| --- | ---: | ---: | ---: | ---: |"]
    chosen = rng.permutation(test.nnz)[:REASONS]
    for name, sampling in {"most probable": Sampling(), "drawn": Sampling(temperature=0.7, top_k=20)}.items():
        pairs = [(int(test.coords[0][n]), int(test.coords[1][n])) for n in chosen]
        texts = [writer.reason(*pair, replace(sampling, seed=seed)) for seed, pair in enumerate(pairs)]
        own = np.mean([bool(words(text) & about[item]) for (_, item), text in zip(pairs, texts, strict=True)])
        other = np.mean([bool(words(text) & about[i]) for text in texts for i in rng.integers(len(about), size=20)])
        length = np.mean([len(text.split()) for text in texts])
        lines.append(f"| {name} | {own:.3f} | {other:.3f} | {len(set(texts))} of {len(texts)} | {length:.1f} |")
    return lines


def main() -> None:
    """Measure every folder and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--names", nargs="+", help="one per folder, for the report (default: the folders' names)")
    parser.add_argument("--report", type=Path, default=Path("reports/bench/free_text.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = ["# Requests and reasons", "", "Made by `python -m bench.free_text`; its `--help` says what is measured."]
    for root, name in zip(options.data, options.names or [root.resolve().name for root in options.data], strict=True):
        lines += ["", f"## {name}"]
        for kind in ("category", "two words of the title"):
            lines += ["", f"Request: {kind}. " + "\n".join(measure_requests(root, kind))]
        lines += ["", "Reasons:", "", *measure_reasons(root)]
    write_report(options.report, lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
