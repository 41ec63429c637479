"""One typing step for all formats: a table says the same in parquet, csv and jsonl, or is refused in one line."""

import contextlib
import gzip
import json
import os
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.core.errors import InputError
from symbiosis.routing.data import table
from symbiosis.routing.data.readers import routerbench, table_files
from symbiosis.routing.data.readers.query_text import text_of

MALFORMED = Path(os.environ.get("SYMBIOSIS_DATA_DIR", "nowhere"), "malformed")
CELL = {
    "query_id": "q",
    "query_text": "Who?",
    "domain": "d",
    "llm": "a",
    "quality": 1.0,
    "cost_usd": 0.5,
    "cost_basis": "source",
    "latency_s": 2.0,
    "response_tokens": 7,
}
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
SUFFIXES = (".parquet", ".csv", ".jsonl")


def write(folder: Path, suffix: str, column: str, values: list[Any]) -> Path:
    """Write a table of as many rows as there are values of one column."""
    path = folder / f"t{suffix}"
    if suffix == ".jsonl":  # as Python writes it, with NaN and Infinity
        path.write_text("".join(json.dumps(CELL | {column: value}, default=str) + "\n" for value in values))
        return path
    frame = pl.DataFrame([CELL] * len(values)).with_columns(pl.Series(column, values))
    if suffix == ".parquet":
        frame.write_parquet(path)
    else:
        frame.write_csv(path)
    return path


def read(path: Path, column: str) -> list[Any]:
    return table.read_table(path)[column].to_list()


SAME: dict[str, tuple[str, list[Any], list[Any]]] = {
    "NaN": ("quality", [0.5, float("nan"), None], [0.5, None, None]),
    "NaN in an optional column": ("latency_s", [float("nan"), 2.5, None], [None, 2.5, None]),
    "NaN among whole numbers": ("response_tokens", [float("nan"), 98.0], [None, 98]),
    "only NaN": ("latency_s", [float("nan")] * 2, [None, None]),
    "right or wrong": ("quality", [True, False, None], [1.0, 0.0, None]),
    "whole numbers": ("quality", [1, 0], [1.0, 0.0]),
    "whole numbers written as texts": ("response_tokens", ["12", " 13.0 ", ""], [12, 13, None]),
    "words": ("quality", ["True", "FALSE", "nan", "0.25"], [1.0, 0.0, None, 0.25]),
    "free": ("cost_usd", [0, 0], [0.0, 0.0]),
    "numbers as names": ("query_id", [17, 18], ["17", "18"]),
    "durations in words": ("latency_s", ["PT3.6S", "0 days 00:01:02.5", "0:00:01", "1.5"], [3.6, 62.5, 1.0, 1.5]),
    "messages in JSON": ("query_text", [json.dumps(MESSAGES), "[{'role'"], ["Be brief.\nWho?", "[{'role'"]),
    "messages in Python's notation": ("query_text", [str(MESSAGES)], ["Be brief.\nWho?"]),
    "a list that is the question": ("query_text", ['["a", "b"]', "[{1}]"], ['["a", "b"]', "[{1}]"]),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", SAME)
def test_a_value_is_the_same_in_every_format(tmp_path: Path, case: str, suffix: str) -> None:
    column, values, expected = SAME[case]
    assert read(write(tmp_path, suffix, column, values), column) == expected


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_duration_is_its_seconds(tmp_path: Path, unit: Any) -> None:
    values = pl.Series([timedelta(seconds=3, milliseconds=600), None], dtype=pl.Duration(unit))
    assert read(write(tmp_path, ".parquet", "latency_s", values), "latency_s") == [3.6, None]  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize(
    "value",
    [
        MESSAGES,
        ["Be brief.", "Who?"],
        [MESSAGES[0], {"role": "user", "content": [{"type": "text", "text": "Who?"}]}],
    ],
)
def test_lists_and_messages_are_the_text_that_they_say(tmp_path: Path, suffix: str, value: Any) -> None:
    if suffix == ".parquet" and not all(isinstance(part["content"], str) for part in value if isinstance(part, dict)):
        pytest.skip("a parquet column has one type")
    assert read(write(tmp_path, suffix, "query_text", [value]), "query_text") == ["Be brief.\nWho?"]


def test_what_is_no_message_has_no_text() -> None:
    assert [text_of(value) for value in (5, {"role": "user"}, [["x"], 5], {"content": 5})] == [None] * 4
    assert text_of([{"role": "assistant", "content": None}, None, "x"]) == "\nx"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("column", ["quality", "cost_usd", "latency_s", "response_tokens"])
def test_an_infinite_value_is_named_by_row(tmp_path: Path, suffix: str, column: str) -> None:
    path = write(tmp_path, suffix, column, [1.0, float("inf")])
    with pytest.raises(InputError, match=rf"`{column}` is '?[Ii]nf(inity)?'?, not .* in row 2, query 'q', LLM 'a'"):
        table.read_table(path)


REFUSED: dict[str, tuple[str, list[Any], str]] = {
    "a cost that is a boolean": ("cost_usd", [True], "cost_usd"),
    "a quality that is a date": ("quality", [date(2026, 1, 1)], "quality"),
    "a quality that is a word": ("quality", ["good"], "`quality` is 'good'"),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("case", REFUSED)
def test_a_value_of_another_kind_is_refused_in_every_format(tmp_path: Path, case: str, suffix: str) -> None:
    column, values, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        table.read_table(write(tmp_path, suffix, column, values))


@pytest.mark.parametrize("value", [5, {"role": "user"}, [[1]]])
def test_a_query_that_is_no_text_is_named(tmp_path: Path, value: Any) -> None:
    path = write(tmp_path, ".jsonl", "query_text", ["x", value])
    if value == 5:
        assert read(path, "query_text") == ["x", "5"]
        return
    with pytest.raises(InputError, match=r"t\.jsonl: `query_text` in line 2 is neither a text nor chat messages"):
        table.read_table(path)


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "mark, CRLF, blank last line": lambda text: b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n") + b"\r\n",
    "UTF-16": lambda text: text.decode().encode("utf-16"),
    "gzip of two members": lambda text: gzip.compress(text[:40]) + gzip.compress(text[40:]),
}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("form", FORMS)
def test_a_text_file_is_read_in_any_legal_form(tmp_path: Path, suffix: str, form: str) -> None:
    path = write(tmp_path, suffix, "query_text", ["é", "b"])
    expected = table.read_table(path)
    path.write_bytes(FORMS[form](path.read_bytes()))
    assert table.read_table(path).equals(expected)
    assert suffix == ".jsonl" or table_files.column_names(path) == list(CELL)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(("bad", "fault"), [(b"\xe9", "UTF-8"), (b"\0", "NUL")])
def test_what_is_no_text_is_named_with_its_line(tmp_path: Path, suffix: str, bad: bytes, fault: str) -> None:
    path = write(tmp_path, suffix, "query_text", ["a", "XX"])
    path.write_bytes(path.read_bytes().replace(b"XX", bad))
    with pytest.raises(InputError, match=rf"line {3 if suffix == '.csv' else 2} .*{fault}"):
        table.read_table(path)


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    path = write(tmp_path, ".jsonl", "query_text", ["a\ud83d", json.dumps([{"role": "user", "content": "b\ud83d"}])])
    assert read(path, "query_text") == ["a?", "b?"]


# ---------------------------------------------------------------- units


def long(**columns: Any) -> pl.DataFrame:
    height = max(len(values) for values in columns.values())
    return table.typed(
        pl.DataFrame([CELL] * height).with_columns(**{k: pl.Series(v) for k, v in columns.items()}), Path("t")
    )


def test_percent_and_milliseconds_are_told_from_shares_and_seconds() -> None:
    with pytest.raises(InputError, match="`quality` goes up to 100, .* looks like percent; divide by"):
        table.require_plausible(long(quality=[0, 55, 100]), Path("t"))
    with pytest.raises(
        InputError, match="the median `latency_s` of LLM '[a-z]+' is 3,600, .* looks like milliseconds; divide by 1,000"
    ):
        table.require_plausible(long(latency_s=[3600.0], response_tokens=[165]), Path("t"))
    for plausible in (
        long(quality=[0.0, 0.5, 1.0]),
        long(quality=[1.0, 1.0, 0.5, 3.0]),  # one wrong value, which the data quality suite names
        long(quality=[0, 0]),
        long(latency_s=[3600.0], response_tokens=[40_000]),
        long(latency_s=[None, 90.0]),
    ):
        table.require_plausible(plausible, Path("t"))


# ---------------------------------------------------------------- RouterBench's wide table


def test_a_wide_table_may_hold_lists(tmp_path: Path) -> None:
    wide = {"sample_id": ["s"], "prompt": [["one", "two"]], "eval_name": ["e"], "m": [True]}
    wide |= {"m|model_response": [["answer"]], "m|total_cost": [0.25]}
    path = tmp_path / "rb.parquet"
    pl.DataFrame(wide).write_parquet(path)
    columns = ("query_text", "quality", "prompt_tokens", "response_tokens", "cost_usd")
    assert table.typed(routerbench.to_long(path), path).select(columns).rows() == [("one\ntwo", 1.0, 2, 2, 0.25)]
    pl.DataFrame(wide | {"m": [[1.0]]}).write_parquet(path)
    with pytest.raises(InputError, match=r"rb\.parquet"):
        table.typed(routerbench.to_long(path), path)


# ---------------------------------------------------------------- whatever the bytes


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    return {suffix: write(folder, suffix, "quality", [1.0, 0.0]).read_bytes() for suffix in SUFFIXES}


@given(data=st.data())
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_any_bytes_give_rows_or_one_line(
    suffix: str, data: st.DataObject, good: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    start = data.draw(st.integers(0, len(good[suffix])))
    end = data.draw(st.integers(start, len(good[suffix])))
    path.write_bytes(good[suffix][:start] + data.draw(st.binary(max_size=200)) + good[suffix][end:])
    for reader in (table.read_table, routerbench.to_long):
        with contextlib.suppress(InputError):
            assert reader(path).height > 0


# ---------------------------------------------------------------- the inputs of the bug reports


@pytest.mark.data
@pytest.mark.skipif(not MALFORMED.is_dir(), reason="the folder of malformed inputs is not there")
@pytest.mark.parametrize(
    ("name", "column", "expected"),
    [
        ("20-jsonl-bool-quality/t.jsonl", "quality", (0.0, 1.0)),
        ("23-jsonl-messages/t.jsonl", "query_text", "math question number 0: what is the value of item 137?"),
        ("23c-parquet-list/t.parquet", "query_text", "math question number 0: what is the value of item 137?"),
        ("24-jsonl-nan/t.jsonl", "latency_s", 1),
        ("26-parquet-nan-quality/t.parquet", "quality", 2),
        ("26d-nan-latency/t.parquet", "latency_s", 180),
        ("28b-all-zero-cost/t.csv", "cost_usd", (0.0,)),
    ],
)
def test_malformed_tables_have_the_right_values(name: str, column: str, expected: Any) -> None:
    values = table.read_table(MALFORMED / name)[column]
    assert len(values) == 180
    if isinstance(expected, tuple):
        assert set(values) == set(expected)
    elif isinstance(expected, str):
        assert values[0] == expected
    else:
        assert values.null_count() == expected


@pytest.mark.data
@pytest.mark.skipif(not MALFORMED.is_dir(), reason="the folder of malformed inputs is not there")
def test_a_malformed_wide_table_of_lists_is_read() -> None:
    path = MALFORMED / "65b-rb-list-parquet" / "rb.parquet"
    frame = table.typed(routerbench.to_long(path), path)
    assert frame.height == 180
    assert set(frame["query_text"]) == {"question\nsecond"}
