"""Where routing tables come from: files in each format, RouterBench's wide table, pickles good and hostile."""

import base64
import json
import os
import pickle
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stages import clean_routing, download_routing
from symbiosis.core.artifacts import read_json, sha256_of
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data import synthetic, table
from symbiosis.routing.data.cleaning import read
from symbiosis.routing.data.params import CleanRoutingParams, DownloadRoutingParams
from symbiosis.routing.data.readers import pickles, routerbench
from symbiosis.routing.data.readers.columns import REQUIRED

ROOT = Path(__file__).resolve().parents[3]
RAW = Path("data/raw/routing")

# Two rows of RouterBench's layout, made up, pickled by pandas 2.0.3 with protocol 5 and compressed by zlib.
PANDAS_2 = (
    "eNptVM1P1EAU7y67y2cQiSIYo9x2JVI/DsaDSY0YE2xYDRcPQOq0nd02tJ06nbKQQNQDCMkkHnjyP/jv+BcYr1705sFE30y7uqvOob830/f5e2/mdf"
    "39u5qhlzyfksQnmekxTs0OJzEFOf6ICPJYy6dw/Q0cQEvWnLjLQV4dVA8TQXlCosyMSUK6lGcgpx5GzNteK/ZoLudKCycK3eyPCchzTp6kobcdUcdV"
    "Nkp5NsnjdK/wjiLloQdy0ulwFrt5p6M9ts4eGIPrk1XgV2vo2Pj+annlypfPdy9bBS5ZPz58+7jmPivxhQWyruMh+mIvVdXKaucenBy/hXVo2SOych"
    "/a7faTn7j0xzYEuHbNrh6BrKyAQLVgunW2WIYcKbEk1xgtcaxECGZlNRwIEMz9z/0hBAvKtV1VasGkvDhAS5xHIiScE0x7yuHUY0kmeO4JzD6YkaNI"
    "tv55CrZxCCsVF4pYFbuh0lYZPB0qcf+vEi3M4WQLWz4Rx1G+HJGeeRtw46ap6dMdtRnbaD4PmNXcAjmDIg8FXdxs7m42TXU01rcDWVNWIBsbzZjir7"
    "asbzS50kF8qZHcZAmFwKIYVVF5a7iJRqXEaon1Ehsljv+m9prdGCbuCFQV88MT69NdmpkuyXDOJ5yE9pxVdabIW5X1vqwn3sdbAEErWFJEBjf6NE7g"
    "5o4maDwjcYrjG/pYYoozmgq8PHSHRE6iLk9gyRHRYyAv6Cr3Y+bTCFuWpdgzjD+LP/85nCl0BRPoxmMZupxWeoMH84wTDwMXtoI5nOWCogCKRlnT0d"
    "v5kZoeWy78jwFOkq6iYF3hQNmBg03KBOEC50fWMsFSpFMJFIWK9knVB18EvDNYr6Kp/3A4MRVE86Z7KwQ+CQdIjtOJSFeLl0gUsV7m+HkahR7BrCPi"
    "UnwPjrPcNX8BO4CpqA=="
)


def params(**changes: Any) -> DownloadRoutingParams:
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    return DownloadRoutingParams.model_validate(document["download_routing"] | changes)


def refusal(**changes: Any) -> str:
    """Run the stage on bad input; return its message, having checked that nothing is left behind."""
    with pytest.raises(InputError) as error:
        download_routing.work(params(**changes))
    assert not RAW.exists()
    assert list(RAW.parent.iterdir()) == []
    return str(error.value)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def raw() -> pl.DataFrame:
    return synthetic.generate(20, seed=5)


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_ndjson(path)
    return path


# ---------------------------------------------------------------- long tables


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_long_table_is_copied_byte_for_byte_and_read_back(raw: pl.DataFrame, suffix: str) -> None:
    file = write(raw.with_columns(pl.lit("extra").alias("note")), Path(f"mine{suffix}"))
    download_routing.work(params(source="table", path=str(file)))
    manifest = read_json(RAW / "manifest.json")
    assert (RAW / f"table{suffix}").read_bytes() == file.read_bytes()
    assert manifest == {
        "source": "table",
        "format": suffix[1:],
        "size": file.stat().st_size,
        "sha256": sha256_of(file),
    }
    frame, path = read(RAW)
    assert path == RAW / f"table{suffix}"
    expected = table.typed(raw, path)
    assert_frame_equal(frame.drop("latency_s"), expected.drop("latency_s"))
    assert_frame_equal(frame.select("latency_s"), expected.select("latency_s"), rel_tol=1e-6)


def test_a_folder_must_hold_exactly_one_table(raw: pl.DataFrame) -> None:
    Path("tables").mkdir()
    Path("tables/README.md").write_text("about")
    assert "tables holds 0 tables (.parquet, .csv, .jsonl, " in refusal(source="table", path="tables")
    write(raw, Path("tables/one.csv"))
    download_routing.work(params(source="table", path="tables"))
    assert (RAW / "table.csv").exists()
    write(raw, Path("tables/two.parquet"))
    with pytest.raises(InputError, match=r"tables holds 2 tables .*: one.csv, two.parquet"):
        download_routing.work(params(source="table", path="tables"))


def test_what_is_no_table_is_refused() -> None:
    assert "nowhere does not exist" in refusal(source="table", path="nowhere")
    Path("rows.xlsx").write_text("x")
    assert "rows.xlsx is none of .parquet, .csv, .jsonl" in refusal(source="table", path="rows.xlsx")
    Path("rows.pkl").write_bytes(pickle.dumps([1]))
    assert "rows.pkl cannot be read safely" in refusal(source="table", path="rows.pkl")
    Path("cut.parquet").write_bytes(b"PAR1 and nothing else")
    assert "cut.parquet is not a readable parquet file" in refusal(source="table", path="cut.parquet")
    Path("empty.csv").write_text("")
    assert "empty.csv is not a readable csv file" in refusal(source="table", path="empty.csv")


@pytest.mark.parametrize("column", REQUIRED)
def test_a_missing_column_is_named(raw: pl.DataFrame, column: str) -> None:
    write(raw.drop(column), Path("a.csv"))
    assert f"a.csv: the column `{column}` is missing" in refusal(source="table", path="a.csv")
    with pytest.raises(InputError, match=f"a.jsonl: the column `{column}` is missing"):
        table.read_table(write(raw.drop(column), Path("a.jsonl")))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_without_rows_is_refused(raw: pl.DataFrame, suffix: str) -> None:
    with pytest.raises(InputError, match="the table has no rows"):
        table.read_table(write(raw.head(0), Path(f"a{suffix}")))


def test_an_empty_jsonl_file_is_refused() -> None:
    Path("a.jsonl").write_text("")
    with pytest.raises(InputError, match="the table has no rows"):
        table.read_table(Path("a.jsonl"))


@pytest.mark.parametrize("broken", ['{"query_id": "a", "quality": ', "[1, 2]", '"text"', "NaN"])
def test_a_broken_line_of_jsonl_is_named(raw: pl.DataFrame, broken: str) -> None:
    lines = write(raw, Path("a.jsonl")).read_text().splitlines()
    Path("a.jsonl").write_text("\n".join([*lines[:6], broken, *lines[6:]]) + "\n")
    with pytest.raises(InputError, match="line 7 is not a JSON object"):
        table.read_table(Path("a.jsonl"))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_value_of_another_type_is_named_by_row(raw: pl.DataFrame, suffix: str) -> None:
    quality = raw["quality"].cast(pl.String).to_list()
    quality[8] = "good"
    bad = raw.with_columns(pl.Series("quality", quality))
    query, llm = bad["query_id"][8], bad["llm"][8]
    expected = f"`quality` is 'good', not Float64, in row 9, query '{query}', LLM '{llm}' \\(1 such rows\\)"
    with pytest.raises(InputError, match=expected):
        table.read_table(write(bad, Path(f"a{suffix}")))


def test_whole_numbers_may_be_written_with_a_point_but_fractions_are_refused(raw: pl.DataFrame) -> None:
    floats = raw.with_columns(pl.col("prompt_tokens", "response_tokens").cast(pl.Float64))
    for suffix in (".csv", ".parquet"):
        back = table.read_table(write(floats, Path(f"a{suffix}")))
        assert back["response_tokens"].to_list() == raw["response_tokens"].to_list()
        half = write(floats.with_columns(pl.col("prompt_tokens") + 0.5), Path(f"b{suffix}"))
        with pytest.raises(InputError, match=r"`prompt_tokens` is '?\d+\.5'?, not Int64, in row 1"):
            table.read_table(half)


def test_a_csv_line_with_too_many_fields_is_named(raw: pl.DataFrame) -> None:
    lines = write(raw, Path("a.csv")).read_text().splitlines()
    Path("a.csv").write_text("\n".join([*lines[:4], lines[4] + ",more", *lines[5:]]) + "\n")
    with pytest.raises(InputError, match="line 5 has 14 fields, the header 13"):
        table.read_table(Path("a.csv"))


def test_a_csv_file_of_another_encoding_is_refused(raw: pl.DataFrame) -> None:
    text = raw.with_columns(pl.lit("caf\u00e9").alias("query_text")).write_csv()
    Path("a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="a.csv: line 2 is not UTF-8: save the file as UTF-8"):
        table.read_table(Path("a.csv"))


def test_a_column_of_lists_is_refused() -> None:
    frame = pl.DataFrame({name: ["x"] for name in REQUIRED}).with_columns(pl.Series("quality", [[1.0]]))
    with pytest.raises(InputError, match="the column `quality` holds List"):
        table.read_table(write(frame, Path("a.parquet")))


def test_csv_texts_keep_line_breaks_and_empty_texts(raw: pl.DataFrame) -> None:
    texts = {"q000000": 'two\nlines, "quoted"', "q000001": ""}
    changed = raw.with_columns(
        pl.col("query_id").replace_strict(texts, default=pl.col("query_text")).alias("query_text")
    )
    back = table.read_table(write(changed, Path("a.csv")))
    assert back["query_text"].to_list() == changed["query_text"].to_list()


# ---------------------------------------------------------------- RouterBench's wide table


def wide() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sample_id": ["mmlu-law.1", "mbpp.dev.1", "mbpp.dev.1"],
            "prompt": ["['Who?']", "['Write \\'x\\'.']", "['Write it.']"],
            "eval_name": ["mmlu-law", "mbpp", "mbpp"],
            "a/one": [0.5, 1.0, None],
            "two": [0.0, 0.25, 1.0],
            "a/one|model_response": ["['The judge did.']", "['x']", None],
            "two|model_response": ["['me']", '["it\'s"]', "['']"],
            "a/one|total_cost": [1e-4, 2e-4, 3e-4],
            "two|total_cost": [1e-3, 2e-3, 3e-3],
            "oracle_model_to_route_to": ["a/one", "a/one", "two"],
        }
    )


LONG = [
    # query_id, query_text, domain, subdomain, llm, quality, prompt_tokens, response_tokens, cost_usd
    ("mmlu-law.1", "Who?", "mmlu", "mmlu-law", "a/one", 0.5, 1, 4, 1e-4),
    ("mbpp.dev.1", "Write 'x'.", "mbpp", "mbpp", "a/one", 1.0, 3, 1, 2e-4),
    ("mbpp.dev.1#2", "Write it.", "mbpp", "mbpp", "a/one", None, 3, None, 3e-4),
    ("mmlu-law.1", "Who?", "mmlu", "mmlu-law", "two", 0.0, 1, 1, 1e-3),
    ("mbpp.dev.1", "Write 'x'.", "mbpp", "mbpp", "two", 0.25, 3, 1, 2e-3),
    ("mbpp.dev.1#2", "Write it.", "mbpp", "mbpp", "two", 1.0, 3, 0, 3e-3),
]


def check_long(frame: pl.DataFrame) -> None:
    columns = ["query_id", "query_text", "domain", "subdomain", "llm", "quality"]
    columns += ["prompt_tokens", "response_tokens", "cost_usd"]
    assert frame.select(columns).rows() == LONG
    assert set(frame["tokens_basis"]) == {"characters"}
    assert set(frame["cost_basis"]) == {"source"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_wide_table_becomes_long(suffix: str) -> None:
    file = Path(f"rb{suffix}")
    if suffix == ".csv":
        wide().to_csv(file)  # with pandas' nameless index column, as some published files have it
    else:
        wide().to_parquet(file)
    download_routing.work(params(source="routerbench", path=str(file)))
    check_long(read(RAW)[0])


def test_a_wide_table_lacking_a_column_is_refused() -> None:
    wide().drop(columns="prompt").to_csv("a.csv", index=False)
    assert "a.csv: the column `prompt` is missing: RouterBench's table has" in refusal(
        source="routerbench", path="a.csv"
    )
    wide().drop(columns="two").to_csv("a.csv", index=False)
    assert "the column `two` is missing" in refusal(source="routerbench", path="a.csv")
    pd.DataFrame({"sample_id": [1]}).to_csv("a.csv", index=False)
    assert "a.csv: the column `prompt` is missing" in refusal(source="routerbench", path="a.csv")


def test_a_wide_score_that_is_no_number_is_named() -> None:
    frame = wide().astype({"two": object})
    frame.loc[1, "two"] = "yes"
    frame.to_csv("a.csv", index=False)
    with pytest.raises(InputError, match="`quality` is 'yes', not Float64, .* query 'mbpp.dev.1', LLM 'two'"):
        table.typed(routerbench.to_long(Path("a.csv")), Path("a.csv"))


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("['one']", "one"),
        ("[\"it's\", 'two']", "it's\ntwo"),
        ("plain", "plain"),
        ("[1, 2]", "[1, 2]"),
        ("['cut", "['cut"),
        ("['a'] or ['b']", "['a'] or ['b']"),
        ("['a', __import__('os').system('true')]", "['a', __import__('os').system('true')]"),
        ("", ""),
    ],
)
def test_texts_in_lists_are_unwrapped_and_nothing_is_evaluated(written: str, text: str) -> None:
    assert routerbench.unwrapped(written) == text


# ---------------------------------------------------------------- pickles


def test_a_pickle_of_pandas_2_is_read_as_pandas_reads_it() -> None:
    Path("rb.pkl").write_bytes(zlib.decompress(base64.b64decode(PANDAS_2)))
    download_routing.work(params(source="routerbench", path="rb.pkl"))
    manifest = read_json(RAW / "manifest.json")
    assert manifest["format"] == "parquet"
    assert manifest["converted_from"] == {"format": "pickle", "size": 1178, "sha256": sha256_of("rb.pkl")}
    frame, _ = read(RAW)
    assert frame.sort("query_id", "llm").select("query_text", "llm", "quality", "cost_usd").rows() == [
        ("Write 'x'.", "a/one", 1.0, 2e-4),
        ("Write 'x'.", "two", None, 2e-3),
        ("Who?", "a/one", 0.5, 1e-4),
        ("Who?", "two", 0.0, 1e-3),
    ]


def with_object_texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame with texts of the dtype object, as pandas 1 and 2 hold them."""
    texts = [name for name in frame.columns if not pd.api.types.is_numeric_dtype(frame[name])]
    frame = frame.astype(dict.fromkeys(texts, object))
    frame.columns = pd.Index(list(frame.columns), dtype=object)
    return frame


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_every_protocol_agree_with_pandas(protocol: int) -> None:
    frame = with_object_texts(wide().assign(count=[3, 1, 2], good=[True, False, True]))
    table_order = pd.DataFrame(np.arange(6.0).reshape(3, 2), columns=pd.Index(["x", "y"], dtype=object), copy=False)
    parts = {"whole": frame, "rows": frame.iloc[[2, 0]], "columns": frame[frame.columns[::-2]], "order": table_order}
    for name, part in parts.items():
        file = Path(f"{name}.pkl")
        file.write_bytes(pickle.dumps(part, protocol=protocol))
        back = pickles.read_frame(file)
        assert back.columns == list(part.columns)
        for column in part.columns:
            expected = [None if pd.isna(value) else value for value in part[column]]
            assert back[column].to_list() == expected, (name, column)


class Payload:
    """Unpickled in the ordinary way, writes a file."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, (self.command,))


def hostile() -> dict[str, bytes]:
    command = "touch ran"
    frame = with_object_texts(wide())
    inside = frame.copy()
    inside["prompt"] = pd.Series([Payload(command), "a", "b"], dtype=object)
    dates = frame.assign(when=pd.to_datetime(["2024-01-01"] * 3))
    kinds = frame.assign(kind=pd.Categorical(["a", "b", "a"]))
    sets = frame.copy()
    sets["prompt"] = pd.Series([{1}, {2}, {3}], dtype=object)
    good = pickle.dumps(frame, protocol=5)
    start = b"\x80\x05"

    def short(words: str) -> bytes:
        return b"\x8c" + bytes([len(words)]) + words.encode()

    def name(module: str, attribute: str) -> bytes:
        return short(module) + short(attribute) + b"\x93"

    text = short(command)
    return {
        "bare payload": pickle.dumps(Payload(command)),
        "payload in a cell": pickle.dumps(inside, protocol=5),
        "old protocol": b"cos\nsystem\n(S'touch ran'\ntR.",
        "eval": start + name("builtins", "eval") + text + b"\x85R.",
        "attribute of an allowed name": start + name("pandas", "DataFrame.to_csv") + text + b"\x85R.",
        "module of an allowed name": start + name("pandas.core.frame", "os") + b".",
        "numpy's own evaluator": start + name("numpy.testing._private.utils", "runstring") + text + b"}\x86R.",
        "state of a class": start + name("pandas", "DataFrame") + b"}\x8c\x05_typ1\x8c\x01xsb.",
        "object array from bytes": good.replace(b"\x8c\x02f8", b"\x8c\x02O8"),
        "unknown dtype": good.replace(b"\x8c\x02f8", b"\x8c\x02V8"),
        "cut short": good[: len(good) // 2],
        "empty": b"",
        "no pickle": b"sample_id,prompt\n",
        "no frame": pickle.dumps({"sample_id": [1]}),
        "dates": pickle.dumps(dates, protocol=5),
        "categories": pickle.dumps(kinds, protocol=5),
        "sets": pickle.dumps(sets, protocol=5),
        "texts of pandas 3": pickle.dumps(wide(), protocol=5),
        "persistent id": start + b"\x8c\x01xQ.",
        "deep nesting": start + b"]" * 100_000 + b"a" * 99_999 + b".",
    }


def test_the_payload_would_run_in_pandas_reader() -> None:
    # Otherwise the next test could not fail.
    Path("a.pkl").write_bytes(hostile()["payload in a cell"])
    pd.read_pickle("a.pkl")  # noqa: S301
    assert Path("ran").exists()


@pytest.mark.parametrize("case", hostile())
def test_a_hostile_or_foreign_pickle_is_refused_and_runs_nothing(case: str) -> None:
    Path("a.pkl").write_bytes(hostile()[case])
    message = refusal(source="routerbench", path="a.pkl")
    assert message.startswith("a.pkl cannot be read safely: ")
    assert "to_parquet" in message
    assert "\n" not in message
    assert not Path("ran").exists()


def test_a_hostile_pickle_does_not_spoil_the_reader_for_the_next() -> None:
    good = pickle.dumps(with_object_texts(wide()), protocol=5)
    for number, bad in enumerate(hostile().values()):
        Path("bad.pkl").write_bytes(bad)
        with pytest.raises(InputError):
            pickles.read_frame(Path("bad.pkl"))
        Path("good.pkl").write_bytes(good)
        assert pickles.read_frame(Path("good.pkl")).height == 3, number


def test_a_refused_pickle_names_what_it_asked_for() -> None:
    Path("a.pkl").write_bytes(hostile()["bare payload"])
    assert "`posix.system`" in refusal(source="routerbench", path="a.pkl")


# ---------------------------------------------------------------- from a file to the splits


def test_a_wide_table_with_missing_labels_is_cleaned_when_told_to_drop(folder: Path) -> None:
    frame = pd.concat([wide().assign(sample_id=lambda f, n=n: f["sample_id"] + f".{n}") for n in range(20)])
    frame["prompt"] = [f"['question {n}']" for n in range(len(frame))]
    frame.to_csv("rb.csv", index=False)
    download_routing.work(params(source="routerbench", path="rb.csv"))
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    block = document["clean_routing"] | {"incomplete_queries": "refuse"}
    with pytest.raises(InputError, match="20 of 60 queries lack some LLM"):
        clean_routing.work(CleanRoutingParams.model_validate(block))
    clean_routing.work(CleanRoutingParams.model_validate(block | {"incomplete_queries": "drop"}))
    assert pl.read_parquet("data/routing/queries.parquet").height == 40
    assert json.loads(Path("reports/data_quality/routing.json").read_text())["queries_dropped"] == 20
    assert set(pl.read_parquet("data/routing/llms.parquet")["price_basis"]) == {"fitted_to_source"}


@pytest.mark.data
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_real_table_reads_the_same_in_every_format(suffix: str) -> None:
    place = os.environ.get("SYMBIOSIS_DATA_DIR")
    if not place:
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    path = Path(place, "routing", "routerbench_sample.parquet")
    expected = table.read_table(path)
    back = table.read_table(write(pl.read_parquet(path), Path(f"a{suffix}")))
    assert_frame_equal(back, expected, rel_tol=1e-6)
