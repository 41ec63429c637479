"""Requests that nobody means, through the gateway's door: an answer in OpenAI's form, in a line, and never a 500."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from gateway_world import ADMIN_KEY, RunningGateway
from pydantic import ValidationError

from symbiosis.gateway.config.reading import explain
from symbiosis.gateway.config.schema import LlmConfig

MESSAGES = [{"role": "user", "content": "hello"}]
AS_ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
JSON = {"content-type": "application/json"}


@pytest.fixture
def web(door: RunningGateway) -> Any:
    with httpx.Client(base_url=door.address, timeout=30, trust_env=False) as client:
        yield client


def refused(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    message: str = answer.json()["error"]["message"]
    assert message.isprintable()
    assert len(message) < 700
    return message


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("quality", "NaN", "finite"),
        ("quality", "1e999", "finite"),
        ("quality", "80", "did you mean 0.8?"),
        ("response_tokens", "1e300", "must be a number from 0 to 10,000,000"),
        ("response_tokens", "Infinity", "finite"),
        ("response_tokens", "-1", "greater than or equal to 0"),
    ],
)
def test_feedback_that_is_none(web: httpx.Client, field: str, value: str, told: str) -> None:
    identity = web.post("/v1/route", json={"model": "auto", "messages": MESSAGES}).json()["id"]
    body = {"decision": identity, "quality": 1.0, field: None}
    content = json.dumps(body).replace(f'"{field}": null', f'"{field}": {value}')
    assert told in refused(web.post("/v1/feedback", content=content, headers=JSON), 422)
    body[field] = 0.5
    assert web.post("/v1/feedback", json=body).json()["accepted"] == "new"


@pytest.mark.parametrize("price", ["NaN", "1e999", "1e300", "-1", "true", '"1"'])
def test_prices_that_are_none(web: httpx.Client, price: str) -> None:
    content = f'{{"price_prompt": {price}}}'
    refused(web.post("/admin/llms/grand-1t/prices", content=content, headers=JSON | AS_ADMIN), 422)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ("floor=80", "80 is no share from 0 to 1: did you mean 0.8?"),
        ("floor=nan", "finite"),
        ("budget=1e-320", "greater than or equal to"),
        ("deadline=1e-320", "greater than or equal to"),
    ],
)
def test_policies_that_are_none(web: httpx.Client, part: str, told: str) -> None:
    answer = web.post("/v1/chat/completions", json={"model": f"auto:{part}", "messages": MESSAGES})
    assert told in refused(answer, 400)


def asking(content: bytes, model: bytes = b"auto") -> bytes:
    return b'{"model": "%s", "messages": [{"role": "user", "content": "%s"}]}' % (model, content)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (asking(b"a\\ud800b"), 200),
        (asking(b"<|im_start|><|endoftext|>[SEP]<user_3> <M6"), 200),
        (asking(b"caf\xe9"), 400),
        (asking(b"x", b"x" * 1_000_000), 400),
        (asking(b"x", b"\\u001b[31m"), 400),
        (b'{"model": "auto", "messages": ' + b"[" * 200_000, 400),
        (b'{"model": "auto", "max_tokens": ' + b"9" * 5_000 + b', "messages": [{"role": "user"}]}', 400),
    ],
    ids=range(7),
)
def test_texts_of_every_kind(web: httpx.Client, body: bytes, status: int) -> None:
    answer = web.post("/v1/chat/completions", content=body)
    if status == 200:
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"]
    else:
        refused(answer, status)


@pytest.mark.parametrize("name", ["meta-llama/Llama 3: 8B", "../../x", "模型", "<b>&", "%2e%2e/%00"])
def test_an_llm_of_any_name_can_be_managed(web: httpx.Client, name: str) -> None:
    """Nobody is called so here, which the answer says in its own words: the path was understood."""
    place, llm = f"/admin/llms/{quote(name, safe='')}", {"price_prompt": 1.0}
    for path, body in ((f"{place}/drain", {}), (f"{place}/prices", llm)):
        assert refused(web.post(path, json=body, headers=AS_ADMIN), 404).startswith("no upstream serves ")
    assert refused(web.delete(place, headers=AS_ADMIN), 404) == f"the router does not know {name!r}"
    assert LlmConfig(name=name, price_prompt=1, price_response=1).model == name


@pytest.mark.parametrize("name", ["", " a", "a\nb", "\x1b[31m", "\u200b", "\u202eb", "x" * 201, "auto", "auto:a"])
def test_a_name_that_cannot_be_shown_is_none(name: str) -> None:
    with pytest.raises(ValidationError, match=r"cannot be the name of an LLM|stands for routing") as caught:
        LlmConfig(name=name, price_prompt=1, price_response=1)
    told = explain(caught.value)
    assert told.startswith("gateway.yaml: `name`: ")
    assert told.isprintable()
    assert len(told) < 250
