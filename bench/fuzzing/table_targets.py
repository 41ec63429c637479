"""Targets that read routing tables in all formats, and feedback that was frozen for training."""

import json
import pickle
import sqlite3
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
    _CHECKED[0] += 1
    if _CHECKED[0] % 400 == 0:  # the expectations take a tenth of a second, and seconds to import
        suites.check(whole, params)


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


def _otlp(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue"}
    return [{"key": key, "value": {kinds[type(value)]: value}} for key, value in attributes.items()]


def _layouts() -> dict[str, Any]:
    """Return a record or two of every layout."""
    chat = [{"role": "user", "content": [{"type": "text", "text": "Who?"}]}]
    log = {
        "call_type": "acompletion", "status": "success", "model": "a", "messages": chat, "response_cost": 0.002,
        "prompt_tokens": 11, "completion_tokens": 5, "startTime": 100.0, "endTime": "2026-11-28 10:00:01",
        "cache_hit": False, "metadata": {"requester_metadata": {"score": 0.75, "task": "who"}},
    }  # fmt: skip
    asked = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Who?"}]}])
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "a", "gen_ai.usage.input_tokens": 11}
    event = {"name": "gen_ai.evaluation.result", "attributes": _otlp({"gen_ai.evaluation.score.value": 0.75})}
    span = {
        "traceId": "1", "spanId": "2", "parentSpanId": "3", "startTimeUnixNano": "1000", "endTimeUnixNano": "2000",
        "attributes": _otlp({**told, "gen_ai.input.messages": asked}), "events": [event], "status": {"code": 1},
    }  # fmt: skip
    call = {"llm": "a", "error": None, "prompt_tokens": 3, "response_tokens": 4.0, "cost_usd": 0.1, "total_s": 1.0}
    answers = [{"model": llm, "overall_score": 0.5, "response": "x"} for llm in "ab"]
    return {
        "scores": [{"question": "1 + 1?", "scores": {"a": 0.25, "b": 1.0}, "costs": {"a": 0.1}}],
        "lists": [{"query": "1 + 1?", "llm_name_list": ["a", "b"], "perf_list": [0.25, 1]}],
        "completions": [{"prompt": "1 + 1?", "source": "sums", "completions": answers}],
        "structures": [{"prompt": "1?", "a": {"score": 0.25, "num_input_tokens": 4}, "b": {"score": 1.0}}],
        "results": {"model_name": "a", "dataset_name": "d", "records": [{"prompt": "Who?", "score": 1}]},
        "alpaca": [{"instruction": "Who?", "generator_1": "a", "generator_2": "b", "output_1": "x", "preference": 1.5}],
        "arena": [{"model_a": "a", "model_b": "b", "winner": "tie", "conversation_a": chat}],
        "litellm": [log, {"standard_logging_object": log}],
        "otlp": {"resourceSpans": [{"scopeSpans": [{"spans": [span, {**span, "spanId": "3", "parentSpanId": ""}]}]}]},
        "decisions": [
            {"id": "1", "llm": "a", "served": "b", "calls": [call], "text_sha256": "x", "text": "Who?",
             "feedback": {"quality": None, "satisfied": True, "response_tokens": 3}},
        ],
        "frozen": [
            {"lesson": 1, "decision": "1", "vector": [0.5], "text_sha256": "x", "text": "Who?", "llm": "a",
             "quality": 0.5, "satisfied": None, "prompt_tokens": 3.0, "response_tokens": 4.0, "cost_usd": 0.1},
        ],
        "pandas": {"query_text": {"0": "Who?"}, "llm": {"0": "a"}, "quality": {"0": 1}},
    }  # fmt: skip


def layouts(folder: Path) -> Target:
    """Read every layout of a file of answers: an input is a line that names the file, and its content."""
    from symbiosis.routing.data import layouts as reader
    from symbiosis.routing.data import table

    store = folder / "store.db"
    with sqlite3.connect(store) as connection:
        connection.executescript(
            "CREATE TABLE decisions (sequence, id, llm, served, text); CREATE TABLE calls (decision, attempt, llm, "
            "error, prompt_tokens, response_tokens, cost_usd, total_s); CREATE TABLE feedback (decision, quality, "
            "satisfied, response_tokens); INSERT INTO decisions VALUES (1, 'd', 'a', 'a', 'Who?'); "
            "INSERT INTO calls VALUES ('d', 0, 'a', NULL, 3, 4, 0.1, 1.0); INSERT INTO feedback VALUES ('d', 1, 0, 3)"
        )
    connection.close()
    kept = store.read_bytes()
    names = ("t.json", "t.jsonl", "t.parquet", "t.csv", "store.db", "t")

    def read(content: bytes) -> None:
        first, _, rest = content.partition(b"\n")
        name = first.decode("latin-1")
        if name not in names:
            return
        path = parquet_of(folder, name, rest) if name == "t.parquet" else file_of(folder, name, rest)
        if path is None:
            return
        reading = reader.learnable(reader.read_all([path]), path)
        _further(table.typed(reading.frame, path), path)

    told = _layouts()
    seeds = [b"t.json\n" + json.dumps(one).encode() for one in told.values()]
    seeds += [b"t.jsonl\n" + lines_of(*one) for one in told.values() if isinstance(one, list)]
    nested = ("completions", "lists", "structures", "litellm", "frozen")
    seeds += [b"t.parquet\n" + columns_of(told[name][:1]) for name in nested]
    return Target(read, [*seeds, b"store.db\n" + kept], "named")
