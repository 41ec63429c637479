"""Tables like those that people have, with their gaps, from the file to the comparison with one short config each."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from routing_world import FORM, train_params, write_no_log

from stages import clean_routing, compare_routers, download_routing, router_train
from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.params import read_document
from symbiosis.routing.data import synthetic
from symbiosis.routing.data.params import CleanRoutingParams, DownloadRoutingParams
from symbiosis.routing.experiments.comparison_results import SplitResult
from symbiosis.routing.experiments.params import CompareRoutersParams

ROOT = Path(__file__).resolve().parents[2]
LLMS = [llm.name for llm in synthetic.LLMS]


def whole() -> pl.DataFrame:
    return synthetic.generate(260, seed=5)


def prompt_only() -> pl.DataFrame:
    """Few-shot prompts, of which only the prompt's tokens were counted, with a basis that nobody knows; no labels."""
    return (
        whole()
        .with_columns(
            pl.concat_str(pl.lit("Q: 1 + 1?\nA: 2\n\nQ: "), "query_text").alias("query_text"),
            pl.lit("vendor_counter").alias("tokens_basis"),
        )
        .drop("response_tokens", "domain", "subdomain", "latency_s")
    )


def soft() -> pl.DataFrame:
    """Four LLMs, marks from 1 to 5 under other names, each pair marked twice."""
    one = whole().filter(pl.col("llm").is_in(LLMS[:4]))
    marks = [one.with_columns(pl.col("quality") * 4 * share + 1) for share in (1.0, 0.9)]
    return pl.concat(marks).rename({"quality": "rating", "llm": "model", "query_text": "prompt"})


def without_costs() -> pl.DataFrame:
    """Right or wrong alone: no costs, no tokens, no ids."""
    return whole().select("query_text", "domain", "llm", (pl.col("quality") > 0.5).alias("quality"))


def partial() -> pl.DataFrame:
    """Half of the queries were answered by two LLMs in five, and a few costs are missing."""
    frame = whole()
    rng = np.random.default_rng(1)
    late = (frame["query_id"] > "q000130").to_numpy()
    kept = pl.Series(~late | (rng.random(frame.height) < 0.4))
    lost = pl.Series(rng.random(frame.height) < 0.05)
    return frame.filter(kept).with_columns(
        pl.when(lost.filter(kept)).then(None).otherwise(pl.col("cost_usd")).alias("cost_usd")
    )


def log() -> pl.DataFrame:
    """One answer per query, as a log has it."""
    frame = whole().sort("query_id", "llm")
    chosen = np.random.default_rng(2).integers(len(LLMS), size=260)
    return frame[(np.arange(260) * len(LLMS) + chosen).tolist()]


def free() -> pl.DataFrame:
    return whole().with_columns(pl.lit(0.0).alias("cost_usd"))


TABLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "prompt only": (prompt_only, {}),
    "soft": (soft, {"quality": {"worst": 1, "best": 5, "words": {}}}),
    "without costs": (without_costs, {}),
    "costs from prices": (
        without_costs,
        {"prices": {llm: {"prompt": 1 + n, "response": 2 + n} for n, llm in enumerate(LLMS)}},
    ),
    "partial": (partial, {}),
    "log": (log, {}),
    "free": (free, {}),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    make, config = TABLES[name]
    make().write_parquet("t.parquet")
    document = read_document(ROOT / "params.yaml")
    document["router_train"] = train_params(tags="auto").model_dump(mode="json")
    document["clean_routing"] |= config
    Path("params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    download = document["download_routing"] | {"source": "table", "path": "t.parquet"}
    download_routing.work(DownloadRoutingParams.model_validate(download))
    clean_routing.work(CleanRoutingParams.model_validate(document["clean_routing"]))
    queries = pl.read_parquet("data/routing/queries.parquet")
    Path("data/embeddings").mkdir()
    vectors = np.random.default_rng(0).standard_normal((queries.height, FORM.dimension)).astype(np.float32)
    np.save("data/embeddings/queries.npy", vectors)
    write_json(Path("data/embeddings/manifest.json"), FORM.model_dump())
    write_no_log(tmp_path)
    router_train.work(train_params(tags="auto"))
    report = read_json("reports/router_train.json")["all"]
    assert 0 < report["brier"] < 0.5
    compared = document["compare_routers"] | {
        "forms": ["router"],
        "baselines": ["best_single", "nearest_neighbours"],
        "stream": None,
        "robustness": None,
    }
    compare_routers.work(
        1, CompareRoutersParams.model_validate(compared | {"leave_domains_out": [], "method_seeds": 1})
    )
    result = SplitResult.load(Path("data/comparison/1"))
    curve = result.curves["router"]
    assert np.isfinite(curve.quality).all()
    assert (curve.cost >= 0).all()
    summary = read_json("reports/data_quality/routing.json")
    gaps = {key: value for key, value in summary.items() if key.startswith(("pairs", "rows_", "answers"))}
    assert (
        set(gaps)
        == {
            "prompt only": {"rows_without_domain", "answers_without_response_tokens"},
            "soft": {"rows_averaged"},
            "without costs": {
                "answers_without_cost",
                "answers_without_prompt_tokens",
                "answers_without_response_tokens",
            },
            "costs from prices": {
                "answers_without_cost",
                "answers_without_prompt_tokens",
                "answers_without_response_tokens",
            },
            "partial": {"pairs_not_answered", "answers_without_cost"},
            "log": {"pairs_not_answered"},
            "free": set(),
        }[name]
    )
