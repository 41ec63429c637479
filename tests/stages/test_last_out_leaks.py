"""The last-out protocol from raw reviews on: another held-out item moves nothing that was learned."""

import gzip
import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

import stages.baseline
from symbiosis.core.artifacts import read_json
from symbiosis.core.params import read_document, validate_block
from symbiosis.params import BLOCKS
from symbiosis.recommender.baselines.registry import BASELINES

ROOT = Path(__file__).parents[2]
SIZE = {"users": 60, "items": 40, "interactions": 400, "drift": 0.3}
LEARNED = ("clean", "build_graph", "corpus", "embed_items", "propagation")
GRIDS: dict[str, dict[str, Any]] = {
    "transitions": {"decay": [0.5], "backward": [0], "popularity": [0.5]},
    "tuned_hybrid": {"hidden": ["latest"], "decay": [0.8], "directed": [True]},
    "boosting": {
        "hidden": ["latest"],
        "decay": [0.8],
        "directed": [True],
        "candidates": [12],
        "leaves": [4],
        "learning_rate": [0.1],
        "epochs": 1,
        "patience": 1,
    },
}
"""One setting each, so that validation chooses nothing."""


def run(stage: str) -> None:
    params = validate_block(yaml.safe_load(Path("params.yaml").read_text()), stage, BLOCKS[stage])
    importlib.import_module(f"stages.{stage}").work(params)


def pipeline() -> None:
    for stage in LEARNED:
        run(stage)
    for name, grid in GRIDS.items():
        stages.baseline.work(name, BASELINES[name].Params(seed=1, **grid))


def learned() -> dict[str, bytes]:
    """Every artefact that something is learned from or that was learned, but no ranking."""
    files = [Path("data/clean/train.parquet"), Path("data/clean/graph.parquet")]
    for folder in ("graph", "corpus", "item_embeddings", "propagation"):
        files += [file for file in Path("data", folder).rglob("*") if file.is_file()]
    assert len(files) > 10
    return {str(file): file.read_bytes() for file in files}


def rankings() -> dict[str, np.ndarray]:
    return {f"{file.parent.name}/{file.stem}": np.load(file) for file in sorted(Path("data/rankings").glob("*/*.npy"))}


def swap(part: str, every: int) -> set[int]:
    """Let some held-out interactions end at other items, new to their users; return these users."""
    users = dict(pl.read_parquet("data/clean/users.parquet").select("user", "user_id").rows())
    items = dict(pl.read_parquet("data/clean/items.parquet").select("item", "item_id").rows())
    tables = [pl.read_parquet(f"data/clean/{name}.parquet") for name in ("train", "validation", "test")]
    taken = {pair for table in tables for pair in table.select("user", "item").rows()}
    degree = Counter(item for _, item in taken)
    swapped: dict[tuple[str, str], str] = {}
    moved = set()
    for user, item in pl.read_parquet(f"data/clean/{part}.parquet").sort("user").select("user", "item").rows()[::every]:
        other = next(number for number in sorted(items, reverse=True) if (user, number) not in taken)
        if degree[item] > 5:  # which it must keep in the data
            degree[item] -= 1
            taken.add((user, other))
            moved.add(user)
            swapped[users[user], items[item]] = items[other]
    raw = Path("data/raw/reviews/reviews.json.gz")
    lines = [json.loads(line) for line in gzip.decompress(raw.read_bytes()).splitlines()]
    for line in lines:
        line["asin"] = swapped.get((line["reviewerID"], line["asin"]), line["asin"])
    raw.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode() + b"\n"))
    return moved


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("lightgbm")
    monkeypatch.chdir(tmp_path)
    document = read_document(ROOT / "params.yaml")
    document["download"]["synthetic"] |= SIZE  # type: ignore[index]
    document["clean"]["split"] = "last_out"  # type: ignore[index]
    Path("params.yaml").write_text(yaml.safe_dump(document))
    run("download")
    # No two reviews of a user are of one time, or another item might stand elsewhere in the order.
    raw = Path("data/raw/reviews/reviews.json.gz")
    lines = [json.loads(line) for line in gzip.decompress(raw.read_bytes()).splitlines()]
    for number, line in enumerate(lines):
        line["unixReviewTime"] = 1_500_000_000 + 86_400 * number
    raw.write_bytes(gzip.compress("\n".join(map(json.dumps, lines)).encode() + b"\n"))
    pipeline()
    return tmp_path


@pytest.mark.usefixtures("workspace")
def test_another_test_item_moves_no_artefact_and_no_ranking() -> None:
    before, ranked = learned(), rankings()
    test = pl.read_parquet("data/clean/test.parquet")
    assert len(swap("test", 1)) > 30
    pipeline()
    assert not pl.read_parquet("data/clean/test.parquet").equals(test)
    assert learned() == before
    for name, ranking in rankings().items():
        np.testing.assert_array_equal(ranking, ranked[name], err_msg=name)
    assert ranked.keys() == {
        *(f"{name}/ranking" for name in GRIDS),
        "tuned_hybrid/refitted",
        "boosting/refitted",
    }


@pytest.mark.usefixtures("workspace")
def test_another_validation_item_moves_the_rankings_of_its_own_user_alone() -> None:
    """It is in his history at test. Rankings of methods that were refitted learn from it, and may move for all."""
    before, ranked = learned(), rankings()
    moved = swap("validation", 3)
    assert len(moved) > 10
    pipeline()
    assert learned() == before
    others = np.setdiff1d(np.arange(SIZE["users"]), list(moved))
    after = rankings()
    for name in GRIDS:
        np.testing.assert_array_equal(after[f"{name}/ranking"][others], ranked[f"{name}/ranking"][others])
        assert (after[f"{name}/ranking"][list(moved)] != ranked[f"{name}/ranking"][list(moved)]).any()
    assert (after["tuned_hybrid/refitted"][others] != ranked["tuned_hybrid/refitted"][others]).any()
    assert read_json(Path("data/clean/protocol.json")) == {"protocol": "last_out"}
