"""`symbiosis routing inspect`: what a table holds, what can be learned from it, and a config that runs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from flows.configuration import read
from symbiosis.cli.app import main
from symbiosis.routing.experiments.inspection.alike import alike
from symbiosis.routing.experiments.inspection.learnable import ceiling_of_repeats, noise_of

ROOT = Path(__file__).resolve().parents[2]


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


def inspected(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["routing", "inspect", str(path), "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_what_can_be_learned_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = inspected(write(tmp_path / "t.parquet", learnable=True), capsys)
    assert told["read"]["queries"] == 200
    assert told["missing"]["rows_averaged"] == 400
    assert told["missing"]["answers_without_cost"] == 400
    assert told["noise"] == {"pairs_repeated": 400, "answers_each": 2.0, "deviation": 0.0, "share": 0.0}
    assert told["gain"]["chosen"] == told["gain"]["oracle"] == told["gain"]["ceiling"] == 1
    assert told["gain"]["ceiling_from"] == "repeated answers"
    assert told["gain"]["low"] > 0.3
    share = round(0.99 / told["gain"]["best_single"], 3)
    assert told["params"] == {
        "download_routing": {"source": "table", "path": str(tmp_path / "t.parquet")},
        "clean_routing": {"quality": {"worst": 1.0, "best": 5.0, "words": {}}},
        "compare_routers": {"quality_share": share},
    }


def test_chance_gives_no_gain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = inspected(write(tmp_path / "t.parquet", learnable=False), capsys)
    assert told["gain"]["low"] < 0 < told["gain"]["oracle"] - told["gain"]["chosen"]


def test_a_page_for_people_and_a_line_for_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["routing", "inspect", str(write(tmp_path / "t.parquet", learnable=True))]) == 0
    page = capsys.readouterr().out
    assert "chosen by words and domain 1.0000" in page
    assert "Noise: 400 pairs were answered 2.0 times" in page
    pl.DataFrame({"prompt": ["a"], "model": ["m"], "score": [1.0]}).write_parquet(tmp_path / "one.parquet")
    assert main(["routing", "inspect", str(tmp_path / "one.parquet")]) == 1
    assert "give more than 1" in capsys.readouterr().err


@pytest.mark.parametrize("linked", [True, False])
def test_the_config_that_is_written_runs_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], linked: bool
) -> None:
    path = write(tmp_path / "t.parquet", learnable=True)
    if linked:
        monkeypatch.setenv("SYMBIOSIS_DATA_DIR", str(tmp_path))
    else:
        monkeypatch.delenv("SYMBIOSIS_DATA_DIR", raising=False)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/routing_tables.yaml").write_text((ROOT / "configs/routing_tables.yaml").read_text())
    file = tmp_path / "configs/mine.yaml"
    assert main(["routing", "inspect", str(path), "--write", str(file)]) == 0
    told = capsys.readouterr()
    assert "make repro CONFIG=mine" in told.err
    configuration = read("mine", tmp_path)
    assert configuration.data == ({"data/local/t.parquet": "t.parquet"} if linked else {})
    params = configuration.params["download_routing"]
    assert params == {"source": "table", "path": "data/local/t.parquet" if linked else str(path)}
    assert "report-routers" in configuration.targets
    shown = yaml.safe_load(told.out.split("where it differs:\n")[1])
    assert shown["clean_routing"] == configuration.params["clean_routing"]
    assert main(["routing", "inspect", str(path), "--write", str(file)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_a_log_without_quality_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "model": "m",
        "messages": [{"role": "user", "content": "Who?"}],
        "response_cost": 0.1,
        "startTime": 1,
        "endTime": 2,
    }
    path = tmp_path / "t.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps(record | {"status": "failure"}))
    told = inspected(path, capsys)
    assert told["read"] == {"layout": "litellm", "what": "a log of LiteLLM", "rows": 1, "llms": 1}
    assert told["missing"] == {"failed_calls": 1}
    assert main(["routing", "inspect", str(path)]) == 0
    assert "Nothing can be learned yet: a log of LiteLLM with 1 answers" in capsys.readouterr().out
    assert main(["routing", "inspect", str(path), "--write", str(tmp_path / "c.yaml")]) == 1
    assert not (tmp_path / "c.yaml").exists()


def test_parts_without_a_common_llm_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = pl.read_parquet(write(tmp_path / "one.parquet", learnable=True)).with_columns(pl.lit("a").alias("task"))
    other = one.head(80).with_columns(pl.lit("b").alias("task"), pl.concat_str(pl.lit("x"), "model").alias("model"))
    pl.concat([one, other]).write_parquet(tmp_path / "t.parquet")
    told = inspected(tmp_path / "t.parquet", capsys)
    assert told["parts"] == [
        {"domains": ["a"], "llms": 2, "queries": 200},
        {"domains": ["b"], "llms": 2, "queries": 20},
    ]
    assert told["params"]["clean_routing"]["domains"] == ["a"]
    assert [row["llm"] for row in told["llms"]] == ["m0", "m1"]


def answers(quality: np.ndarray, cost: list[float | None]) -> pl.DataFrame:
    """One row per pair of (N, L) qualities."""
    rows = [
        (str(query), f"m{llm}", float(quality[query, llm]), cost[llm], 10, 10)
        for query in range(len(quality))
        for llm in range(quality.shape[1])
    ]
    columns = ["query_id", "llm", "quality", "cost_usd", "prompt_tokens", "response_tokens"]
    return pl.DataFrame(rows, columns, orient="row")


def test_llms_that_are_nearly_the_same_are_named() -> None:
    rng = np.random.default_rng(0)
    skill = rng.random((300, 4))
    quality = (skill[:, [0, 0, 0, 3]] > 0.5).astype(float)
    assert alike(answers(quality, [1.0, 1.01, 2.0, 1.0])) == [{"llms": ["m0", "m1"], "correlation": 1.0}]
    assert alike(answers(quality, [None, None, 2.0, None])) == [{"llms": ["m0", "m1"], "correlation": 1.0}]
    assert alike(answers(quality, [1.0, 2.0, 3.0, 4.0])) == []


def test_the_ceiling_leaves_luck_out() -> None:
    """Both LLMs are right by a coin: half of the answers chooses, and the other half knows nothing of it."""
    rng = np.random.default_rng(0)
    coins = [answers((rng.random((400, 2)) < 0.5).astype(float), [1.0, 1.0]) for _ in range(2)]
    known = pl.concat(coins)
    ceiling = ceiling_of_repeats(known, 0)
    assert ceiling is not None
    assert abs(ceiling - 0.5) < 0.04  # four standard errors of 800 coins are .07; halves are averaged
    assert ceiling_of_repeats(coins[0], 0) is None
    noise = noise_of(known)
    assert noise is not None
    assert noise["share"] > 0.9
