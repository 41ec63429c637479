"""The store: what was acknowledged is there, once, whoever wrote it and whoever was killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from routing_world import ROOT

from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import CallEntry, DecisionEntry, DecisionRecord, ServedEntry
from symbiosis.routing.serving.storage import database, rows
from symbiosis.routing.serving.store import (
    FeedbackConflict,
    NothingServed,
    Store,
    StoreUnavailable,
    UnknownDecision,
    periods,
)


def record(number: int, at: float = 1000.0, **values: Any) -> DecisionRecord:
    plain = DecisionRecord(f"d-{number}", "bio-mid", at + number, 0.75, 80.0, 1e-4, 0.5, np.arange(4.0) + number / 3)
    return replace(plain, **values)


def call(number: int, **values: Any) -> CallEntry:
    return replace(CallEntry(f"d-{number}", 0, "bio-mid", "here", 1000.0, 200, cost_usd=0.25, api_key="app"), **values)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/new folder/store.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as opened:
        yield opened


def test_a_decision_comes_back_as_it_was_written(store: Store) -> None:
    entry = DecisionEntry(
        record(1, budget_usd=0.002),
        mode="apply",
        policy="auto:budget",
        router="abc",
        version=3,
        api_key="app",
        conversation="cafe",
        text_sha256="beef",
        text="What is\0 \ud800this? Größe 你好",
        details={"llm": "bio-mid", "arms": [{"llm": "bio-mid", "quality": 0.5}]},
        overhead_ms=1.5,
        baseline_usd=0.003,
    )
    failed = call(1, status=None, error="broken\0", cost_usd=None)
    answered = call(1, attempt=1, llm="dear-all", streamed=True, response_tokens=12.0)
    store.write([entry, failed, answered, ServedEntry("d-1", "dear-all"), ServedEntry("nobody", "dear-all")])
    kept = store.decision("d-1")
    assert kept is not None
    np.testing.assert_array_equal(kept.entry.record.vector, entry.record.vector)
    assert replace(kept.entry.record, vector=None) == replace(entry.record, vector=None)
    wanted = replace(entry, record=kept.entry.record, served="dear-all", text="What is\ufffd ?this? Größe 你好")
    assert kept.entry == wanted
    assert kept.calls == (replace(failed, error="broken\ufffd"), answered)
    assert kept.feedback is None
    assert store.decision("d-2\0") is None
    assert store.spent("app", "1970-01") == store.spent("app", "1970-01-01") == 0.25
    assert store.spent("app", "1970-02") == 0


def test_vectors_come_back_to_the_last_bit(store: Store) -> None:
    for number, dtype in enumerate((np.float32, np.float64)):
        vector = np.random.default_rng(0).standard_normal(7).astype(dtype).astype(np.float64)
        store.decided(record(number, vector=vector))
        kept = store.decision(f"d-{number}")
        assert kept is not None
        np.testing.assert_array_equal(kept.entry.record.vector, vector)


def test_what_is_written_twice_counts_once(store: Store) -> None:
    first = [DecisionEntry(record(1), "bio-mid"), call(1), call(1, decision=None, cost_usd=1.0)]
    store.write(first)
    store.write([*first[:2], DecisionEntry(record(2), "bio-mid"), call(2), call(2)])
    store.write([])
    assert [one.entry.record.decision for one in store.latest(10)] == ["d-2", "d-1"]
    assert store.calls_frame()["decision"].to_list() == ["d-1", None, "d-2"]
    assert store.spent("app", "1970-01") == 1.5


def test_feedback_counts_once_and_is_not_changed(store: Store) -> None:
    store.decided(record(1))
    assert store.feedback("d-1", Feedback(0.5, 10.0), at=1.0)
    assert not store.feedback("d-1", Feedback(0.5, 10.0), at=2.0)
    for other in (Feedback(0.5), Feedback(satisfied=True)):
        with pytest.raises(FeedbackConflict, match="has other feedback already"):
            store.feedback("d-1", other, at=2.0)
    kept = store.decision("d-1")
    assert kept is not None
    assert kept.feedback is not None
    assert (kept.feedback.told, kept.feedback.at, kept.feedback.lesson) == (Feedback(0.5, 10.0), 1.0, None)


def test_feedback_needs_a_recent_decision_that_was_served(store: Store) -> None:
    store.write([DecisionEntry(record(1)), DecisionEntry(record(2), "bio-mid")])
    with pytest.raises(NothingServed, match="'d-1': no LLM has answered"):
        store.feedback("d-1", Feedback(1.0), at=1.0)
    with pytest.raises(UnknownDecision, match="'nobody' is unknown, or too old"):
        store.feedback("nobody", Feedback(1.0), at=1.0)
    with pytest.raises(UnknownDecision, match=r"too old for feedback \(kept: 60 s\)"):
        store.feedback("d-2", Feedback(1.0), at=1063.0, lifetime_s=60)
    assert store.feedback("d-2", Feedback(1.0), at=1062.0, lifetime_s=60)
    assert not store.feedback("d-2", Feedback(1.0), at=1e6, lifetime_s=60)
    store.write([ServedEntry("d-1", "dear-all")])
    assert store.feedback("d-1", Feedback(1.0), at=1.0)
    store.number_lessons()
    assert [lesson.record.llm for lesson in store.lessons()] == ["bio-mid", "dear-all"]


def test_a_request_that_is_sent_again_counts_once(store: Store) -> None:
    for number in range(3):
        store.decided(record(number))
    assert store.feedback("d-0", Feedback(1.0), at=1.0, idempotency_key="k")
    assert not store.feedback("d-0", Feedback(1.0), at=2.0, idempotency_key="k")
    for key, told in (("d-1", 1.0), ("d-0", 0.0)):
        with pytest.raises(FeedbackConflict, match="idempotency key came with other feedback"):
            store.feedback(key, Feedback(told), at=2.0, idempotency_key="k")
    assert store.feedback("d-2", Feedback(0.0), at=1.0)


def test_a_user_has_the_last_word_until_it_is_learned(store: Store) -> None:
    store.write([DecisionEntry(record(number), "bio-mid") for number in range(2)])
    for number in range(2):
        assert store.feedback(f"d-{number}", Feedback(1.0), at=1.0, source="check:json")
    assert store.feedback("d-0", Feedback(0.0), at=2.0)
    with pytest.raises(FeedbackConflict):
        store.feedback("d-0", Feedback(1.0), at=3.0, source="check:json")
    assert store.number_lessons() == 2
    with pytest.raises(FeedbackConflict):
        store.feedback("d-1", Feedback(0.0), at=4.0)
    assert [lesson.told.quality for lesson in store.lessons()] == [0.0, 1.0]


def test_lessons_are_dense_and_in_order_of_arrival(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbiosis.routing.serving.store.PAGE", 3)
    store.write([DecisionEntry(record(number), "bio-mid") for number in range(8)])
    assert store.news() == (0, False)
    order = [5, 1, 7, 0, 2, 6, 3]
    for number in order[:3]:
        store.feedback(f"d-{number}", Feedback(number / 8), at=1.0)
    assert store.news() == (0, True)
    assert store.number_lessons() == store.number_lessons() == 3
    for number in order[3:]:
        store.feedback(f"d-{number}", Feedback(number / 8), at=1.0)
    assert store.number_lessons() == 7
    assert store.news() == (7, False)
    lessons = list(store.lessons())
    assert [lesson.number for lesson in lessons] == list(range(1, 8))
    assert [lesson.record.decision for lesson in lessons] == [f"d-{number}" for number in order]
    assert [lesson.number for lesson in store.lessons(5)] == [6, 7]
    assert list(store.lessons(7)) == []


def test_what_another_llm_answered_is_learned_with_what_was_expected_of_it(store: Store) -> None:
    details = {"arms": [{"llm": "dear-all", "quality": 0.875, "probability": 0.125}, {"llm": "bio-mid"}]}
    store.write([DecisionEntry(record(1), "dear-all", details=details), DecisionEntry(record(2), "poor-cheap")])
    for number in (1, 2):
        store.feedback(f"d-{number}", Feedback(1.0), at=1.0)
    store.number_lessons()
    learned = [(one.record.llm, one.record.quality, one.record.propensity) for one in store.lessons()]
    assert learned == [("dear-all", 0.875, 0.125), ("poor-cheap", 0.5, 0.75)]


def test_pages_frames_and_the_export(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("symbiosis.routing.serving.store.PAGE", 4)
    store.write([DecisionEntry(record(number), "bio-mid") for number in range(10)])
    store.write([call(9, attempt=1, error="late"), call(9)])
    store.feedback("d-9", Feedback(satisfied=False), at=2000.0)
    assert [one.entry.record.decision for one in store.latest(2)] == ["d-9", "d-8"]
    assert [one.sequence for one in store.latest(3, before=store.latest(2)[-1].sequence)] == [8, 7, 6]
    frame = store.decisions_frame(1005.0)
    assert frame["id"].to_list() == ["d-5", "d-6", "d-7", "d-8", "d-9"]
    assert {"vector", "details", "text"}.isdisjoint(frame.columns)
    assert store.calls_frame(1001.0).is_empty()
    assert store.feedback_frame().row(0, named=True)["satisfied"] is False
    assert store.export(tmp_path / "out" / "all.jsonl") == 10
    told = [json.loads(line) for line in (tmp_path / "out/all.jsonl").read_text().splitlines()]
    assert [line["id"] for line in told] == [f"d-{number}" for number in range(10)]
    assert [one["error"] for one in told[9]["calls"]] == [None, "late"]
    assert told[9]["feedback"]["satisfied"] is False
    assert told[8]["feedback"] is None
    assert told[0]["vector"].startswith("f4:")
    assert store.export(tmp_path / "late.jsonl", since=1008.0) == 2
    assert store.export(tmp_path / "none.jsonl", since=9e9) == 0


def test_explanations_of_a_sample(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each second decision since a time, of those that have an explanation, some at a time."""
    monkeypatch.setattr(rows, "EXPLANATIONS", 3)
    explained = [DecisionEntry(record(number), "bio-mid", details={"arms": [number]}) for number in range(6)]
    store.write([*explained, DecisionEntry(record(6), "bio-mid"), DecisionEntry(record(7), "bio-mid")])
    first, last = store.details_frames(1002.0)
    assert [*first["id"], *last["id"]] == ["d-2", "d-3", "d-4", "d-5"]
    told = [json.loads(text) for text in (*first["details"], *last["details"])]
    assert told == [{"arms": [number]} for number in (2, 3, 4, 5)]
    (second,) = store.details_frames(0.0, step=2)
    assert second["id"].to_list() == ["d-1", "d-3", "d-5"]
    assert list(store.details_frames(9e9)) == []


def test_pacing_reads_what_routers_decided(store: Store) -> None:
    store.write([DecisionEntry(record(number), "bio-mid") for number in range(4)])
    store.write([DecisionEntry(record(5), "dear-all", mode="explicit")])
    until = store.position()
    store.decided(record(6))
    assert [charge.decision for charge in store.charges(2, until)] == ["d-2", "d-3"]
    assert list(store.charges(until, until)) == []


def test_months_and_days_are_those_of_utc() -> None:
    # 2026-11-30 23:59:59 UTC and one second later.
    assert periods(1796083199.0) == ("2026-11", "2026-11-30", "total")
    assert periods(1796083200.0) == ("2026-12", "2026-12-01", "total")


def test_one_learner_at_a_time(store: Store, url: str) -> None:
    with Store(url) as other:
        mine, theirs = store.learner_lock(), other.learner_lock()
        assert [lock.take() for lock in (mine, theirs, mine, theirs)] == [True, False, True, False]
        mine.release()
        assert [lock.take() for lock in (theirs, mine)] == [True, False]
        theirs.release()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.0, 1.0]), st.booleans()), max_size=30))
def test_whatever_comes_in_whatever_order_is_learned_once(
    tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, float, bool]]
) -> None:
    first: dict[str, float] = {}
    with Store.in_file(tmp_path_factory.mktemp("any") / "store.db") as store:
        store.write([DecisionEntry(record(number), "bio-mid") for number in range(6)])
        for number, quality, numbered in told:
            key = f"d-{number}"
            try:
                new = store.feedback(key, Feedback(quality), at=1.0)
            except FeedbackConflict:
                assert first[key] != quality
            else:
                assert new == (key not in first)
                assert first.setdefault(key, quality) == quality
            if numbered:
                store.number_lessons()
        assert store.number_lessons() == len(first)
        lessons = list(store.lessons())
    assert [lesson.number for lesson in lessons] == list(range(1, len(first) + 1))
    assert [(lesson.record.decision, lesson.told.quality) for lesson in lessons] == list(first.items())


def test_threads_write_feedback_and_number_at_once(store: Store) -> None:
    store.write([DecisionEntry(record(number), "bio-mid") for number in range(40)])
    outcomes: list[Any] = []

    def give(quality: float) -> None:
        for number in range(40):
            try:
                outcomes.append(store.feedback(f"d-{number}", Feedback(quality), at=1.0))
            except FeedbackConflict as error:
                outcomes.append(error)
            store.write([call(number)])
            if number % 5 == 0:
                store.number_lessons()

    threads = [threading.Thread(target=give, args=(quality,)) for quality in (0.0, 0.0, 1.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 120
    assert sum(outcome is True for outcome in outcomes) == 40
    assert store.number_lessons() == 40
    assert [lesson.number for lesson in store.lessons()] == list(range(1, 41))
    assert store.spent("app", "1970-01") == 10.0


WRITER = """
import itertools, sys
sys.path[:0] = [{root!r}, {tests!r}]
from test_store import record, call
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import DecisionEntry
from symbiosis.routing.serving.store import Store
store = Store({url!r})
for group in itertools.count():
    numbers = [{base} + 4 * group + place for place in range(4)]
    store.write([DecisionEntry(record(n), "bio-mid") for n in numbers] + [call(n) for n in numbers])
    print("decided", *numbers, flush=True)
    for n in numbers[:2]:
        store.feedback(f"d-{{n}}", Feedback(1.0), at=1.0)
        print("told", n, flush=True)
    if {base} == 0:
        store.number_lessons()
"""


@pytest.mark.parametrize("waited", [3, 25])
def test_processes_that_are_killed_lose_nothing_and_count_nothing_twice(url: str, waited: int) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    children = []
    for base in (0, 1_000_000, 2_000_000):  # they also want the new database at the same instant
        code = WRITER.format(root=str(ROOT), tests=str(Path(__file__).parent), url=url, base=base)
        children.append(
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
        )
    told: list[str] = []
    for child in children:
        assert child.stdout is not None
        told += [child.stdout.readline() for _ in range(waited)]
    for child in children:
        child.send_signal(signal.SIGKILL)
    for child in children:
        assert child.stdout is not None
        told += child.stdout.readlines()
        child.wait()
        child.stdout.close()
    words = [line.split() for line in told if line.endswith("\n")]
    decided = {f"d-{number}" for kind, *numbers in words if kind == "decided" for number in numbers}
    rewarded = {f"d-{numbers[0]}" for kind, *numbers in words if kind == "told"}
    with Store(url) as store:
        rows = [one.entry.record.decision for one in store.every()]
        assert len(rows) == len(set(rows))
        assert decided <= set(rows)
        assert len(rows) % 4 == 0  # groups are whole
        highest = store.number_lessons()
        lessons = list(store.lessons())
        assert [lesson.number for lesson in lessons] == list(range(1, highest + 1))
        learned = {lesson.record.decision for lesson in lessons}
        assert len(learned) == highest
        assert rewarded <= learned <= set(rows)
        assert store.spent("app", "1970-01") == 0.25 * len(rows)
        lock = store.learner_lock()
        assert lock.take()
        lock.release()


def test_a_database_whose_maker_was_killed_is_made_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    assert path.stat().st_size
    with Store.in_file(path) as store:
        store.decided(record(1))
        assert store.decision("d-1") is not None


def test_trouble_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE_S", 0.05)
    path = tmp_path / "store.db"
    (tmp_path / "text.db").write_text("this is no database, by no means " * 100)
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    with Store.in_file(tmp_path / "later.db") as store:
        store.write([])
    with closing(sqlite3.connect(tmp_path / "later.db")) as connection, connection:
        connection.execute("UPDATE meta SET value = '99'")
    (tmp_path / "file").write_text("")
    for address, message in (
        (f"sqlite:///{tmp_path}/text.db", "text.db is no SQLite database"),
        (f"sqlite:///{tmp_path}/other.db", "other.db is a database of something else"),
        (f"sqlite:///{tmp_path}/later.db", "is a store of format 99, this program has format 1"),
        (f"sqlite:///{tmp_path}/file/store.db", "folder"),
        ("sqlite://", "a store needs a file"),
        ("nonsense", "cannot be read: give sqlite:///FILE or postgresql"),
        ("oracle://here/name", "cannot be read: give|cannot lie in oracle"),
        (f"postgresql+psycopg://me:secret@/name?host={tmp_path}", "cannot be reached"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            Store(address)
        assert "\n" not in str(caught.value)
        assert "secret" not in str(caught.value)
    with Store.in_file(path) as store, closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="has been locked by another process"):
            store.decided(record(1))
        assert store.latest(1) == []  # a writer keeps no reader waiting
        connection.rollback()
        connection.execute("PRAGMA journal_mode=WAL")
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        with store._database.engine.connect() as own:
            own.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StoreUnavailable, match="the disk is full: make room"):
            store.decided(record(1, vector=np.zeros(100_000)))
        assert store.latest(1) == []
        with store._database.engine.connect() as own:
            own.exec_driver_sql("PRAGMA max_page_count=1000000")
            own.exec_driver_sql("PRAGMA query_only=1")
        with pytest.raises(StoreUnavailable, match="cannot be written: give yourself the right"):
            store.decided(record(1))
        with store._database.engine.connect() as own:
            own.exec_driver_sql("PRAGMA query_only=0")
        store.decided(record(1))
        assert store.decision("d-1") is not None


def test_a_store_has_a_key_and_notes_forms_of_vectors_once(store: Store, url: str) -> None:
    assert len(store.key) == 16
    store.note_form("abc", "first")
    with Store(url) as other:
        assert other.key == store.key
        other.note_form("abc", "second")
        other.note_form("def", "third")
    assert store.forms() == {"abc": "first", "def": "third"}
    assert store.settings() == {}


def test_answers_say_what_lessons_say_and_more(store: Store) -> None:
    store.write([DecisionEntry(record(n), "bio-mid", mode="apply", text=f"text {n}") for n in (1, 2)])
    store.write([call(1, prompt_tokens=90.0, response_tokens=12.0), call(2, error="broken")])
    for n in (2, 1):
        store.feedback(f"d-{n}", Feedback(quality=0.5), at=2000.0)
    store.number_lessons()
    answers, lessons = list(store.answers()), list(store.lessons())
    assert [answer.lesson.number for answer in answers] == [lesson.number for lesson in lessons] == [1, 2]
    assert [answer.lesson.record.decision for answer in answers] == ["d-2", "d-1"]
    assert [(answer.prompt_tokens, answer.cost_usd, answer.text) for answer in answers] == [
        (None, None, "text 2"),
        (90.0, 0.25, "text 1"),
    ]
    assert [answer.lesson.told.response_tokens for answer in answers] == [None, 12.0]
    assert [answer.lesson.number for answer in store.answers(after=1)] == [2]
