"""Checks of an answer: which requests they are for, what they say, and that they come to an end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.requests.chat import ChatRequest
from symbiosis.gateway.requests.checks import LONGEST_ANSWER, Checks

SHAPE = {"type": "object", "required": ["verdict"], "properties": {"verdict": {"pattern": "^(a|aa)+$"}}}
SLOW = "a" * 60 + "!"
"""Takes ^(a|aa)+$ longer than anyone waits."""


def request(**fields: object) -> ChatRequest:
    messages = [{"role": "user", "content": "hello"}]
    return ChatRequest.parse(json.dumps({"model": "auto", "messages": messages, **fields}).encode())


def checks(*configured: dict[str, object]) -> Checks:
    named = [{"name": f"check{number}", "when": "always", **check} for number, check in enumerate(configured)]
    config = {"policies": {"careful": {"floor": 0.8}}, "checks": named}
    return Checks(GatewayConfig.model_validate(config).checks)


@pytest.mark.parametrize(
    ("check", "answer", "quality"),
    [
        ({"kind": "json"}, ' {"a": [1, 2]}\n', 1.0),
        ({"kind": "json"}, '{"a": [1, 2}', 0.0),
        ({"kind": "json"}, '```json\n{"a": 1}\n```', 0.0),
        ({"kind": "json"}, "NaN", 0.0),
        ({"kind": "json"}, "", 0.0),
        ({"kind": "json"}, "[" * 100_000, 0.0),
        ({"kind": "json"}, "9" * 5000, 0.0),
        ({"kind": "json_schema", "schema": SHAPE}, '{"verdict": "aaa"}', 1.0),
        ({"kind": "json_schema", "schema": SHAPE}, '{"verdict": "b"}', 0.0),
        ({"kind": "json_schema", "schema": SHAPE}, '{"verdict": 3}', 1.0),
        ({"kind": "json_schema", "schema": SHAPE}, "{}", 0.0),
        ({"kind": "json_schema", "schema": SHAPE}, "none", 0.0),
        ({"kind": "json_schema", "schema": {"$ref": "#/$defs/a", "$defs": {"a": {"type": "null"}}}}, "null", 1.0),
        ({"kind": "regex", "pattern": "^(yes|no)$"}, "yes", 1.0),
        ({"kind": "regex", "pattern": "^(yes|no)$"}, "perhaps", 0.0),
        ({"kind": "regex", "pattern": "."}, "\ud800", 1.0),
    ],
)
def test_verdicts(check: dict[str, object], answer: str, quality: float) -> None:
    assert checks(check).verdict(request(), answer) == ("check0", quality)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        ({"kind": "regex", "pattern": "^(a|aa)+$", "timeout_s": 0.01}, SLOW),
        ({"kind": "json_schema", "schema": SHAPE, "timeout_s": 0.01}, json.dumps({"verdict": SLOW})),
    ],
)
def test_expression_that_takes_too_long_says_nothing(check: dict[str, object], answer: str) -> None:
    assert checks(check).verdict(request(), answer) is None
    assert checks(check, {"kind": "regex", "pattern": "a"}).verdict(request(), answer) == ("check1", 1.0)


def test_answers_that_are_not_whole_are_not_judged() -> None:
    judged = checks({"kind": "regex", "pattern": "a"})
    assert judged.verdict(request(), None) is None
    assert judged.verdict(request(), "a" * LONGEST_ANSWER) == ("check0", 1.0)
    assert judged.verdict(request(), "a" * (LONGEST_ANSWER + 1)) is None


def test_first_failure_decides() -> None:
    judged = checks({"kind": "regex", "pattern": "a"}, {"kind": "json"}, {"kind": "regex", "pattern": "b"})
    assert judged.verdict(request(), '"ab"') == ("check0", 1.0)
    assert judged.verdict(request(), "ab") == ("check1", 0.0)
    assert judged.verdict(request(), '"a"') == ("check2", 0.0)


def test_checks_are_for_some_requests() -> None:
    asked = request(response_format={"type": "json_schema", "json_schema": {}})
    by_format, by_policy = (
        checks({"kind": "json", "when": "response_format"}),
        checks({"kind": "json", "when": {"policy": "careful"}}),
    )
    assert by_format.apply_to(asked)
    assert by_format.verdict(asked, "x") == ("check0", 0.0)
    assert not by_format.apply_to(request())
    assert by_format.verdict(request(), "x") is None
    assert by_policy.apply_to(request(), "careful")
    assert by_policy.verdict(request(), "x", "careful") == ("check0", 0.0)
    assert not by_policy.apply_to(asked, "auto")
    assert not by_policy.apply_to(asked)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reference that leads nowhere only below an `$id` inside: the config's check misses it."""
    monkeypatch.setattr("urllib.request.urlopen", lambda *_: pytest.fail("fetched"))
    inside = {"$id": "http://127.0.0.1:9/a", "$ref": "#/$defs/b"}
    judged = checks({"kind": "json_schema", "schema": {"properties": {"x": inside}, "$defs": {"b": {}}}})
    assert judged.verdict(request(), '{"x": 1}') is None
    assert judged.verdict(request(), "{}") == ("check0", 1.0)


@given(st.text())
def test_any_answer_gets_a_verdict(answer: str) -> None:
    judged = checks({"kind": "json_schema", "schema": SHAPE}).verdict(request(), answer)
    assert judged == ("check0", 0.0)
