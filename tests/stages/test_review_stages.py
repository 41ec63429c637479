"""The stages `download` and `clean` from raw files to artefacts: bytes, leaks, bad inputs, full disks."""

import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

import stages.clean
import stages.download
from symbiosis.core.artifacts import sha256_of
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document, validate_block
from symbiosis.reviews.params import CleanParams, DownloadParams
from symbiosis.reviews.streaming.cleaning import Cleaning

ROOT = Path(__file__).parents[2]
SIZE = {"users": 60, "items": 40, "interactions": 400, "drift": 0.3}
CLEAN_FILES = [
    "graph.parquet",
    "items.parquet",
    "protocol.json",
    "rejected.jsonl",
    "test.parquet",
    "train.parquet",
    "users.parquet",
    "validation.parquet",
]


def clean_params(**changes: object) -> CleanParams:
    document = read_document(ROOT / "params.yaml")
    return validate_block({"clean": document["clean"] | changes}, "clean", CleanParams)  # type: ignore[operator]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world as the stage `download` writes it."""
    folder = tmp_path_factory.mktemp("raw")
    document = read_document(ROOT / "params.yaml")
    given = validate_block({"download": document["download"] | {"synthetic": SIZE}}, "download", DownloadParams)  # type: ignore[operator]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        stages.download.work(given)
    return folder / "data" / "raw" / "reviews"


@pytest.fixture
def workspace(tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with raw files, the working folder of the test."""
    shutil.copytree(raw, tmp_path / "data" / "raw" / "reviews")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(Path("data/raw/reviews", name).read_bytes()).splitlines()]


def write_lines(name: str, lines: list[dict[str, Any]] | list[bytes]) -> None:
    encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    Path("data/raw/reviews", name).write_bytes(gzip.compress(b"\n".join(encoded) + b"\n"))


def nothing_written() -> bool:
    return not Path("data/clean").exists() or not any(Path("data/clean").iterdir())


def parts() -> dict[str, pl.DataFrame]:
    return {name: pl.read_parquet(f"data/clean/{name}.parquet") for name in ("train", "validation", "test")}


def test_the_artefacts_have_the_agreed_form(workspace: Path) -> None:
    stages.clean.work(clean_params())
    assert sorted(path.name for path in Path("data/clean").iterdir()) == CLEAN_FILES
    edge = {"user": pl.UInt32, "item": pl.UInt32, "rating": pl.Float32, "timestamp": pl.Int64}
    tables = parts()
    assert dict(tables["train"].schema) == edge | {"review": pl.String}
    assert dict(tables["validation"].schema) == dict(tables["test"].schema) == edge
    items, users = (pl.read_parquet(f"data/clean/{name}.parquet") for name in ("items", "users"))
    assert dict(users.schema) == {"user": pl.UInt32, "user_id": pl.String}
    assert dict(items.schema) == {
        "item": pl.UInt32,
        "item_id": pl.String,
        "title": pl.String,
        "brand": pl.String,
        "categories": pl.List(pl.String),
        "description": pl.String,
        "price": pl.Float64,
    }
    assert 0 < items["price"].null_count() < 20
    assert (users.height, items.height, sum(table.height for table in tables.values())) == (60, 40, 400)
    assert items["title"].null_count() == 0
    assert "Everyday Goods" in items["categories"][0]
    assert any("&" in name for names in items["categories"] for name in names)
    assert not any("&amp;" in name for names in items["categories"] for name in names)
    every = pl.concat(table.select("user", "item") for table in tables.values())
    assert every.n_unique() == 400
    for table in tables.values():
        rows = table.select("user", "timestamp", "item").rows()
        assert rows == sorted(rows)


def test_partitions_change_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.clean.work(clean_params())
    names = [*parts(), "users", "items", "graph"]
    whole = [pl.read_parquet(f"data/clean/{name}.parquet") for name in names]
    report = Path("reports/data_quality/reviews.json").read_bytes()
    monkeypatch.setattr(stages.clean, "Cleaning", partial(Cleaning, rows=120))
    stages.clean.work(clean_params())
    for name, table in zip(names, whole, strict=True):
        assert pl.read_parquet(f"data/clean/{name}.parquet").equals(table)
    assert Path("reports/data_quality/reviews.json").read_bytes() == report
    assert sorted(path.name for path in Path("data/clean").iterdir()) == CLEAN_FILES


def test_the_report_counts_what_was_read_and_removed(workspace: Path) -> None:
    stages.clean.work(clean_params())
    summary = json.loads(Path("reports/data_quality/reviews.json").read_text(encoding="utf-8"))
    lines = read_lines("reviews.json.gz")
    removed = summary["removed"]
    assert summary["reviews"] == {"lines": len(lines), "rejected": 0, "reasons": {}}
    assert summary["parts"] == {name: table.height for name, table in parts().items()}
    assert summary["items with"]["title"] == 40
    assert 30 <= summary["items with"]["brand"] <= 40
    assert removed["below the rating"] == sum(line["overall"] < 4 for line in lines)
    good = Counter((line["reviewerID"], line["asin"]) for line in lines if line["overall"] >= 4)
    assert removed["repeated pairs"] == good.total() - len(good)
    assert len(lines) - sum(removed.values()) == summary["interactions"] == 400
    assert summary["passed"] is True
    rows = {frame["frame"]: frame["rows"] for frame in summary["frames"]}
    assert rows == {"reviews": len(lines), "items": 40, "users": 60, "interactions": 400}
    page = Path("reports/data_quality/reviews.html").read_text(encoding="utf-8")
    assert "all passed" in page
    assert "removed: below the rating" in page
    assert lines[0]["reviewText"] not in page


def digests() -> dict[str, str]:
    return {name: sha256_of(name) for name in ("data/raw", "data/clean", "reports")}


@pytest.mark.parametrize("split", ["random", "temporal"])
def test_the_same_bytes_each_time(workspace: Path, split: str) -> None:
    stages.clean.work(clean_params(split=split))
    first = digests()
    shutil.rmtree("data/clean")
    shutil.rmtree("reports")
    stages.clean.work(clean_params(split=split))
    assert digests() == first


def download_2023(**changes: object) -> None:
    document = read_document(ROOT / "params.yaml")
    given = document["download"] | {"synthetic": SIZE | {"release": 2023}} | changes  # type: ignore[operator]
    stages.download.work(validate_block({"download": given}, "download", DownloadParams))


@pytest.mark.parametrize(
    "benchmark", ["0core/last_out", "0core/timestamp_w_his", "5core/last_out_w_his", "5core/timestamp"]
)
def test_a_published_split_is_untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, benchmark: str) -> None:
    monkeypatch.chdir(tmp_path)
    download_2023(benchmark=benchmark)
    stages.clean.work(clean_params(split="published"))
    users = dict(pl.read_parquet("data/clean/users.parquet").select("user", "user_id").rows())
    items = dict(pl.read_parquet("data/clean/items.parquet").select("item", "item_id").rows())
    for file, (name, table) in zip(("train", "valid", "test"), parts().items(), strict=True):
        lines = Path("data/raw/reviews", f"{file}.csv").read_text(encoding="utf-8").splitlines()
        published = [tuple(line.split(",")[:4]) for line in lines[1:]]
        found = [(users[u], items[i], str(r), str(t)) for u, i, r, t in table.drop("review", strict=False).rows()]
        assert Counter(found) == Counter(published), name
    assert min(table["rating"].min() for table in parts().values()) < 4  # type: ignore[type-var]
    assert ("history" in lines[0]) == benchmark.endswith("_w_his")


def test_a_published_split_with_many_repeated_pairs_is_refused(workspace: Path) -> None:
    rows = {"train": ["u,i,1.0,1600000000001", "u,i,5.0,1600000000000", "v,j,2.0,1600000000000"],
            "valid": ["u,j,3.0,1600000000005"], "test": ["u,k,4.0,1600000000009", "u,j,5.0,1600000000010"]}  # fmt: skip
    for name, lines in rows.items():
        text = "\n".join(["user_id,parent_asin,rating,timestamp", *lines]) + "\n"
        Path("data/raw/reviews", f"{name}.csv").write_text(text, encoding="utf-8")
    Path("data/raw/reviews/metadata.json.gz").unlink()
    with pytest.raises(InputError, match="repeat a user and item"):  # a third of them: no published split
        stages.clean.work(clean_params(split="published"))


def test_the_timestamp_split_of_reviews_of_2023(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    download_2023()
    stages.clean.work(clean_params(split="timestamp"))
    times = {name: table["timestamp"] for name, table in parts().items()}
    assert times["train"].max() < 1628643414042 <= times["validation"].min()  # type: ignore[operator]
    assert times["validation"].max() < 1658002729837 <= times["test"].min()  # type: ignore[operator]
    assert sum(map(len, times.values())) == 400


def test_the_timestamp_split_by_shares_of_any_data(workspace: Path) -> None:
    with pytest.raises(InputError, match="leaves no interaction for test.*set `clean.times` to shares"):
        stages.clean.work(clean_params(split="timestamp"))
    assert nothing_written()
    stages.clean.work(clean_params(split="timestamp", times="shares"))
    assert all(table.height >= 40 for name, table in parts().items() if name != "train")


def test_without_a_published_split_there_is_none_to_take(workspace: Path) -> None:
    with pytest.raises(InputError, match="holds no published split.*set `download.benchmark`"):
        stages.clean.work(clean_params(split="published"))
    assert nothing_written()


@pytest.mark.parametrize("split", ["random", "last_out"])
def test_a_held_out_interaction_leaves_no_trace_in_what_is_trained_on(workspace: Path, split: str) -> None:
    stages.clean.work(clean_params(split=split))
    before = {name: Path("data/clean", name).read_bytes() for name in CLEAN_FILES}
    users = dict(pl.read_parquet("data/clean/users.parquet").select("user", "user_id").rows())
    items = dict(pl.read_parquet("data/clean/items.parquet").select("item", "item_id").rows())
    lines = read_lines("reviews.json.gz")
    reviewed = {(line["reviewerID"], line["asin"]) for line in lines}
    degree = Counter(edge for table in parts().values() for edge in table["item"].to_list())
    # Everywhere: each held-out edge whose item can spare it now ends at another item, new to its user.
    swapped = {}
    for name in ("validation", "test"):
        for user, item in parts()[name].select("user", "item").rows():
            other = next(items[k] for k in sorted(items) if (users[user], items[k]) not in reviewed)
            if degree[item] > 5 and (users[user], items[item]) not in swapped:
                degree[item] -= 1
                swapped[users[user], items[item]] = other
                reviewed.add((users[user], other))
    assert len(swapped) > 50
    for line in lines:
        pair = line["reviewerID"], line["asin"]
        line["asin"] = swapped.get(pair, pair[1])
        line["reviewText"] = "planted" if pair in swapped else line["reviewText"]
    write_lines("reviews.json.gz", lines)
    stages.clean.work(clean_params(split=split))
    after = {name: Path("data/clean", name).read_bytes() for name in CLEAN_FILES}
    changed = [name for name in CLEAN_FILES if before[name] != after[name]]
    assert changed == ["test.parquet", "validation.parquet"]


def test_only_the_leaky_graph_sees_held_out_interactions(workspace: Path) -> None:
    stages.clean.work(clean_params())
    edges = {name: set(table.select("user", "item").rows()) for name, table in parts().items()}
    assert set(pl.read_parquet("data/clean/graph.parquet").rows()) == edges["train"]
    before = {name: Path("data/clean", name).read_bytes() for name in CLEAN_FILES}
    stages.clean.work(clean_params(graph_edges="all"))
    assert set(pl.read_parquet("data/clean/graph.parquet").rows()) == set().union(*edges.values())
    assert [name for name in CLEAN_FILES if before[name] != Path("data/clean", name).read_bytes()] == ["graph.parquet"]


def test_cold_items_stand_in_the_test_alone(workspace: Path) -> None:
    stages.clean.work(clean_params())
    usual = parts()
    stages.clean.work(clean_params(cold_item_share=0.2))
    cold = set(parts()["test"]["item"]) - set(parts()["train"]["item"]) - set(parts()["validation"]["item"])
    n_items = pl.read_parquet("data/clean/items.parquet").height
    assert 0.1 * n_items < len(cold) < 0.3 * n_items
    for name in ("train", "validation"):  # nothing else moved
        assert parts()[name].equals(usual[name].filter(~pl.col("item").is_in(list(cold))))


def test_no_trained_review_is_a_held_out_one(workspace: Path) -> None:
    stages.clean.work(clean_params())
    users = dict(pl.read_parquet("data/clean/users.parquet").select("user_id", "user").rows())
    items = dict(pl.read_parquet("data/clean/items.parquet").select("item_id", "item").rows())
    held_out = {pair for name in ("validation", "test") for pair in parts()[name].select("user", "item").rows()}
    lines = read_lines("reviews.json.gz")
    for line in lines:
        if (users[line["reviewerID"]], items[line["asin"]]) in held_out:
            line["reviewText"] = "poison"
    write_lines("reviews.json.gz", lines)
    stages.clean.work(clean_params())
    assert "poison" not in set(parts()["train"]["review"])


def test_dirt_is_set_aside_and_changes_nothing_else(workspace: Path) -> None:
    stages.clean.work(clean_params())
    before = {name: Path("data/clean", name).read_bytes() for name in CLEAN_FILES}
    for name in ("reviews.json.gz", "metadata.json.gz"):
        lines = [json.dumps(line).encode() for line in read_lines(name)]
        write_lines(name, [*lines, b"{", b"\xff", b'{"asin": [1], "overall": 5}'])
    stages.clean.work(clean_params(maximum_rejected_share=0.2))
    changed = [name for name in CLEAN_FILES if before[name] != Path("data/clean", name).read_bytes()]
    assert changed == ["rejected.jsonl"]
    rejected = [json.loads(line) for line in Path("data/clean/rejected.jsonl").read_text(encoding="utf-8").splitlines()]
    assert Counter(entry["file"] for entry in rejected) == {"reviews.json.gz": 3, "metadata.json.gz": 3}


def test_absent_metadata_is_no_error(workspace: Path) -> None:
    Path("data/raw/reviews/metadata.json.gz").unlink()
    stages.clean.work(clean_params())
    items = pl.read_parquet("data/clean/items.parquet")
    assert items["title"].null_count() == items.height == 40
    assert items["categories"].to_list() == [[]] * 40


def cut(name: str) -> Callable[[], None]:
    def damage() -> None:
        path = Path("data/raw/reviews", name)
        path.write_bytes(path.read_bytes()[:-100])

    return damage


def untitle() -> None:
    lines = read_lines("metadata.json.gz")
    write_lines("metadata.json.gz", [line | {"title": '<span class="a-size-medium"'} for line in lines])


def spoil() -> None:
    lines = [json.dumps(line).encode() for line in read_lines("reviews.json.gz")]
    write_lines("reviews.json.gz", [b"{" if k % 5 == 0 else line for k, line in enumerate(lines)])


def age() -> None:
    lines = read_lines("reviews.json.gz")
    write_lines("reviews.json.gz", [line | {"unixReviewTime": 1000 + k} for k, line in enumerate(lines)])


BAD: list[tuple[Callable[[], None], dict[str, object], str]] = [
    (cut("reviews.json.gz"), {}, r"data/raw/reviews/reviews\.json\.gz is no whole gzip file"),
    (cut("metadata.json.gz"), {}, r"data/raw/reviews/metadata\.json\.gz is no whole gzip file"),
    (lambda: None, {"core": 30}, r"no interaction is left by the rating filter and the 30-core .*lower `clean\.core`"),
    (untitle, {}, r"metadata\.json\.gz: none of its \d+ records has a usable title.*`clean\.require_titles`"),
    (spoil, {}, r"not JSON \(\d+, first in line 1\)"),
    (age, {}, r"`a review was written after 1995 and before 2100` is broken: \d+ of \d+ rows fail.* line 1: 1000"),
]


@pytest.mark.parametrize(
    ("damage", "changes", "message"), BAD, ids=["reviews cut", "metadata cut", "empty", "untitled", "dirty", "old"]
)
def test_bad_input_is_one_clear_error_with_nothing_half_written(
    workspace: Path, damage: Callable[[], None], changes: dict[str, object], message: str
) -> None:
    damage()
    with pytest.raises(InputError, match=message) as caught:
        stages.clean.work(clean_params(**changes))
    assert "\n" not in str(caught.value)
    assert nothing_written()


def test_a_broken_rule_leaves_its_page_where_the_message_says(workspace: Path) -> None:
    age()
    with pytest.raises(InputError, match=r"reports/data_quality/reviews\.failed\.html"):
        stages.clean.work(clean_params())
    page = Path("reports/data_quality/reviews.failed.html").read_text(encoding="utf-8")
    assert "line 1: 1000" in page
    assert [path.name for path in Path("reports/data_quality").iterdir()] == ["reviews.failed.html"]


def test_titles_are_not_required_where_the_params_say_so(workspace: Path) -> None:
    untitle()
    stages.clean.work(clean_params(require_titles=False))
    assert pl.read_parquet("data/clean/items.parquet")["title"].null_count() == 40


def run_stage(name: str, folder: Path, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a stage as the pipeline does, files limited to so many bytes."""

    def set_limit() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-m", f"stages.{name}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=set_limit,
        check=False,
    )


def write_params(folder: Path, **changes: dict[str, object]) -> None:
    document = read_document(ROOT / "params.yaml")
    for block, values in changes.items():
        document[block] = document[block] | values  # type: ignore[operator]
    (folder / "params.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error line; there is exactly one, and no traceback."""
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    return line


def test_a_full_disk_stops_the_download_with_nothing_half_written(tmp_path: Path) -> None:
    write_params(tmp_path, download={"synthetic": SIZE})
    assert "no room left while writing data/raw/reviews" in error_of(run_stage("download", tmp_path, limit=5_000))
    assert list((tmp_path / "data" / "raw").iterdir()) == []


def test_a_full_disk_stops_the_cleaning_with_nothing_half_written(workspace: Path) -> None:
    write_params(workspace)
    assert "no room left while writing data/clean" in error_of(run_stage("clean", workspace, limit=1_500))
    assert nothing_written()
    assert list((workspace / "reports" / "data_quality").iterdir()) == []


def test_a_stage_runs_from_the_command_line(tmp_path: Path) -> None:
    write_params(tmp_path, download={"synthetic": SIZE})
    done = run_stage("download", tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.rglob("*.json*")) == [
        "manifest.json",
        "metadata.json.gz",
        "reviews.json.gz",
    ]


@pytest.mark.parametrize(
    ("block", "values", "message"),
    [
        ("download", {"sourse": "local"}, "error: params.yaml: `download.sourse`: unknown key"),
        ("clean", {"core": 2}, "error: params.yaml: `clean.core`: Input should be greater than or equal to 3"),
        ("evaluate", {"seeds": 1}, "error: params.yaml: `evaluate.seeds`: unknown key"),
        ("download", {"synthetic": SIZE | {"interactions": 10}}, "interactions must lie from 360"),
    ],
)
def test_a_wrong_key_anywhere_stops_a_stage_before_it_does_anything(
    tmp_path: Path, block: str, values: dict[str, object], message: str
) -> None:
    write_params(tmp_path, **{block: values})
    assert message in error_of(run_stage("download", tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gift_cards18", (430, 144, 2792)),
        ("magazine18", (154, 74, 1000)),
        ("musical_instruments14", (526, 347, 3615)),
        ("scientific18", (8317, 4344, 58_492)),
    ],
)
def test_real_categories(
    name: str, expected: tuple[int, int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.environ.get("SYMBIOSIS_DATA_DIR")
    if not data:
        pytest.skip("SYMBIOSIS_DATA_DIR is not set")
    folder = (Path.cwd() / data / "amazon" / name).resolve()
    document = read_document(ROOT / "params.yaml")
    local = document["download"] | {"source": "local", "folder": str(folder)}  # type: ignore[operator]
    monkeypatch.chdir(tmp_path)
    stages.download.work(validate_block({"download": local}, "download", DownloadParams))
    stages.clean.work(clean_params())
    summary = json.loads(Path("reports/data_quality/reviews.json").read_text(encoding="utf-8"))
    assert (summary["users"], summary["items"], summary["interactions"]) == expected
    assert summary["reviews"]["rejected"] == 0
