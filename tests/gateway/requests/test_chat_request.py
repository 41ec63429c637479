"""A chat request: what is read of it, what passes through untouched, and what is refused."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.gateway.requests.chat import BadRequest, ChatRequest, Needs

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
READ = ("model", "messages", "stream", "stream_options", "n", "max_tokens", "tools", "functions", "response_format")
USER = {"role": "user", "content": "hello"}


def body(**fields: object) -> bytes:
    return json.dumps({"model": "auto", "messages": [USER], **fields}).encode()


def parse(**fields: object) -> ChatRequest:
    return ChatRequest.parse(body(**fields))


def refusal(given_body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        ChatRequest.parse(given_body)
    assert "\n" not in str(caught.value)
    json.dumps(caught.value.document()).encode()
    return caught.value


@given(JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        request = ChatRequest.parse(json.dumps(value).encode())
    except BadRequest:
        return
    assert request.messages


@given(st.dictionaries(st.sampled_from((*READ, "other")), JSON | st.just([USER]) | st.just("auto")))
def test_any_value_of_a_known_field_is_read_or_refused(fields: dict[str, object]) -> None:
    try:
        request = ChatRequest.parse(json.dumps(fields).encode())
    except BadRequest:
        return
    used = request.text, request.needs, request.conversation(), request.inside_tool_loop, request.responses
    assert used[1].tokens >= 0
    assert json.loads(request.for_upstream("m"))["model"] == "m"


@given(st.lists(st.dictionaries(st.sampled_from(("role", "content", "tool_calls", "name")), JSON | st.just("user"))))
def test_any_messages_are_read_or_refused(messages: list[object]) -> None:
    try:
        request = parse(messages=messages)
    except BadRequest:
        return
    assert len(request.conversation()) == 32
    request.text.encode()
    assert request.needs.tokens == math.ceil(request.prompt_characters / 4)


@given(st.binary())
def test_any_bytes_are_refused_in_one_line(noise: bytes) -> None:
    refusal(noise)


@given(
    others=st.dictionaries(st.text().filter(lambda key: key not in READ), JSON),
    stream=st.booleans(),
    options=st.none() | st.dictionaries(st.text() | st.just("include_usage"), st.booleans()),
    indent=st.none() | st.just(2),
)
def test_upstream_gets_all_but_the_model_and_the_wish_for_usage_as_it_came(
    others: dict[str, object], stream: bool, options: dict[str, bool] | None, indent: int | None
) -> None:
    sent = {"stream_options": options, **others, "model": "auto", "messages": [USER], "stream": stream}
    got = json.loads(ChatRequest.parse(json.dumps(sent, indent=indent).encode()).for_upstream("provider/x"))
    expected = {**sent, "model": "provider/x"}
    if stream:
        expected["stream_options"] = {**(options or {}), "include_usage": True}
    assert got == expected


def test_bytes_of_numbers_and_escapes_survive() -> None:
    text = (
        '{ "seed": 123456789012345678901234567890, "t": 1.10, "u": 1E+400, "v": 0.1000000000000000055511151231257827,'
        ' "model" : "auto" , "messages":[{"role":"user","content":"\\ud800 \\u00e9 é \\u0000"}], "x": {"a":1,"a":2} }'
    )
    request = ChatRequest.parse(text.encode())
    assert request.for_upstream("m") == text.replace('"auto"', '"m"').encode()
    assert request.text == "\ufffd é é \ufffd"


def test_usage_is_asked_for_only_where_the_client_streams_and_did_not_ask() -> None:
    asked = parse(stream=True, stream_options={"include_usage": True})
    assert asked.wants_usage
    assert asked.for_upstream("auto") == body(stream=True, stream_options={"include_usage": True})
    assert not parse(stream=True).wants_usage
    assert parse(stream=True).for_upstream("auto", include_usage=False) == body(stream=True)
    assert parse().for_upstream("auto") == body()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": None}, "model"),
        ({"model": " "}, "model"),
        ({"model": "\ud800"}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"model": "x" * 301}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [USER, "hello"]}, "messages.1"),
        ({"messages": [{"content": "hello"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["hello"]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": True}, "stream_options"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"tools": {}}, "tools"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {}}, "response_format"),
    ],
)
def test_wrong_field_is_named(fields: dict[str, object], param: str) -> None:
    error = refusal(body(**fields))
    assert error.param == param
    assert f"`{param}`" in str(error)
    assert error.document()["error"]["type"] == "invalid_request_error"  # type: ignore[index]


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", "no JSON object"),
        (b"[]", "no JSON object"),
        (b'{"model": "auto"} {}', "more behind the object, from character 19"),
        (b'{"model": "auto", "model": "dear"}', "the key 'model' is there twice"),
        (
            b'{"stream_options": {"a": 1, "a": 1}, "model": "auto", "messages": [{"role": "user"}]}',
            "'a' is there twice",
        ),
        (b'{"model": NaN}', "NaN is no JSON number"),
        (b'{"model": "auto",}', "a key in quotes is missing"),
        (b'{"model" "auto"}', "a colon is missing"),
        (b'{"model": }', "a value is missing at character 11"),
        (b'{"a": 1 "b": 2}', "a comma is missing"),
        (json.dumps(dict.fromkeys(map(str, range(1001)))).encode(), "more than 1,000 keys"),
        (b'{"a": "\x01"}', "invalid control character"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "digits"),
    ],
)
def test_broken_body_is_told_with_its_place(sent: bytes, told: str) -> None:
    assert told in str(refusal(sent))


def test_every_depth_is_refused_or_served() -> None:
    """Whatever Python's stack allows at parsing suffices for what comes after."""
    outcomes = set()
    for depth in range(700, 1000):
        deep = "[" * depth + "]" * depth
        message = f'{{"role":"user","content":null,"x":{deep}}}'
        text = f'{{"model":"auto","stream":true,"messages":[{message}],"stream_options":{{"x":{deep}}}}}'
        try:
            request = ChatRequest.parse(text.encode())
        except BadRequest:
            outcomes.add("refused")
            continue
        outcomes.add("served")
        assert request.for_upstream("m").count(b"[") == 2 * depth + 1
        assert request.conversation()
    assert outcomes == {"refused", "served"}


def test_text_is_that_of_the_last_user_message() -> None:
    parts = [
        {"type": "text", "text": "what is"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "on it?"},
    ]
    messages = [
        {"role": "system", "content": "be brief"},
        USER,
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": parts},
    ]
    request = parse(messages=messages)
    assert request.text == "what is\non it?"
    assert request.prompt_characters == len("be briefhellohiwhat ison it?")
    assert request.needs == Needs(vision=True, tokens=math.ceil(request.prompt_characters / 4))


def test_text_without_a_user_is_the_last_that_there_is() -> None:
    assert parse(messages=[{"role": "system", "content": "a"}, {"role": "tool", "content": None}]).text == "a"
    assert parse(messages=[{"role": "user", "content": None}]).text == ""


def test_long_prompt_is_routed_whole() -> None:
    long = "é" * 10_000_000
    request = parse(messages=[{"role": "user", "content": long}])
    assert request.text == long
    assert request.prompt_tokens == 2_500_000
    assert json.loads(request.for_upstream("m"))["messages"][0]["content"] == long


def test_needs() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert parse(tools=tools).needs.tools
    assert parse(tools=tools).prompt_characters == len("hello") + len(json.dumps(tools))
    assert not parse(tools=[]).needs.tools
    assert parse(response_format={"type": "json_object"}).needs.json_mode
    assert not parse(response_format={"type": "text"}).needs.json_mode
    assert parse(max_tokens=10).needs.tokens == 2 + 10
    assert parse(max_tokens=10, max_completion_tokens=20).needs.tokens == 2 + 20
    assert parse(n=3).responses == 3
    assert parse(n=None).responses == 1


def test_tool_result_comes_inside_a_loop() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    loop = [USER, {"role": "assistant", "content": None, "tool_calls": [call]}]
    loop.append({"role": "tool", "tool_call_id": "1", "content": "3"})
    request = parse(messages=loop)
    assert request.inside_tool_loop
    assert request.needs.tools
    assert request.text == "hello"
    assert request.prompt_characters == len("helloadd{}3")
    assert not parse(messages=[*loop, USER]).inside_tool_loop


def test_conversation_is_known_by_its_beginning() -> None:
    system = {"role": "system", "content": "be brief"}
    first = parse(messages=[system, USER])
    later = parse(messages=[system, USER, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}])
    assert first.conversation() == later.conversation()
    assert first.conversation() != parse(messages=[USER]).conversation()
    assert first.conversation() != first.conversation(api_key="app")
    assert first.conversation("thread-7") == parse().conversation("thread-7")
    assert first.conversation("thread-7") not in (first.conversation("thread-8"), first.conversation())
