"""Tables like those that people have, with their faults: from the file to a decision, with one short config each."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from answer_tables import CASES, FAST, Case, parquet, whole
from routing_world import FORM, compare_params, train_params, write_no_log

from stages import clean_routing, compare_routers, download_routing, router_train
from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document
from symbiosis.routing.data.params import CleanRoutingParams, DownloadRoutingParams
from symbiosis.routing.experiments.comparison_results import SINGLES, SplitResult
from symbiosis.routing.metrics.curves import summarise
from symbiosis.routing.model.params import RouterTrainParams
from symbiosis.routing.serving.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
MALFORMED = Path(os.environ.get("SYMBIOSIS_DATA_DIR", "nowhere"), "malformed")


def all_the_way(path: str, clean: dict[str, Any], train: RouterTrainParams) -> dict[str, Any]:
    """Run the stages in the present folder and ask for a decision; return the report on data quality."""
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    document["router_train"] = train.model_dump(mode="json")
    document["clean_routing"] |= clean
    Path("params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    download = document["download_routing"] | {"source": "table", "path": path}
    download_routing.work(DownloadRoutingParams.model_validate(download))
    clean_routing.work(CleanRoutingParams.model_validate(document["clean_routing"]))
    queries = pl.read_parquet("data/routing/queries.parquet")
    Path("data/embeddings").mkdir()
    vectors = np.random.default_rng(0).standard_normal((queries.height, FORM.dimension)).astype(np.float32)
    np.save("data/embeddings/queries.npy", vectors)
    write_json(Path("data/embeddings/manifest.json"), FORM.model_dump())
    write_no_log(Path())
    router_train.work(train)
    assert 0 <= read_json("reports/router_train.json")["all"]["brier"] < 0.5
    compare_routers.work(1, compare_params(baselines=["best_single", "nearest_neighbours"]))
    curve = SplitResult.load(Path("data/comparison/1")).curves["router"]
    assert np.isfinite(curve.quality).all()
    assert (curve.cost >= 0).all()
    workspace = Workspace(encode=lambda text: vectors[len(text) % len(vectors)].astype(np.float64))
    decision = workspace.route("Who?")
    workspace.store.close()
    assert decision.llm in pl.read_parquet("data/routing/llms.parquet")["llm"]
    told: dict[str, Any] = read_json("reports/data_quality/routing.json")
    return told


def require(case: Case, train: RouterTrainParams) -> dict[str, Any]:
    told = all_the_way(case.write(), case.clean, train)
    assert {key for key in told if key.startswith(("pairs", "rows_", "answers"))} == case.gaps
    return told


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", FAST)
def test_a_table_goes_all_the_way(name: str) -> None:
    require(CASES[name], train_params(tags="auto"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_table_goes_all_the_way_as_params_are(name: str) -> None:
    told = require(CASES[name], RouterTrainParams.model_validate(read_document(ROOT / "params.yaml")["router_train"]))
    assert ("llms_without_cost_or_price" in told) == (name == "few priced")


@pytest.mark.slow
def test_near_duplicates_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: dict[str, list[float]] = {}
    for name, path in (("without", lambda: parquet(whole())), ("with", CASES["near-duplicates"].write)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        all_the_way(path(), {}, train_params(tags="auto"))
        reached[name] = []
        for split in range(2, 8):  # the division moves a single one by .01
            compare_routers.work(split, compare_params(baselines=["best_single", "nearest_neighbours"]))
            curves = SplitResult.load(Path(f"data/comparison/{split}")).curves
            reached[name].append(summarise(curves["router"].points(), curves[SINGLES].points()).aiq)
    assert np.mean(reached["with"]) > np.mean(reached["without"]) - 0.005, reached


def test_one_llm_is_no_table_to_route(capsys: pytest.CaptureFixture[str]) -> None:
    one = whole().filter(pl.col("llm") == whole()["llm"][0])
    with pytest.raises(InputError, match="routing needs at least two LLMs"):
        all_the_way(parquet(one), {}, train_params())
    assert not Path("data/routing").exists()


def test_repeated_answers_keep_their_noise() -> None:
    one = whole().filter(pl.col("query_id") < "q000060")
    path = parquet(pl.concat([one, one.with_columns((1 - pl.col("quality")).alias("quality")).head(30)]))
    document: dict[str, Any] = read_document(ROOT / "params.yaml")
    download_routing.work(
        DownloadRoutingParams.model_validate(document["download_routing"] | {"source": "table", "path": path})
    )
    clean_routing.work(CleanRoutingParams.model_validate(document["clean_routing"]))
    parts = [pl.read_parquet(f"data/routing/{name}.parquet") for name in ("offline", "online", "test")]
    twice = pl.concat(parts).filter(pl.col("answers") > 1)
    assert twice.height == 30
    assert twice["quality"].to_list() == pytest.approx([0.5] * 30)
    quality = one["quality"].head(30).to_numpy()
    assert sorted(twice["quality_variance"]) == pytest.approx(sorted((2 * quality - 1) ** 2 / 2), abs=1e-6)
    assert pl.concat(parts).filter(pl.col("answers") == 1)["quality_variance"].null_count() == one.height - 30


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "20-jsonl-bool-quality",
        "23-jsonl-messages",
        "23c-parquet-list",
        "24-jsonl-nan",
        "26-parquet-nan-quality",
        "26d-nan-latency",
        "28b-all-zero-cost",
    ],
)
def test_malformed_tables_go_all_the_way(name: str) -> None:
    if not MALFORMED.is_dir():
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    train = RouterTrainParams.model_validate(read_document(ROOT / "params.yaml")["router_train"])
    told = all_the_way(str(MALFORMED / name), {}, train)
    assert told.get("pairs_not_answered", 0) == (2 if name.startswith("26-") else 0)


@pytest.mark.data
def test_queries_of_one_text_cannot_be_split() -> None:
    if not MALFORMED.is_dir():
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    with pytest.raises(InputError, match=r"60 queries are too few: the online split is empty \(1 different texts"):
        all_the_way(str(MALFORMED / "65b-rb-list-parquet"), {}, train_params())
