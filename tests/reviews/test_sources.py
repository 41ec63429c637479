"""Sources: official addresses, local folders, the synthetic one; whole files or one clear error."""

import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from symbiosis.core.artifacts import read_json
from symbiosis.core.errors import InputError
from symbiosis.core.params import read_document, validate_block
from symbiosis.reviews import sources
from symbiosis.reviews.params import DownloadParams

REVIEWS = gzip.compress(b'{"asin": "a"}\n')
METADATA = gzip.compress(b'{"asin": "a", "title": "T"}\n')


def params(**changes: object) -> DownloadParams:
    document = read_document(Path(__file__).parents[2] / "params.yaml")
    block = document["download"] | changes  # type: ignore[operator]
    return validate_block({"download": block}, "download", DownloadParams)


def obtain(folder: Path, given: DownloadParams) -> dict:
    sources.obtain(given, folder / "raw", folder / "partial")
    manifest = read_json(folder / "raw" / "manifest.json")
    for file in manifest["files"]:
        content = (folder / "raw" / file["name"]).read_bytes()
        assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert sorted(path.name for path in (folder / "raw").iterdir()) == sorted(
        ["manifest.json", *(file["name"] for file in manifest["files"])]
    )
    return manifest


@pytest.fixture
def local(tmp_path: Path) -> Path:
    folder = tmp_path / "local"
    folder.mkdir()
    (folder / "README.md").write_text("any other file is passed over")
    return folder


@pytest.mark.parametrize("name", ["reviews_Toys_and_Games_5.json.gz", "Toys_and_Games_5.json.gz"])
def test_a_local_folder_of_either_release(tmp_path: Path, local: Path, name: str) -> None:
    (local / name).write_bytes(REVIEWS)
    (local / "meta_Toys_and_Games.json.gz").write_bytes(METADATA)
    manifest = obtain(tmp_path, params(source="local", folder=str(local)))
    assert (manifest["source"], manifest["category"]) == ("local", "Toys_and_Games")
    assert [file["from"] for file in manifest["files"]] == [name, "meta_Toys_and_Games.json.gz"]
    assert (tmp_path / "raw" / "reviews.json.gz").read_bytes() == REVIEWS
    assert (tmp_path / "raw" / "metadata.json.gz").read_bytes() == METADATA


def test_a_local_folder_without_metadata(tmp_path: Path, local: Path) -> None:
    (local / "Toys_5.json.gz").write_bytes(REVIEWS)
    assert [file["name"] for file in obtain(tmp_path, params(source="local", folder=str(local)))["files"]] == [
        "reviews.json.gz"
    ]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "exactly one review file.*found none"),
        (["meta_Toys.json.gz"], "exactly one review file.*found none"),
        (
            ["A_5.json.gz", "reviews_B_5.json.gz"],
            r"exactly one review file.*found A_5\.json\.gz, reviews_B_5\.json\.gz",
        ),
        (["A_5.json.gz", "meta_B.json.gz"], r"holds meta_B\.json\.gz, but .* is meta_A\.json\.gz"),
    ],
)
def test_a_local_folder_that_is_not_one_category_is_refused(
    tmp_path: Path, local: Path, files: list[str], message: str
) -> None:
    for name in files:
        (local / name).write_bytes(REVIEWS)
    with pytest.raises(InputError, match=message):
        obtain(tmp_path, params(source="local", folder=str(local)))


def test_a_local_folder_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere is no folder"):
        obtain(tmp_path, params(source="local", folder="nowhere"))


@pytest.mark.parametrize("name", ["A_5.json.gz", "meta_A.json.gz"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "not gzip"])
def test_a_damaged_local_file_is_named(tmp_path: Path, local: Path, name: str, damage: str) -> None:
    (local / "A_5.json.gz").write_bytes(REVIEWS)
    (local / "meta_A.json.gz").write_bytes(METADATA)
    whole = (local / name).read_bytes()
    damaged = {"cut": whole[:-4], "flipped": whole[:-6] + b"\0\0" + whole[-4:], "not gzip": b"<html>"}
    (local / name).write_bytes(damaged[damage])
    with pytest.raises(InputError, match=f"{name} is no whole gzip file"):
        obtain(tmp_path, params(source="local", folder=str(local)))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_official_addresses_are_those_of_the_releases() -> None:
    old, new = (
        [url.format(category="Gift_Cards") for url in sources.ADDRESSES[name]] for name in ("amazon2014", "amazon2018")
    )
    assert [url.rsplit("/", 2)[1:] for url in old] == [
        ["categoryFiles", "reviews_Gift_Cards_5.json.gz"],
        ["categoryFiles", "meta_Gift_Cards.json.gz"],
    ]
    assert [url.rsplit("/", 2)[1:] for url in new] == [
        ["categoryFilesSmall", "Gift_Cards_5.json.gz"],
        ["metaFiles2", "meta_Gift_Cards.json.gz"],
    ]
    assert all(url.startswith("https://") for url in old + new)


@pytest.fixture
def official(site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the official addresses be those of the loopback site."""
    base, folder = site
    addresses = (f"{base}/{{category}}_5.json.gz", f"{base}/meta_{{category}}.json.gz")
    monkeypatch.setitem(sources.ADDRESSES, "amazon2018", addresses)
    return folder


def test_official_files(tmp_path: Path, official: Path) -> None:
    (official / "Toys_5.json.gz").write_bytes(REVIEWS)
    (official / "meta_Toys.json.gz").write_bytes(METADATA)
    manifest = obtain(tmp_path, params(source="amazon2018", category="Toys"))
    assert (manifest["source"], manifest["category"], len(manifest["files"])) == ("amazon2018", "Toys", 2)
    assert list((tmp_path / "partial").iterdir()) == []


def test_absent_official_metadata_is_no_error_and_absent_reviews_are(
    tmp_path: Path, official: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"/Toys_5\.json\.gz: the server answers 404"):
        obtain(tmp_path, params(source="amazon2018", category="Toys"))
    (tmp_path / "raw").rmdir()
    (official / "Toys_5.json.gz").write_bytes(REVIEWS)
    assert len(obtain(tmp_path, params(source="amazon2018", category="Toys"))["files"]) == 1
    assert "going on without titles" in capsys.readouterr().out


def test_addresses_of_ones_own(tmp_path: Path, site: tuple[str, Path]) -> None:
    base, folder = site
    (folder / "x").write_bytes(REVIEWS)
    reviews = {"url": f"{base}/x", "size": len(REVIEWS), "sha256": hashlib.sha256(REVIEWS).hexdigest()}
    asked = {"url": f"{base}/y", "size": None, "sha256": None}
    with pytest.raises(InputError, match="/y: the server answers 404"):  # it was asked for by name
        obtain(tmp_path, params(source="amazon2014", reviews=reviews, metadata=asked))


def test_a_file_that_is_damaged_on_the_server_is_named_by_its_address(tmp_path: Path, official: Path) -> None:
    (official / "Toys_5.json.gz").write_bytes(REVIEWS[:-3])
    with pytest.raises(InputError, match=r"http://.*/Toys_5\.json\.gz is no whole gzip file"):
        obtain(tmp_path, params(source="amazon2018", category="Toys"))


def test_the_synthetic_source(tmp_path: Path) -> None:
    size = {"users": 40, "items": 30, "interactions": 300, "drift": 0.3}
    manifest = obtain(tmp_path, params(source="synthetic", synthetic=size))
    assert [file["name"] for file in manifest["files"]] == ["reviews.json.gz", "metadata.json.gz"]
    lines = gzip.decompress((tmp_path / "raw" / "reviews.json.gz").read_bytes()).splitlines()
    assert sum(json.loads(line)["overall"] >= 4 for line in lines) >= 300


CSV = b"user_id,parent_asin,rating,timestamp\nu,i,5.0,1600000000123\n"
PARTS = ["train", "valid", "test"]


@pytest.mark.parametrize("source", ["local", "amazon2023"])
@pytest.mark.parametrize("name", ["Toys.jsonl", "Toys.jsonl.gz"])
def test_a_local_folder_of_2023(tmp_path: Path, local: Path, source: str, name: str) -> None:
    content = REVIEWS if name.endswith("gz") else gzip.decompress(REVIEWS)
    (local / name).write_bytes(content)
    (local / "meta_Toys.jsonl.gz").write_bytes(METADATA)
    manifest = obtain(tmp_path, params(source=source, folder=str(local), category="Toys"))
    assert (manifest["source"], manifest["category"]) == (source, "Toys")
    assert [file["from"] for file in manifest["files"]] == [name, "meta_Toys.jsonl.gz"]
    assert (tmp_path / "raw" / "reviews.json.gz").read_bytes() == content


@pytest.mark.parametrize("inner", ["", "5core/last_out", "benchmark/5core/last_out"])
def test_a_published_split_in_a_local_folder(tmp_path: Path, local: Path, inner: str) -> None:
    (local / inner).mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        (local / inner / f"Toys.{part}.csv").write_bytes(CSV)
    (local / "meta_Toys.jsonl").write_bytes(gzip.decompress(METADATA))
    given = params(source="amazon2023", folder=str(local), category="Toys", benchmark="5core/last_out")
    assert [file["name"] for file in obtain(tmp_path, given)["files"]] == [
        "train.csv", "valid.csv", "test.csv", "metadata.json.gz"
    ]  # fmt: skip
    assert (tmp_path / "raw" / "valid.csv").read_bytes() == CSV


def test_a_published_file_with_another_header_is_named(tmp_path: Path, local: Path) -> None:
    (local / "Toys.csv").write_bytes(b"u,i,5.0,1600000000123\n")
    given = params(source="amazon2023", folder=str(local), category="Toys", benchmark="0core/rating_only")
    with pytest.raises(InputError, match=r"Toys\.csv, line 1: the header must be user_id,parent_asin,rating,timestamp"):
        obtain(tmp_path, given)


def test_a_published_split_from_the_site(
    tmp_path: Path, site: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sources.BENCHMARKS["amazon2023"].endswith("/amazon_2023/benchmark/{benchmark}/{category}{part}.csv.gz")
    base, folder = site
    for name in ("ADDRESSES", "BENCHMARKS"):
        monkeypatch.setattr(sources, name, json.loads(json.dumps(getattr(sources, name)).replace(sources._SITE, base)))
    inner = folder / "amazon_2023" / "benchmark" / "0core" / "timestamp_w_his"
    inner.mkdir(parents=True)
    for part in PARTS:
        (inner / f"Toys.{part}.csv.gz").write_bytes(gzip.compress(CSV))
    given = params(source="amazon2023", folder=str(tmp_path), category="Toys", benchmark="0core/timestamp_w_his")
    files = obtain(tmp_path, given)["files"]
    assert [file["from"].removeprefix(f"{base}/amazon_2023/benchmark/") for file in files] == [
        f"0core/timestamp_w_his/Toys.{part}.csv.gz" for part in PARTS
    ]


def test_a_benchmark_needs_a_source_that_has_it() -> None:
    with pytest.raises(InputError, match="benchmark needs source: amazon2023"):
        params(source="amazon2018", benchmark="5core/last_out")
    with pytest.raises(InputError, match=r"download\.benchmark"):
        params(source="amazon2023", benchmark="3core/last_out")
    reviews = {"url": "http://x/y", "size": None, "sha256": None}
    with pytest.raises(InputError, match="a published split has three"):
        params(source="amazon2023", benchmark="5core/last_out", reviews=reviews)


@pytest.mark.parametrize("category", ["../x", "a/b", "", "a b", "x?y"])
def test_a_category_is_a_plain_name(category: str) -> None:
    with pytest.raises(InputError, match=r"download\.category"):
        params(category=category)


def test_a_digest_is_64_hexadecimal_digits() -> None:
    with pytest.raises((InputError, ValidationError), match="sha256"):
        params(reviews={"url": None, "size": None, "sha256": "abc"})
