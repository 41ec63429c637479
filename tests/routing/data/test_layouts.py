"""What people have, recognised by its content: every layout gives the long table that it says, by one typing rule."""

import gzip
import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from stages import download_routing
from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data import layouts
from symbiosis.routing.data.cleaning import read
from symbiosis.routing.data.params import DownloadRoutingParams
from symbiosis.routing.data.readers.columns import COLUMNS, REQUIRED

ROOT = Path(__file__).resolve().parents[3]
RAW = Path("data/raw/routing")
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Who?"}]}]
Cells = list[tuple[Any, ...]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def download(path: str) -> pl.DataFrame:
    """Run the stage, and read what it wrote as the next one does."""
    given: dict[str, Any] = read_document(ROOT / "params.yaml")
    document = given["download_routing"] | {"source": "table", "path": path}
    download_routing.work(DownloadRoutingParams.model_validate(document))
    return read(RAW)[0]


def lines(*records: Any, name: str = "t.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return name


def document(value: Any, name: str = "t.json") -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(json.dumps(value))
    return name


def cells(frame: pl.DataFrame, *columns: str) -> Cells:
    return frame.select(columns or ("query_text", "llm", "quality")).rows()


# ---------------------------------------------------------------- several answers in one record

SCORES = [
    {"question": "1 + 1?", "scores": {"small": 0.25, "large": 1.0}, "cluster_id": 3},
    {"question": "2 + 2?", "scores": {"large": 0.0}},
]
PARALLEL = [{"query": "1 + 1?", "llm_name_list": ["small", "large"], "perf_list": [0.25, 1]}]
COMPLETIONS = [
    {
        "prompt": "1 + 1?",
        "source": "sums",
        "completions": [
            {"model": "small", "overall_score": 0.25, "response": "two"},
            {"model": "large", "overall_score": 1.0, "response": "2"},
        ],
    }
]
STRUCTURES = [
    {
        "prompt": "1 + 1?",
        "dataset": "sums",
        "small": {"score": 0.25, "num_input_tokens": 4, "num_output_tokens": 9, "response": "two"},
        "large": {"score": 1.0, "num_input_tokens": 5, "num_output_tokens": 1, "response": "2"},
    }
]
TWO: Cells = [("1 + 1?", "small", 0.25), ("1 + 1?", "large", 1.0)]


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize(
    ("records", "expected"),
    [(SCORES, [*TWO, ("2 + 2?", "large", 0.0)]), (PARALLEL, TWO), (COMPLETIONS, TWO), (STRUCTURES, TWO)],
    ids=["scores", "parallel lists", "completions", "structures"],
)
def test_records_with_several_answers_become_rows(form: str, records: list[Any], expected: Cells) -> None:
    if form == "parquet":
        pl.DataFrame(records).write_parquet("t.parquet")
        path = "t.parquet"
    else:
        path = document(records) if form == "json" else lines(*records)
    frame = download(path)
    assert sorted(cells(frame)) == sorted(expected)
    assert frame["query_id"].n_unique() == frame["query_text"].n_unique()
    told = read_json(RAW / "manifest.json")
    assert (told["source"], told["format"], told["converted_from"]["layout"]) == ("table", "parquet", "nested")


def test_what_goes_with_the_scores_is_read_too() -> None:
    frame = download(document(STRUCTURES))
    assert cells(frame, "domain", "prompt_tokens", "response_tokens") == [("sums", 4, 9), ("sums", 5, 1)]
    costs = [{"query": "?", "scores": {"a": 1, "b": 0}, "costs": {"a": 0.5}, "latencies": 3, "task": "t"}]
    assert cells(download(document(costs)), "llm", "cost_usd", "domain") == [("a", 0.5, "t"), ("b", None, "t")]
    estimated = download(document(COMPLETIONS)).sort("llm")
    assert cells(estimated, "response_tokens", "tokens_basis") == [(1, "characters"), (1, "characters")]


@pytest.mark.parametrize("extra", [{"metadata": {"score": 1}}, {"model": "a", "ratings": {"help": 1, "truth": 0}}])
def test_marks_of_one_answer_are_no_llms(extra: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the column `(llm|quality)` is missing"):
        download(document([{"prompt": "?", **extra}]))


def test_a_file_per_llm_makes_one_table() -> None:
    for llm, score in (("small", 0.0), ("large", 1.0)):
        records = [{"origin_query": "1 + 1?", "score": score, "prompt_tokens": 5, "completion_tokens": 2, "cost": 0.1}]
        document({"model_name": llm, "dataset_name": "sums", "records": records}, f"bench/{llm}/run.json")
    frame = download("bench")
    assert cells(frame.sort("quality")) == [("1 + 1?", "small", 0.0), ("1 + 1?", "large", 1.0)]
    assert cells(frame.head(1), "domain", "prompt_tokens", "response_tokens", "cost_usd") == [("sums", 5, 2, 0.1)]


# ---------------------------------------------------------------- long tables in other clothes


def test_llmrouters_lines_are_a_long_table() -> None:
    row = {
        "task_name": "sums",
        "query": "1 + 1?",
        "ground_truth": "2",
        "model_name": "small",
        "response": "2",
        "token_num": 12,
        "input_tokens": 10,
        "output_tokens": 2,
        "response_time": 0.5,
        "performance": 1.0,
        "embedding_id": 7,
    }
    frame = download(lines(row))
    columns = ("query_text", "domain", "llm", "quality", "prompt_tokens", "response_tokens", "latency_s")
    assert cells(frame, *columns) == [("1 + 1?", "sums", "small", 1.0, 10, 2, 0.5)]


CONVERSATIONS = [
    [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Who?"}, {"from": "gpt", "value": "I."}],
    [{"role": "user", "parts": [{"type": "text", "content": "Be brief.\nWho?"}]}],
    [
        {"role": "user", "content": "Be brief."},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Who?"},
    ],
]


@pytest.mark.parametrize("form", ["json", "jsonl", "parquet", "csv"])
@pytest.mark.parametrize("case", range(3))
@pytest.mark.parametrize("name", ["messages", "conversations", "prompt"])
def test_conversations_are_what_was_asked(form: str, case: int, name: str) -> None:
    row = {name: CONVERSATIONS[case], "model": "a", "score": 1}
    if form == "csv":
        pl.DataFrame([row | {name: json.dumps(CONVERSATIONS[case])}]).write_csv("t.csv")
    elif form == "parquet":
        pl.DataFrame([row]).write_parquet("t.parquet")
    path = f"t.{form}" if form in ("csv", "parquet") else document([row]) if form == "json" else lines(row)
    assert download(path)["query_text"].to_list() == ["Be brief.\nYes.\nWho?" if case == 2 else "Be brief.\nWho?"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.json", '[{"prompt": "?", "model": "a", "score": 1}]'),
        ("t.json", '{"data": [{"prompt": "?", "model": "a", "score": true}]}'),
        ("t.json", '{"prompt": ["?"], "model": ["a"], "score": [1]}'),
        ("t.json", '{"prompt": {"0": "?"}, "model": {"0": "a"}, "score": {"0": 1}}'),
        ("t.json", '{"prompt": "?", "model": "a", "score": 1}\n\n{"prompt": "!", "model": "a", "score": NaN}\n'),
        ("t.jsonl", '\n[{"prompt": "?",\n "model": "a", "score": 1}]'),
        ("calls.log", '{"prompt": "?", "model": "a", "score": 1}'),
        ("t.ndjson", '{"prompt": "?", "model": "a", "score": "1"}'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_json_comes_in_several_shapes(name: str, text: str, packed: bool) -> None:
    if packed and name.endswith(".log"):
        pytest.skip("what a packed file of an unknown name holds is not looked at")
    Path(name + ".gz" * packed).write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert cells(download(name + ".gz" * packed))[0] == ("?", "a", 1.0)


def test_shards_are_one_table() -> None:
    Path("shards").mkdir()
    for number in range(2):
        row = {"prompt": str(number), "model": "a", "score": number}
        pl.DataFrame([row]).write_parquet(f"shards/train-0000{number}-of-00002.parquet")
    assert cells(download("shards")) == [("0", "a", 0.0), ("1", "a", 1.0)]


@pytest.mark.parametrize("text", ['{"a": 1', "[1, 2]", '[{"a": 1}, 5]', "[" * 100_000])
def test_json_that_is_none_is_refused_in_one_line(text: str) -> None:
    Path("t.json").write_text(text)
    with pytest.raises(InputError, match=r"^t\.json") as refused:
        download("t.json")
    assert "\n" not in str(refused.value)
    assert not RAW.exists()


# ---------------------------------------------------------------- comparisons


def annotation(llm: str, preference: float | None, instruction: str = "Who?") -> dict[str, Any]:
    return {
        "instruction": instruction,
        "dataset": "koala",
        "generator_1": "gpt4_turbo",
        "output_1": "I am one.",
        "generator_2": llm,
        "output_2": "I.",
        "preference": preference,
        "price_per_example": 0.01,
    }


def test_annotations_of_alpacaeval_are_probabilities_against_the_reference() -> None:
    document([annotation("a", 1.75), annotation("a", None, "Lost?")], "results/a/annotations.json")
    document([annotation("b", 1.0)], "results/b/annotations.json")
    frame = download("results")
    assert sorted(cells(frame)) == [
        ("Who?", "a", 0.75),
        ("Who?", "b", 0.0),
        ("Who?", "gpt4_turbo", 0.5),
        ("Who?", "gpt4_turbo", 0.5),
    ]
    assert frame["domain"].unique().to_list() == ["koala"]
    assert frame["cost_usd"].null_count() == 4  # the price is the judge's
    assert frame.filter(pl.col("llm") == "a")["response_tokens"].to_list() == [1]


def test_votes_share_one_point() -> None:
    votes = [
        {"model_a": "a", "model_b": "b", "winner": winner, "conversation_a": CHAT} for winner in ("model_b", "tie", "?")
    ]
    expected = [("Be brief.\nWho?", "a", 0.0), ("Be brief.\nWho?", "b", 1.0)]
    assert cells(download(lines(*votes))) == [*expected, *((text, llm, 0.5) for text, llm, _ in expected)]


# ---------------------------------------------------------------- logs

PAYLOAD = {
    "id": "1",
    "call_type": "acompletion",
    "status": "success",
    "model": "gpt-4o-mini",
    "model_group": "small",
    "messages": CHAT,
    "response_cost": 0.002,
    "prompt_tokens": 11,
    "completion_tokens": 5,
    "startTime": 100.0,
    "endTime": 101.5,
    "cache_hit": False,
    "metadata": {"requester_metadata": {"score": 0.75, "task": "who"}},
}
SPEND = {
    "request_id": "1",
    "call_type": "acompletion",
    "spend": 0.002,
    "prompt_tokens": 11,
    "completion_tokens": 5,
    "startTime": "2026-11-28 10:00:00.000",
    "endTime": "2026-11-28 10:00:01.500",
    "model": "gpt-4o-mini",
    "metadata": json.dumps({"feedback": "thumbs_up", "task": "who"}),
    "cache_hit": "False",
    "messages": json.dumps(CHAT),
    "response": "{}",
}
LOGGED = ("query_text", "llm", "domain", "prompt_tokens", "response_tokens", "cost_usd", "latency_s", "tokens_basis")


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(("record", "quality"), [(PAYLOAD, 0.75), (SPEND, 1.0)])
def test_litellms_logs(record: dict[str, Any], quality: float, wrapped: bool) -> None:
    others = [
        record | {"status": "failure"},
        record | {"call_type": "aembedding"},
        record | {"messages": {}},
        record | {"cache_hit": "True"},
        record | {"metadata": {}},
    ]
    records = [record, *others]
    frame = download(lines(*({"standard_logging_object": one} if wrapped else one for one in records)))
    row = ("Be brief.\nWho?", "gpt-4o-mini", "who", 11, 5, 0.002, 1.5, "api_reported")
    assert cells(frame, *LOGGED) == [row, (*row[:5], None, None, "api_reported")]
    assert frame["quality"].to_list() == [quality, quality]
    assert read_json(RAW / "manifest.json")["converted_from"]["left_out"] == {
        "failed_calls": 1,
        "calls_that_are_no_chat": 1,
        "answers_without_prompt": 1,
        "answers_without_quality": 1,
    }


def test_spend_logs_in_csv_are_recognised() -> None:
    pl.DataFrame([SPEND]).write_csv("spend.csv")
    assert cells(download("spend.csv")) == [("Be brief.\nWho?", "gpt-4o-mini", 1.0)]


def attributes(**values: Any) -> list[dict[str, Any]]:
    kinds = {str: "stringValue", float: "doubleValue", int: "intValue"}
    return [
        {"key": key.replace("__", "."), "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for key, value in values.items()
    ]


def span(number: int, above: int | None = None, **values: Any) -> dict[str, Any]:
    return {
        "traceId": "t",
        "spanId": f"s{number}",
        "parentSpanId": "" if above is None else f"s{above}",
        "name": "chat",
        "startTimeUnixNano": "1000000000",
        "endTimeUnixNano": "3500000000",
        "attributes": attributes(**values),
        "status": {},
    }


ASKED = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Who?"}]}])
ANSWER: dict[str, Any] = {
    "gen_ai__operation__name": "chat",
    "gen_ai__request__model": "small",
    "gen_ai__response__model": "small-2026",
    "gen_ai__usage__input_tokens": 11,
    "gen_ai__usage__output_tokens": 5,
    "gen_ai__usage__cost": 0.002,
}
JUDGED = [{"name": "gen_ai.evaluation.result", "attributes": attributes(gen_ai__evaluation__score__value=0.75)}]
PASSED = [{"name": "gen_ai.evaluation.result", "attributes": attributes(gen_ai__evaluation__score__label="pass")}]


def traced(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


def test_opentelemetrys_spans() -> None:
    whole = span(1, gen_ai__input__messages=ASKED, **ANSWER) | {"events": JUDGED}
    failed = span(2, gen_ai__input__messages=ASKED, **ANSWER) | {"status": {"code": 2}}
    mute = span(3, **ANSWER)
    other = span(4, http__method="GET")
    frame = download(lines(traced(whole, failed), traced(mute, other)))
    row = ("Who?", "small", None, 11, 5, 0.002, 2.5, "api_reported")
    assert cells(frame, *LOGGED) == [row]
    assert frame["quality"].to_list() == [0.75]
    left = read_json(RAW / "manifest.json")["converted_from"]["left_out"]
    assert left == {"failed_calls": 1, "answers_without_prompt": 1}


@pytest.mark.parametrize("late", [False, True])
def test_a_gateways_span_gives_query_and_feedback_to_the_call_that_answered(late: bool) -> None:
    around = span(1, gen_ai__operation__name="chat", gen_ai__request__model="auto", gen_ai__input__messages=ASKED)
    feedback = span(5, 1) | {"events": PASSED}
    broken = span(2, 1, **ANSWER) | {"status": {"code": "STATUS_CODE_ERROR"}}
    answer = span(4, 3, **(ANSWER | {"symbiosis__llm": "mine"}))
    spans = [broken, span(3, 1), answer, feedback if late else around | {"events": PASSED}]
    frame = download(document(traced(*spans, *([around] if late else []))))
    assert cells(frame) == [("Who?", "mine", 1.0)]


def test_an_evaluation_may_be_a_log() -> None:
    log = {
        "traceId": "t",
        "spanId": "s1",
        "eventName": "gen_ai.evaluation.result",
        "attributes": attributes(gen_ai__evaluation__score__value=0.25),
    }
    by_id = {"eventName": log["eventName"], "attributes": attributes(**{
        "gen_ai__response__id": "r2", "gen_ai__evaluation__score__value": 1.0})}  # fmt: skip
    first = span(1, gen_ai__input__messages=ASKED, **ANSWER)
    second = span(2, gen_ai__input__messages=ASKED, **(ANSWER | {"gen_ai__response__id": "r2"}))
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [log, by_id]}]}]}
    assert download(lines(traced(first, second), logs))["quality"].to_list() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("told", "events"),
    [
        ({"gen_ai.prompt": ASKED}, []),
        ({"gen_ai.prompt.0.content": "Be brief.", "gen_ai.prompt.1.content": "Who?"}, []),
        ({}, [{"name": "gen_ai.content.prompt", "attributes": {"gen_ai.prompt": json.dumps(CHAT)}}]),
        ({"gen_ai.system_instructions": "Be brief.", "gen_ai.input.messages": ASKED}, []),
    ],
)
def test_printed_spans_and_earlier_conventions(told: dict[str, Any], events: list[Any]) -> None:
    printed = {
        "name": "chat",
        "context": {"trace_id": "0x1", "span_id": "0x2"},
        "parent_id": None,
        "start_time": "2026-11-28T10:00:00.000000Z",
        "end_time": "2026-11-28T10:00:01.250000Z",
        "status": {"status_code": "UNSET"},
        "attributes": {"gen_ai.request.model": "a", "gen_ai.usage.prompt_tokens": 7, "score": 0.5, **told},
        "events": events,
    }
    frame = download(lines(printed))
    assert frame["query_text"].to_list() in (["Who?"], ["Be brief.\nWho?"])
    assert cells(frame, "llm", "quality", "prompt_tokens", "latency_s") == [("a", 0.5, 7, 1.25)]


# ---------------------------------------------------------------- our own decisions


def decision(number: int, **changes: Any) -> dict[str, Any]:
    call = {"llm": "b", "status": 200, "error": None, "prompt_tokens": 11.0, "response_tokens": 5.0, "cost_usd": 0.002}
    return {
        "id": f"d-{number}",
        "llm": "a",
        "served": "b",
        "text": "Who?",
        "text_sha256": "0",
        "calls": [{"llm": "a", "status": 500, "error": "gone"}, call | {"total_s": 1.5}],
        "feedback": {"quality": None, "satisfied": True, "response_tokens": None},
    } | changes


def test_an_export_of_decisions() -> None:
    told = {"quality": 0.25, "satisfied": None, "response_tokens": 9.0}
    others = [decision(2, served=None, calls=[], feedback=told), decision(3, text=None), decision(4, feedback=None)]
    frame = download(lines(decision(1), *others))
    assert cells(frame, *LOGGED[:2], *LOGGED[3:7]) == [
        ("Who?", "b", 11, 5, 0.002, 1.5),
        ("Who?", "a", None, 9, None, None),
    ]
    assert frame["quality"].to_list() == [1.0, 0.25]


# ---------------------------------------------------------------- what is missing

MUTE = span(1, gen_ai__input__messages=ASKED, **ANSWER)
LACKING: dict[str, tuple[Any, str]] = {
    "litellm": (PAYLOAD | {"metadata": {}}, r"1 answers of 1 LLMs, with costs, tokens, times, but no quality.*`score`"),
    "litellm without prompts": (PAYLOAD | {"messages": None}, "1 answers, none of them with its prompt.*store_prompts"),
    "opentelemetry": (traced(MUTE), r"spans.*no quality.*gen_ai\.evaluation\.result"),
    "opentelemetry without prompts": (traced(span(1, **ANSWER)), r"record `gen_ai\.input\.messages`"),
    "decisions": (decision(1, feedback=None), "no quality.*symbiosis feedback"),
    "decisions without prompts": (decision(1, text=None), "store_texts: true"),
    "nothing but failures": (PAYLOAD | {"status": "failure"}, r"without answers \(1 failed calls\)"),
}


@pytest.mark.parametrize("case", LACKING)
def test_a_log_that_cannot_teach_says_in_one_line_what_is_missing(case: str) -> None:
    record, message = LACKING[case]
    with pytest.raises(InputError, match=message) as refused:
        download(lines(record))
    assert "\n" not in str(refused.value)
    assert not RAW.exists()


def test_files_of_several_kinds_are_not_put_together() -> None:
    Path("logs").mkdir()
    lines(PAYLOAD, name="logs/a.jsonl")
    lines(traced(MUTE), name="logs/b.jsonl")
    with pytest.raises(InputError, match="logs holds 2 tables"):
        download("logs")
    with pytest.raises(InputError, match="logs holds files of several kinds"):
        layouts.read_all([Path("logs/a.jsonl"), Path("logs/b.jsonl")])


def test_every_layout_has_a_name() -> None:
    assert set(layouts.LOGS) < set(layouts.TITLES)
    assert set(REQUIRED) < set(COLUMNS)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        (
            [{"id": "1", "llm": "a", "calls": "none", "text_sha256": "x", "text": "Who?", "feedback": None}],
            r"t.jsonl, line 1 or before: a record has another form than the others, unlike decisions of a router of "
            r"ours \(AttributeError: .*\): correct it, or take it out",
        ),
        ([{"resourceSpans": True}], r"t.jsonl, line 1 or before: a record has another form .* OpenTelemetry's spans"),
    ],
    ids=["decisions", "spans"],
)
def test_a_record_of_another_form_is_named(records: list[Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        layouts.read(Path(lines(*records)))
    assert "\n" not in str(caught.value)
