"""Freezing feedback: everything once, in order, whole or not at all."""

import json
import multiprocessing
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from routing_world import FORM
from typer.testing import CliRunner

from symbiosis.cli.app import app
from symbiosis.core.errors import InputError
from symbiosis.routing.data import layouts, table
from symbiosis.routing.data.readers import exports
from symbiosis.routing.data.sources import located
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.exporting import freeze
from symbiosis.routing.serving.records import CallEntry, DecisionEntry, DecisionRecord
from symbiosis.routing.serving.store import FeedbackConflict, Store, StoreUnavailable


def entry(number: int, **values: Any) -> DecisionEntry:
    record = DecisionRecord(f"d-{number}", "small", 100.0 + number, 0.75, 80.0, 1e-4, 0.5, np.arange(3.0) + number)
    plain = DecisionEntry(
        record, served="small", mode="apply", policy="auto", router="abc", text_sha256=f"{number:064}"
    )
    return replace(plain, **values)


def told(store: Store, *numbers: int) -> None:
    for number in numbers:
        store.write([entry(number)])
        store.feedback(f"d-{number}", Feedback(quality=number / 100), at=200.0 + number)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.in_file(tmp_path / "store.db") as opened:
        yield opened


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_each_answer_with_feedback_is_frozen_once_in_order_of_feedback(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    assert freeze(store, folder) is None
    assert not files(folder)
    store.write([entry(1), entry(2), entry(3)])
    told(store, 2, 1)
    first = freeze(store, folder)
    assert first is not None
    assert first.name == f"decisions-{store.key}-0000000001-0000000002.parquet"
    bytes_of_first = first.read_bytes()
    assert freeze(store, folder) is None
    assert files(folder) == [first.name]
    told(store, 3)
    second = freeze(store, folder)
    assert second is not None
    assert first.read_bytes() == bytes_of_first
    assert exports.read(folder)["decision"].to_list() == ["d-2", "d-1", "d-3"]
    assert exports.read(folder)["lesson"].to_list() == [1, 2, 3]


def test_a_row_says_all_of_its_decision(store: Store, tmp_path: Path) -> None:
    store.note_form("abc", FORM.model_dump_json())
    arms = [{"llm": "small", "quality": 0.5, "probability": 0.75}, {"llm": "big", "quality": 0.9, "probability": 0.25}]
    store.write([entry(1, text="Why?", version=3), CallEntry("d-1", 0, "small", "here", 101.0, 200, prompt_tokens=90.0,
                                                             response_tokens=12.0, cost_usd=2e-4)])  # fmt: skip
    store.write([entry(2, served="big", details={"arms": arms}), entry(3, mode="observe", router="unknown")])
    store.write([entry(4, mode="explicit", router="")])
    store.feedback("d-1", Feedback(quality=0.25), at=300.0, source="check:json")
    store.feedback("d-2", Feedback(satisfied=True), at=301.0)
    store.feedback("d-3", Feedback(quality=1.0, response_tokens=7.0), at=302.0)
    store.feedback("d-4", Feedback(satisfied=False), at=303.0)
    freeze(store, tmp_path / "exports")
    first, other, observed, explicit = exports.read(tmp_path / "exports").to_dicts()
    assert first == {
        "store": store.key, "lesson": 1, "sequence": 1, "decision": "d-1", "at": 101.0, "told_at": 300.0,
        "source": "check:json", "mode": "apply", "policy": "auto", "router": "abc", "version": 3, "chosen": "small",
        "llm": "small", "propensity": 0.75, "quality": 0.25, "satisfied": None, "response_tokens": 12.0,
        "prompt_tokens": 90.0, "cost_usd": 2e-4, "expected_quality": 0.5, "expected_prompt_tokens": 80.0,
        "expected_cost_usd": 1e-4, "form": FORM.model_dump_json(), "vector": [1.0, 2.0, 3.0], "text_sha256": f"{1:064}",
        "text": "Why?",
    }  # fmt: skip
    # Another LLM answered than was chosen: its propensity is not the router's.
    assert (other["chosen"], other["llm"], other["propensity"]) == ("small", "big", None)
    assert (other["expected_quality"], other["satisfied"]) == (0.9, True)
    assert (other["quality"], other["expected_cost_usd"]) == (None, None)
    assert (observed["propensity"], observed["response_tokens"], observed["form"]) == (None, 7.0, "")
    assert (explicit["propensity"], explicit["mode"], explicit["satisfied"]) == (None, "explicit", False)


def test_what_was_frozen_stays_as_it_is(store: Store, tmp_path: Path) -> None:
    store.write([entry(1)])
    store.feedback("d-1", Feedback(quality=0.2), at=300.0, source="check:json")
    freeze(store, tmp_path / "exports")
    with pytest.raises(FeedbackConflict):
        store.feedback("d-1", Feedback(quality=0.9), at=301.0)


def test_many_lessons_fill_several_files(store: Store, tmp_path: Path) -> None:
    told(store, 1, 2, 3, 4, 5)
    freeze(store, tmp_path / "exports", most=2)
    ends = [name.removesuffix(".parquet").split("-")[2:] for name in files(tmp_path / "exports")]
    assert [[int(end) for end in pair] for pair in ends] == [[1, 2], [3, 4], [5, 5]]
    assert exports.read(tmp_path / "exports").height == 5


def test_two_stores_share_a_folder(store: Store, tmp_path: Path) -> None:
    told(store, 1)
    freeze(store, tmp_path / "exports")
    with Store.in_file(tmp_path / "other.db") as other:
        told(other, 7, 8)
        freeze(other, tmp_path / "exports")
        assert freeze(other, tmp_path / "exports") is None
        assert other.key != store.key
    assert freeze(store, tmp_path / "exports") is None
    assert set(exports.read(tmp_path / "exports")["decision"]) == {"d-1", "d-7", "d-8"}


def test_a_store_keeps_its_key(store: Store, tmp_path: Path) -> None:
    key = store.key
    with Store.in_file(tmp_path / "store.db") as again:
        assert again.key == key


def freeze_repeatedly(path: Path, folder: Path, ready: Any) -> None:
    with Store.in_file(path) as store:
        ready.wait(60)
        for _ in range(10):
            freeze(store, folder)


def test_two_at_once_write_nothing_twice(store: Store, tmp_path: Path) -> None:
    apart = multiprocessing.get_context("spawn")
    ready = apart.Barrier(3)
    arguments = tmp_path / "store.db", tmp_path / "exports", ready
    others = [apart.Process(target=freeze_repeatedly, args=arguments) for _ in "ab"]
    for process in others:
        process.start()
    ready.wait(60)
    told(store, *range(1, 60))
    for process in others:
        process.join(60)
        assert process.exitcode == 0
    freeze(store, tmp_path / "exports")
    assert exports.read(tmp_path / "exports")["lesson"].to_list() == list(range(1, 60))


def test_what_a_killed_process_left_goes(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    (folder / ".decisions-x.parquet.abcdefgh").mkdir(parents=True)
    (folder / ".decisions-x.parquet.abcdefgh/decisions-x.parquet").write_bytes(b"half")
    told(store, 1)
    path = freeze(store, folder)
    assert path is not None
    assert files(folder) == [path.name]


def test_a_store_that_cannot_be_read_writes_nothing(tmp_path: Path) -> None:
    with Store.in_file(tmp_path / "store.db") as store, closing(sqlite3.connect(tmp_path / "store.db")) as raw:
        told(store, 1)
        raw.execute("DROP TABLE feedback")
        raw.commit()
        with pytest.raises(StoreUnavailable):
            freeze(store, tmp_path / "exports")
    assert not files(tmp_path / "exports")


def test_the_command_says_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/store.db"
    with Store(url) as store:
        told(store, 1)
    run = CliRunner().invoke
    done = run(app, ["decisions", "freeze", "--store", url, "--json"])
    assert done.exit_code == 0, done.output
    written = json.loads(done.output)["file"]
    assert written.startswith("data/local/feedback/decisions-")
    assert Path(written).is_file()
    again = run(app, ["decisions", "freeze", "--store", url])
    assert "no feedback is new" in again.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "damaged"),
        (lambda frame: frame.drop("vector"), "no column vector"),
        (lambda frame: frame.with_columns(quality=pl.lit("good")), "column quality holds String"),
        (lambda frame: frame.with_columns(quality=2.0), "quality is outside 0..1"),
        (lambda frame: frame.with_columns(quality=float("nan")), "quality is outside 0..1"),
        (lambda frame: frame.with_columns(quality=pl.lit(None, pl.Float64)), "neither quality nor satisfied"),
        (lambda frame: frame.with_columns(propensity=0.0), "propensity is outside 0..1"),
        (lambda frame: frame.with_columns(response_tokens=-1.0), "response_tokens is negative"),
        (lambda frame: frame.with_columns(llm=pl.lit(None, pl.String)), "llm is missing"),
        (lambda frame: frame.with_columns(vector=pl.lit([float("inf")], pl.List(pl.Float32))), "not finite"),
    ],
)
def test_a_damaged_export_is_one_line_that_names_it(store: Store, tmp_path: Path, change: Any, said: str) -> None:
    told(store, 1)
    path = freeze(store, tmp_path / "exports")
    assert path is not None
    if change is None:
        path.write_bytes(path.read_bytes()[:100])
    else:
        change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(InputError, match=said) as error:
        exports.read(tmp_path / "exports")
    assert str(path) in str(error.value)
    assert "move it out of" in str(error.value)
    assert "\n" not in str(error.value)


def test_store_export_and_freeze_are_the_same_table_to_learn_from(store: Store, tmp_path: Path) -> None:
    call = CallEntry("d-1", 1, "small", "up", 101.0, 200, None, 0.5, 2.5, 11.0, None, 7.0, 0.002)
    failed = CallEntry("d-1", 0, "large", "up", 100.0, 500, "gone", None, 1.0)
    store.write([entry(1, text="Who?"), failed, call, entry(2, text="Why?", served="large"), entry(3, text="When?")])
    store.write([entry(4)])
    store.feedback("d-1", Feedback(quality=0.25), at=200.0)
    store.feedback("d-2", Feedback(satisfied=True, response_tokens=9.0), at=201.0)
    store.feedback("d-4", Feedback(quality=1.0), at=202.0)
    store.export(tmp_path / "decisions.jsonl")
    frozen = freeze(store, tmp_path / "exports")
    assert frozen is not None
    columns = ["query_text", "llm", "quality", "prompt_tokens", "response_tokens", "cost_usd"]
    for path, layout in (
        (tmp_path, "decisions"),
        (tmp_path / "decisions.jsonl", "decisions"),
        (tmp_path / "exports", "frozen"),
    ):
        (file,) = located(path)
        reading = layouts.learnable(layouts.read(file), file)
        assert reading.layout == layout
        assert table.typed(reading.frame, file).select(columns).rows() == [
            ("Who?", "small", 0.25, 11, 7, 0.002),
            ("Why?", "large", 1.0, None, 9, None),
        ]
        assert reading.left_out["answers_without_prompt"] == 1
    (tmp_path / "other.db").write_bytes((tmp_path / "store.db").read_bytes()[:64] + b"x" * 4096)
    with pytest.raises(InputError, match="other.db is no store of decisions"):
        layouts.read(tmp_path / "other.db")
