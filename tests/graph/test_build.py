"""The train-only graph: its arrays, its groups, its summary, its files; and both graph stages end to end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import build_graph as build_stage
from stages import shortest_paths as paths_stage
from symbiosis.core.artifacts import sha256_of
from symbiosis.core.errors import InputError
from symbiosis.graph.build import Graph, build_graph, summarise
from symbiosis.graph.distances import HopDistances
from symbiosis.graph.params import BuildGraphParams, ShortestPathsParams

PARAMS = BuildGraphParams(minimum_group=2, maximum_group_share=0.75)
PATHS = ShortestPathsParams(block=64, threads=2, clip=6, damping=1.0)

ITEMS = pl.DataFrame(
    {
        "item": [0, 1, 2, 3],
        "item_id": ["a", "b", "c", "d"],
        "title": [None, "B", "C", "D"],
        "brand": ["Zeta", "Acme", "Zeta", None],
        "categories": [["All", "Soap"], ["All", "Soap", "Soap"], ["All"], ["All", "Lamp", " "]],
        "description": [None] * 4,
    },
    schema_overrides={"item": pl.UInt32, "description": pl.String},
)
EDGES = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3)]


def interactions(edges: list[tuple[int, int]]) -> pl.DataFrame:
    return pl.DataFrame(edges, schema={"user": pl.UInt32, "item": pl.UInt32}, orient="row")


def test_arrays_of_a_small_graph() -> None:
    graph = build_graph(4, ITEMS, interactions(EDGES[::-1]), PARAMS)
    assert graph.user_offsets.tolist() == [0, 2, 4, 5, 5]
    assert graph.user_items.tolist() == [0, 1, 1, 2, 3]
    assert graph.item_offsets.tolist() == [0, 1, 3, 4, 5]
    assert graph.item_users.tolist() == [0, 0, 1, 1, 2]
    assert (graph.n_users, graph.n_items, graph.n_edges) == (4, 4, 5)
    assert graph.user_offsets.dtype == graph.category_offsets.dtype == np.int64
    assert graph.user_items.dtype == graph.brand_items.dtype == np.int32


def test_groups_of_a_fitting_size_in_order() -> None:
    # `All` holds every item, more than 3/4; Acme and Lamp hold one; the blank name is no name.
    graph = build_graph(4, ITEMS, interactions(EDGES), PARAMS)
    assert graph.brands == ("Zeta",)
    assert (graph.brand_offsets.tolist(), graph.brand_items.tolist()) == ([0, 2], [0, 2])
    assert graph.categories == ("Soap",)
    assert (graph.category_offsets.tolist(), graph.category_items.tolist()) == ([0, 2], [0, 1])
    wide = build_graph(4, ITEMS, interactions(EDGES), BuildGraphParams(minimum_group=2, maximum_group_share=1.0))
    assert wide.categories == ("All", "Soap")
    assert (wide.category_offsets.tolist(), wide.category_items.tolist()) == ([0, 4, 6], [0, 1, 2, 3, 0, 1])


def test_no_brand_and_no_category_at_all() -> None:
    bare = ITEMS.with_columns(pl.lit(None, dtype=pl.String).alias("brand"), categories=pl.lit([], pl.List(pl.String)))
    graph = build_graph(3, bare, interactions(EDGES), PARAMS)
    assert graph.brands == graph.categories == ()
    assert graph.brand_offsets.tolist() == graph.category_offsets.tolist() == [0]
    assert summarise(graph)["items_per_brand"] == {}


@settings(deadline=None, max_examples=30)
@given(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1), st.randoms())
def test_both_sides_hold_the_same_edges(edges: set[tuple[int, int]], random: object) -> None:
    order = list(edges)
    random.shuffle(order)  # type: ignore[attr-defined]
    graph = build_graph(9, ITEMS, interactions(order), PARAMS)
    users = np.repeat(np.arange(9), np.diff(graph.user_offsets))
    items = np.repeat(np.arange(4), np.diff(graph.item_offsets))
    assert list(zip(users.tolist(), graph.user_items.tolist(), strict=True)) == sorted(edges)
    assert list(zip(graph.item_users.tolist(), items.tolist(), strict=True)) == sorted(edges, key=lambda e: e[::-1])
    network = graph.to_networkx()
    assert sorted(network.edges) == [(user, 9 + item) for user, item in sorted(edges)]
    assert network.number_of_nodes() == 13


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([], r"graph\.parquet holds no interaction"),
        ([(3, 0)], r"graph\.parquet: user 3 is not one of the 3 in users\.parquet"),
        ([(0, 4)], r"graph\.parquet: item 4 is not one of the 4 in items\.parquet"),
        ([(0, 1), (2, 2), (0, 1)], r"graph\.parquet: user 0 has item 1 more than once"),
    ],
)
def test_contradictory_interactions_are_refused(edges: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_graph(3, ITEMS, interactions(edges), PARAMS)


def test_items_must_be_numbered_through() -> None:
    with pytest.raises(InputError, match=r"items\.parquet must number its items"):
        build_graph(3, ITEMS.with_columns(item=pl.Series([0, 1, 1, 3])), interactions(EDGES), PARAMS)


def test_summary() -> None:
    summary = summarise(build_graph(5, ITEMS, interactions([(0, 0), (0, 1), (1, 1), (1, 2)]), PARAMS))
    assert summary["nodes"] == 9
    assert summary["edges"] == 4
    assert summary["density"] == 0.2
    assert summary["connected_components"] == 5  # users 0, 1 with items 0, 1, 2; four nodes alone
    assert summary["largest_component"] == 5
    assert (summary["isolated_users"], summary["isolated_items"]) == (3, 1)
    assert summary["items_per_user"] == {"minimum": 0, "median": 0.0, "mean": 0.8, "maximum": 2}
    assert summary["users_per_item"] == {"minimum": 0, "median": 1.0, "mean": 1.0, "maximum": 2}
    assert (summary["brands"], summary["categories"]) == (1, 1)


def saved(folder: Path) -> Path:
    folder.mkdir()
    build_graph(4, ITEMS, interactions(EDGES), PARAMS).save(folder)
    return folder


def test_load_returns_what_was_saved(tmp_path: Path) -> None:
    graph = Graph.load(saved(tmp_path / "graph"))
    again = tmp_path / "again"
    again.mkdir()
    graph.save(again)
    assert sha256_of(again) == sha256_of(tmp_path / "graph")
    assert graph.brands == ("Zeta",)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("user_offsets", [0, 2, 4, 6, 5]),
        ("user_offsets", [1, 2, 4, 5, 5]),
        ("user_offsets", [0, 2, 4, 5, 6]),
        ("user_items", [0, 1, 1, 2, 4]),
        ("user_items", [0, 1, 1, 2, -1]),
        ("user_items", [1, 0, 1, 2, 3]),
        ("user_items", [0, 0, 1, 2, 3]),
        ("item_users", [0, 0, 1, 1, 3]),
        ("item_offsets", [0, 1, 3, 4, 4]),
        ("brand_offsets", [0, 1, 2]),
        ("category_items", [0, 7]),
    ],
)
def test_contradictory_files_are_named(tmp_path: Path, name: str, array: list[int]) -> None:
    folder = saved(tmp_path / "graph")
    np.save(folder / f"{name}.npy", np.array(array, dtype=np.int64 if "offsets" in name else np.int32))
    with pytest.raises(InputError, match=rf"{name}\.npy is damaged"):
        Graph.load(folder)


@pytest.mark.parametrize("damage", ["missing", "short", "other type"])
@pytest.mark.parametrize("name", ["user_offsets.npy", "item_users.npy", "brand_items.npy", "names.json"])
def test_damaged_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    file = saved(tmp_path / "graph") / name
    if damage == "missing":
        file.unlink()
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:-3])
    elif name == "names.json":
        file.write_text('{"brands": ["Zeta"]}')
    else:
        np.save(file, np.load(file).astype(np.float64))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        Graph.load(file.parent)


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the outputs of `clean`, the working directory of the test."""
    folder = tmp_path / "data/clean"
    folder.mkdir(parents=True)
    users = pl.DataFrame({"user": [0, 1, 2], "user_id": ["x", "y", "z"]}, schema_overrides={"user": pl.UInt32})
    users.write_parquet(folder / "users.parquet")
    ITEMS.write_parquet(folder / "items.parquet")
    more = [pl.lit(5.0).alias("rating"), pl.lit(1).alias("timestamp"), pl.lit("good").alias("review")]
    interactions(EDGES).with_columns(more).write_parquet(folder / "graph.parquet")
    monkeypatch.chdir(tmp_path)
    return folder


def test_stages_end_to_end(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build_stage.work(PARAMS)
    paths_stage.work(PATHS)
    assert Graph.load("data/graph").n_edges == 5
    assert json.loads(Path("data/graph/summary.json").read_text())["connected_components"] == 2
    hops = HopDistances.load("data/distances")
    assert hops.user_item.tolist() == [[1, 1, 3, 255], [3, 1, 1, 255], [255, 255, 255, 1]]
    assert hops.item_item.tolist() == [[0, 2, 4, 255], [2, 0, 2, 255], [4, 2, 0, 255], [255, 255, 255, 0]]
    assert hops.connectivity[:6] == pytest.approx([6 / 11, 1, 4 / 11, 3 / 11, 2 / 11, 1 / 11])
    summary = json.loads(Path("data/distances/summary.json").read_text())
    assert summary["user_item_pairs"] == {"1": 5, "3": 2, "unreachable": 5}
    assert summary["item_item_pairs"] == {"0": 4, "2": 4, "4": 2, "unreachable": 6}
    assert summary["connectivity"]["unreachable"] == 0
    assert "3 users, 4 items, 5 edges, 2 connected components" in capsys.readouterr().out


def test_distances_that_nobody_reads_need_not_be_stored(clean: Path) -> None:
    build_stage.work(PARAMS)
    paths_stage.work(PATHS.model_copy(update={"matrices": False}))
    assert [path.name for path in Path("data/distances").iterdir()] == ["summary.json"]
    with pytest.raises(InputError, match=r"set `shortest_paths\.matrices` to true"):
        HopDistances.load("data/distances")


def test_distances_larger_than_the_disk_are_refused_before_the_search(
    clean: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_stage.work(PARAMS)
    usage = shutil.disk_usage(".")._replace(free=27)  # (3 users + 4 items) * 4 items are 28 bytes
    monkeypatch.setattr("symbiosis.graph.distance_tables.shutil.disk_usage", lambda _: usage)
    with pytest.raises(InputError, match=r"set `shortest_paths\.matrices` to false"):
        paths_stage.work(PATHS)
    assert not Path("data/distances").exists()


def test_distances_between_users_decide_the_smallest_score(clean: Path) -> None:
    # Items are 2 hops apart, users and items at most 3; only users 0 and 1, who share no item, are 4 = clip apart.
    # So S = 1, 3/4, 2/4, 1/4, 0 and T = 1, 7/4, 2/4, 1/4, 0.
    ITEMS.head(3).write_parquet(clean / "items.parquet")
    interactions([(0, 0), (1, 1), (2, 0), (2, 1), (2, 2)]).write_parquet(clean / "graph.parquet")
    build_stage.work(PARAMS)
    paths_stage.work(ShortestPathsParams(block=64, threads=1, clip=4, damping=1.0))
    hops = HopDistances.load("data/distances")
    assert (hops.user_item.max(), hops.item_item.max()) == (3, 2)
    assert hops.connectivity[:5] == pytest.approx([4 / 7, 1, 2 / 7, 1 / 7, 0])


def test_held_out_interactions_change_nothing(clean: Path) -> None:
    found = set()
    for held_out in ([(2, 0)], [(0, 3), (1, 0)], None):
        for name in ("train", "validation", "test"):
            if held_out is None:
                (clean / f"{name}.parquet").write_bytes(b"not a table")
            else:
                interactions(held_out).write_parquet(clean / f"{name}.parquet")
        build_stage.work(PARAMS)
        paths_stage.work(PATHS)
        found.add((sha256_of("data/graph"), sha256_of("data/distances")))
    assert len(found) == 1


def test_a_failed_stage_leaves_what_was_there(clean: Path) -> None:
    build_stage.work(PARAMS)
    paths_stage.work(PATHS)
    before = sha256_of("data/distances")
    chain = interactions([(n, n) for n in range(128)] + [(n + 1, n) for n in range(127)])
    items = pl.DataFrame({"item": range(128), "brand": ["Acme"] * 128, "categories": [["Soap"]] * 128})
    build_graph(128, items, chain, PARAMS).save(Path("data/graph"))
    with pytest.raises(InputError, match="255 hops apart"):
        paths_stage.work(PATHS)
    assert sha256_of("data/distances") == before
    assert sorted(path.name for path in Path("data").iterdir()) == ["clean", "distances", "graph"]


def test_full_disk_is_one_clear_error(clean: Path) -> None:
    build_stage.work(PARAMS)
    # A limit on the size of files fails the same write as a full disk, without the need to fill one.
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (130, 130))\n"
        "from stages import shortest_paths; from symbiosis.graph.params import ShortestPathsParams\n"
        "shortest_paths.work(ShortestPathsParams(block=64, threads=2, clip=6, damping=1.0))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "InputError: no room left while writing data/distances" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in Path("data").iterdir()) == ["clean", "graph"]
