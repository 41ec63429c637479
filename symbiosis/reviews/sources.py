"""Where raw reviews and metadata come from: the official addresses, a local folder, or the synthetic source."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from symbiosis.core.artifacts import sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.reviews.fetch import NotOnServerError, fetch
from symbiosis.reviews.params import DownloadParams
from symbiosis.reviews.raw import MANIFEST, METADATA, RATINGS, REVIEWS, SPLIT, verify_csv, verify_gzip
from symbiosis.reviews.synthetic import generate
from symbiosis.reviews.synthetic_files import write_benchmark, write_files

# The category files of the McAuley Lab, UC San Diego: 5-core reviews and all item metadata.
# 2014: McAuley et al., Image-based recommendations on styles and substitutes, SIGIR 2015.
# 2018: Ni, Li, McAuley, Justifying recommendations using distantly-labeled reviews and fine-grained aspects, EMNLP
# 2019.
# 2023: all reviews. Hou et al., Bridging language and items for retrieval and recommendation, arXiv 2403.03952.
_SITE = "https://mcauleylab.ucsd.edu/public_datasets/data"
ADDRESSES = {
    "amazon2014": (
        f"{_SITE}/amazon/categoryFiles/reviews_{{category}}_5.json.gz",
        f"{_SITE}/amazon/categoryFiles/meta_{{category}}.json.gz",
    ),
    "amazon2018": (
        f"{_SITE}/amazon_v2/categoryFilesSmall/{{category}}_5.json.gz",
        f"{_SITE}/amazon_v2/metaFiles2/meta_{{category}}.json.gz",
    ),
    "amazon2023": (
        f"{_SITE}/amazon_2023/raw/review_categories/{{category}}.jsonl.gz",
        f"{_SITE}/amazon_2023/raw/meta_categories/meta_{{category}}.jsonl.gz",
    ),
}
BENCHMARKS = {"amazon2023": f"{_SITE}/amazon_2023/benchmark/{{benchmark}}/{{category}}{{part}}.csv.gz"}
_JSON_ENDS, _CSV_ENDS = (".jsonl.gz", ".jsonl"), (".csv.gz", ".csv")


def obtain(params: DownloadParams, folder: Path, partial_folder: Path) -> None:
    """Put the raw files and their manifest into a folder, every gzip verified to its end.

    Parameters
    ----------
    params
        Which source, and its details.
    folder
        Where to put them; it is created.
    partial_folder
        Where unfinished transfers lie.

    Raises
    ------
    InputError
        There are no reviews, or a file is damaged or not the expected one. Absent metadata is no error.
    """
    folder.mkdir()
    if params.source == "synthetic":
        world = generate(params.synthetic, params.seed)
        write_files(world, folder / REVIEWS, folder / METADATA, params.seed, params.synthetic.release)
        written = write_benchmark(folder, params.benchmark) if params.benchmark else [REVIEWS]
        names = dict.fromkeys([*written, METADATA], "synthetic")
        category = "synthetic"
    elif params.source == "local":
        names, category = _copy(Path(params.folder), folder)
    else:
        names, category = _fetch(params, folder, partial_folder), params.category
    files = [
        {"name": name, "from": names[name], "size": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in (REVIEWS, RATINGS, *SPLIT.values(), METADATA)
        if name in names
    ]
    write_json(folder / MANIFEST, {"source": params.source, "category": category, "files": files})


def _fetch(params: DownloadParams, folder: Path, partial_folder: Path) -> dict[str, str]:
    """Fetch the files from their addresses; those of 2023 that lie in the local folder are taken from there."""
    names: dict[str, str] = {}
    reviews, metadata = ADDRESSES[params.source]
    wanted = [*((name, params.reviews, address) for name, address in _parts(params, reviews))]
    for name, remote, address in [*wanted, (METADATA, params.metadata, metadata)]:
        local = _local_of_2023(params, name) if params.source == "amazon2023" and remote.url is None else None
        if local is not None:
            _take(local, folder / name, names)
            continue
        url = remote.url or address.format(category=params.category)
        try:
            fetch(url, folder / name, partial_folder, size=remote.size, sha256=remote.sha256)
        except NotOnServerError:
            if name == METADATA and remote.url is None:
                print(f"{url} does not exist: going on without titles")
                continue
            raise
        _verify(folder / name, url)
        names[name] = url
    return names


def _parts(params: DownloadParams, reviews: str) -> Iterator[tuple[str, str]]:
    """Yield names and addresses of the raw reviews or of the files of a published benchmark."""
    if params.benchmark is None:
        yield REVIEWS, reviews
        return
    published = BENCHMARKS[params.source].replace("{benchmark}", params.benchmark)
    if params.benchmark.endswith("/rating_only"):
        yield RATINGS, published.replace("{part}", "")
        return
    for part, name in SPLIT.items():
        yield name, published.replace("{part}", f".{part}")


def _local_of_2023(params: DownloadParams, name: str) -> Path | None:
    """Find a file of 2023 in the local folder, laid out as on the site or flat."""
    if name in {REVIEWS, METADATA}:
        start, ends = ("meta_" if name == METADATA else "") + params.category, _JSON_ENDS
        folders = ["", "raw/meta_categories" if name == METADATA else "raw/review_categories"]
    else:
        part = next((f".{part}" for part, of_part in SPLIT.items() if of_part == name), "")
        start, ends = params.category + part, _CSV_ENDS
        folders = ["", f"benchmark/{params.benchmark}", str(params.benchmark)]
    paths = (Path(params.folder, inner, start + end) for inner in folders for end in ends)
    return next((path for path in paths if path.is_file()), None)


def _verify(path: Path, name: str) -> None:
    (verify_csv if path.suffix == ".csv" or path.name.endswith(".csv.gz") else verify_gzip)(path, name)


def _take(source: Path, target: Path, names: dict[str, str]) -> None:
    _verify(source, str(source))
    shutil.copyfile(source, target)
    names[target.name] = source.name


def _copy(source: Path, folder: Path) -> tuple[dict[str, str], str]:
    """Copy both files from a local folder that holds one category in any release's naming."""
    if not source.is_dir():
        raise InputError(f"`download.folder`: {source} is no folder")
    files = sorted(path for path in source.iterdir() if path.is_file())
    ends = ("_5.json.gz", *_JSON_ENDS)
    reviews = [path for path in files if path.name.endswith(ends) and not path.name.startswith("meta_")]
    if len(reviews) != 1:
        found = ", ".join(path.name for path in reviews) or "none"
        raise InputError(
            f"{source} must hold exactly one review file, named reviews_NAME_5.json.gz (2014), NAME_5.json.gz (2018) "
            f"or NAME.jsonl.gz (2023); found {found}"
        )
    end = next(end for end in ends if reviews[0].name.endswith(end))
    category = reviews[0].name.removesuffix(end)
    category = category.removeprefix("reviews_") if end == ends[0] else category
    named = [source / f"meta_{category}{end}" for end in ([".json.gz"] if end == ends[0] else _JSON_ENDS)]
    metadata = next((path for path in named if path.exists()), named[0])
    others = [path.name for path in files if path.name.startswith("meta_") and path != metadata]
    if others and not metadata.exists():
        raise InputError(f"{source} holds {others[0]}, but the metadata of {reviews[0].name} is {metadata.name}")
    names: dict[str, str] = {}
    _take(reviews[0], folder / REVIEWS, names)
    if metadata.exists():
        _take(metadata, folder / METADATA, names)
    return names, category
