"""What is read from the bytes of an answer while they pass."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_world import STREAM, USAGE, chunk, completion

from symbiosis.gateway.upstreams import events
from symbiosis.gateway.upstreams.events import AnswerReader, EventSplitter, event_data
from symbiosis.gateway.upstreams.usage import Usage, estimated, reported


@given(st.lists(st.sampled_from([b"data: x", b"\n", b"\r\n", b"\r", b"\n\n", b"\xff", b": c"])), st.data())
def test_cutting_loses_no_byte_and_depends_on_no_packet(pieces: list[bytes], data: st.DataObject) -> None:
    stream, packets, splitter = b"".join(pieces), [], EventSplitter()
    rest = stream
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        packets.append(rest[:size])
        rest = rest[size:]
    cut = [event for packet in packets for event in splitter.feed(packet)]
    assert b"".join(cut) + splitter.rest == stream
    at_once = EventSplitter()
    read = [event_data(event) for event in [*cut, splitter.rest]]
    whole = [event_data(event) for event in [*at_once.feed(stream), at_once.rest]]
    assert [data for data in read if data is not None] == [data for data in whole if data is not None]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_data_of_an_event(end: bytes) -> None:
    event = end.join([b"event: m", b"data: a", b"data:b", b": c", b"", b""])
    assert EventSplitter().feed(event) == [event]
    assert event_data(event) == b"a\nb"
    assert event_data(end.join([b": c", b"", b""])) is None


def test_what_never_ends_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_EVENT", 10)
    splitter = EventSplitter()
    assert splitter.feed(b"x" * 10) == []
    assert splitter.feed(b"y") == [b"x" * 10 + b"y"]
    assert splitter.rest == b""


def test_a_stream_is_read() -> None:
    reader = AnswerReader()
    assert [reader.see_event(event) for event in STREAM] == [False, False, False, True, False]
    assert (reader.text, reader.chunks, reader.ended, reader.done, reader.garbage) == ("Hello", 4, True, True, 0)
    assert reader.usage == Usage(12, 4, 5)


def test_a_completion_is_read() -> None:
    reader = AnswerReader()
    assert not reader.see(completion("Hi"))
    assert (reader.text, reader.ended, reader.usage) == ("Hi", True, Usage(12, 4, 5))


def test_usage_inside_a_chunk_with_an_answer_is_read_and_passes() -> None:
    reader = AnswerReader()
    assert not reader.see_event(chunk("x", usage=USAGE))
    assert reader.usage == Usage(12, 4, 5)


def test_all_that_was_written_counts_but_the_first_answer_is_the_text() -> None:
    call = {"function": {"name": "go", "arguments": '{"a": 1}'}}
    deltas = [
        {"index": 0, "delta": {"content": "ab", "reasoning_content": "xyz"}},
        {"index": 1, "delta": {"content": "other"}},
        {"index": 0, "delta": {"tool_calls": [call, None, {"function": 3}], "refusal": "no"}},
        {"index": 0, "delta": {"content": ["no text"]}},
        {"index": 0, "delta": None},
        "no choice",
    ]
    reader = AnswerReader()
    reader.see(json.dumps({"choices": deltas}).encode())
    assert (reader.text, reader.characters) == ("ab", 2 + 3 + 5 + 2 + 8 + 2)


def test_kept_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LONGEST_TEXT", 5)
    reader = AnswerReader()
    reader.see_event(chunk("abcd"))
    assert reader.text_whole
    reader.see_event(chunk("efgh"))
    assert (reader.text, reader.text_whole, reader.characters) == ("abcde", False, 8)


@given(st.binary(max_size=60))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    reader = AnswerReader()
    reader.see_event(data)
    reader.see_event(b"data: " + data + b"\n\n")
    reader.see(data)
    reader.see_tail(b'"usage": {' + data, 100)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats() | st.just("x"),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["choices", "delta", "message", "content", "usage", "error"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(JSON)
def test_no_document_makes_it_fail(document: object) -> None:
    AnswerReader().see(json.dumps(document).encode())
    AnswerReader().see(b"[" * 100_000)


def test_an_emoji_cut_in_two_is_whole_again() -> None:
    reader = AnswerReader()
    for half in ("\\ud83d", "\\ude00", "\\ud83d"):
        reader.see_event(chunk("half").replace(b"half", half.encode()))
    assert (reader.text, reader.garbage) == ("\N{GRINNING FACE}\ufffd", 0)


def test_an_error_is_read() -> None:
    reader = AnswerReader()
    reader.see_event(b'data: {"error": {"message": "overloaded", "code": 529}}\n\n')
    assert (reader.error, reader.error_code) == ("overloaded", 529)
    reader.see_event(b'data: {"error": "plain"}\n\n')
    assert (reader.error, reader.error_code) == ("plain", None)


def test_usage_is_found_at_the_end_of_a_long_answer() -> None:
    reader = AnswerReader()
    reader.see_tail(completion("long")[-200:], 1000)
    assert (reader.usage, reader.characters, reader.text_whole) == (Usage(12, 4, 5), 1000, False)


@pytest.mark.parametrize(
    "usage",
    [None, 3, {}, *({"prompt_tokens": count, "completion_tokens": 2} for count in (-1, True, "9", float("nan"), None))],
)
def test_usage_that_makes_no_sense_is_none(usage: object) -> None:
    assert reported(usage) is None


def test_cached_tokens_wherever_they_stand() -> None:
    counts = {"prompt_tokens": 10, "completion_tokens": 2.0}
    assert reported(counts) == Usage(10, 0, 2)
    assert reported(counts | {"prompt_tokens_details": {"cached_tokens": 8}}) == Usage(10, 8, 2)
    assert reported(counts | {"prompt_tokens_details": None, "prompt_cache_hit_tokens": 7}) == Usage(10, 7, 2)
    assert reported(counts | {"prompt_tokens_details": {"cached_tokens": 99}}) == Usage(10, 10, 2)


def test_estimated_tokens_are_rounded_up() -> None:
    assert estimated(9, 8) == Usage(3, 0, 2, estimated=True)
