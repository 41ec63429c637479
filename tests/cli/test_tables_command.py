"""`symbiosis routing inspect`: what a table holds and what can be learned from it."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from symbiosis.cli.app import main


def write(path: Path, learnable: bool) -> Path:
    """Two LLMs, each right on one of two kinds of question, or by chance; marked twice, without costs."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(200):
        kind = number % 2
        for llm in (0, 1):
            right = llm == kind if learnable else rng.random() < 0.5
            row = {"prompt": f"{('sum', 'poem')[kind]} number {number}", "model": f"m{llm}", "score": 1.0 + 4 * right}
            rows += [row, row]
    pl.DataFrame(rows).write_parquet(path)
    return path


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, float]]:
    assert main(["routing", "inspect", str(path), "--json"]) == 0
    document: dict[str, dict[str, float]] = json.loads(capsys.readouterr().out)
    return document


def test_what_can_be_learned_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = inspected(write(tmp_path / "t.parquet", learnable=True), capsys)
    assert told["read"]["queries"] == 200
    assert told["missing"]["rows_averaged"] == 400
    assert told["missing"]["answers_without_cost"] == 400
    assert told["noise_share"] == 0
    assert told["gain"]["chosen"] == told["gain"]["oracle"] == 1
    assert told["gain"]["low"] > 0.3
    assert told["params"]["clean_routing"] == {  # type: ignore[comparison-overlap]
        "missing_tokens": "estimate",
        "missing_costs": "estimate",
        "quality": {"worst": 1.0, "best": 5.0, "words": {}},
    }


def test_chance_gives_no_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = inspected(write(tmp_path / "t.parquet", learnable=False), capsys)
    assert told["gain"]["low"] < 0 < told["gain"]["oracle"] - told["gain"]["chosen"]


def test_a_page_for_people_and_a_line_for_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routing", "inspect", str(write(tmp_path / "t.parquet", learnable=True))]) == 0
    assert "chosen by words and domain 1.0000" in capsys.readouterr().out
    pl.DataFrame({"prompt": ["a"], "model": ["m"], "score": [1.0]}).write_parquet(tmp_path / "one.parquet")
    assert main(["routing", "inspect", str(tmp_path / "one.parquet")]) == 1
    assert "give more than 1" in capsys.readouterr().err
