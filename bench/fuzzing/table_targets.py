"""Targets that read routing tables in all formats, and feedback that was frozen for training."""

import json
import pickle
from pathlib import Path
from typing import Any

from bench.fuzzing.inputs import columns_of, file_of, lines_of, parquet_of, written
from bench.fuzzing.trying import Target

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
        lambda content: _long_table(file_of(folder, "t.jsonl", content)),
        [lines_of(*TABLE_ROWS), lines_of(*other)],
        "json",
    )


def csv(folder: Path) -> Target:
    """Read routing tables in csv."""
    rows = [",".join(TABLE_ROWS[0]), *(",".join(map(str, row.values())) for row in TABLE_ROWS)]
    return Target(lambda content: _long_table(file_of(folder, "t.csv", content)), ["\n".join(rows).encode()])


def parquet(folder: Path) -> Target:
    """Read routing tables in parquet."""

    def read(content: bytes) -> None:
        if (path := parquet_of(folder, "t.parquet", content)) is not None:
            _long_table(path)

    seed = columns_of(TABLE_ROWS)
    odd = columns_of(TABLE_ROWS, quality="Boolean", latency_s="Duration", llm="Categorical", cost_usd="Decimal")
    return Target(read, [seed, odd, written(seed, folder)], "json")


def routerbench(folder: Path) -> Target:
    """Read RouterBench's wide table in parquet and csv."""
    from symbiosis.routing.data import table
    from symbiosis.routing.data.readers import routerbench as reader

    def read(content: bytes) -> None:
        path = parquet_of(folder, "w.parquet", content)
        path = path or file_of(folder, "w.csv", content)
        _further(table.typed(reader.to_long(path), path), path)

    columns = json.dumps({name: {"t": "", "v": values} for name, values in WIDE.items()}).encode()
    cells = [["" if value is None else str(value) for value in column] for column in WIDE.values()]
    rows = [",".join(WIDE), *map(",".join, zip(*cells, strict=True))]
    return Target(read, [columns, "\n".join(rows).encode(), written(columns, folder)], "json")


def pickles(folder: Path) -> Target:
    """Read RouterBench's pickles."""
    import pandas as pd

    from symbiosis.routing.data.readers import pickles as reader
    from symbiosis.routing.data.readers import routerbench

    def read(content: bytes) -> None:
        path = file_of(folder, "w.pkl", content)
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
        if parquet_of(place, "decisions-0123456789abcdef-0000000001-0000000002.parquet", content) is not None:
            collect(reader.read(place), known, params)

    row = {
        **dict.fromkeys(("store", "decision", "source", "policy", "router"), "x"),
        **dict.fromkeys(("lesson", "sequence", "version"), 1),
        **dict.fromkeys(("at", "told_at"), 1.7e9),
        **{"mode": "apply", "chosen": "a", "llm": "b", "propensity": 0.5, "quality": 0.5, "satisfied": None},
        **dict.fromkeys(("response_tokens", "prompt_tokens", "cost_usd"), 3.0),
        **dict.fromkeys(("expected_quality", "expected_prompt_tokens", "expected_cost_usd"), 0.5),
        **{"form": '{"dimension": 2}', "vector": [0.5, 0.5], "text_sha256": "", "text": "Who?"},
    }
    rows = [row, {**row, "decision": "y", "lesson": 2, "quality": None, "satisfied": True, "form": "", "vector": []}]
    seed = columns_of(rows, vector="Floats", satisfied="Boolean")
    return Target(read, [seed, written(seed, folder)], "json")
