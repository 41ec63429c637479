"""Where raw reviews and metadata come from: the official addresses, a local folder, or the synthetic source."""

import shutil
from pathlib import Path

from symbiosis.core.artifacts import sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.reviews.fetch import NotOnServerError, fetch
from symbiosis.reviews.params import DownloadParams
from symbiosis.reviews.raw import MANIFEST, METADATA, REVIEWS, verify_gzip
from symbiosis.reviews.records import RELEASE_2023, USE_ANOTHER_RELEASE
from symbiosis.reviews.synthetic import generate
from symbiosis.reviews.synthetic_files import write_files

# The category files of the McAuley Lab, UC San Diego: 5-core reviews and all item metadata.
# 2014: McAuley et al., Image-based recommendations on styles and substitutes, SIGIR 2015.
# 2018: Ni, Li, McAuley, Justifying recommendations using distantly-labeled reviews and fine-grained aspects, EMNLP
# 2019.
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
}


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
        write_files(world, folder / REVIEWS, folder / METADATA, params.seed)
        names = {REVIEWS: "synthetic", METADATA: "synthetic"}
        category = "synthetic"
    elif params.source == "local":
        names, category = _copy(Path(params.folder), folder)
    else:
        names, category = _fetch(params, folder, partial_folder), params.category
    files = [
        {"name": name, "from": names[name], "size": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in (REVIEWS, METADATA)
        if name in names
    ]
    write_json(folder / MANIFEST, {"source": params.source, "category": category, "files": files})


def _fetch(params: DownloadParams, folder: Path, partial_folder: Path) -> dict[str, str]:
    """Fetch both files from their addresses."""
    names: dict[str, str] = {}
    remotes = (params.reviews, params.metadata)
    for name, remote, address in zip((REVIEWS, METADATA), remotes, ADDRESSES[params.source], strict=True):
        url = remote.url or address.format(category=params.category)
        try:
            fetch(url, folder / name, partial_folder, size=remote.size, sha256=remote.sha256)
        except NotOnServerError:
            if name == METADATA and remote.url is None:
                print(f"{url} does not exist: going on without titles")
                continue
            raise
        verify_gzip(folder / name, url)
        names[name] = url
    return names


def _copy(source: Path, folder: Path) -> tuple[dict[str, str], str]:
    """Copy both files from a local folder that holds one category in either release's naming."""
    if not source.is_dir():
        raise InputError(f"`download.folder`: {source} is no folder")
    files = sorted(path for path in source.iterdir() if path.is_file())
    reviews = [path for path in files if path.name.endswith("_5.json.gz") and not path.name.startswith("meta_")]
    later = [path.name for path in files if path.name.endswith((".jsonl", ".jsonl.gz"))]
    if not reviews and later:
        raise InputError(f"{source} holds {later[0]}, {RELEASE_2023}: {USE_ANOTHER_RELEASE}")
    if len(reviews) != 1:
        found = ", ".join(path.name for path in reviews) or "none"
        raise InputError(
            f"{source} must hold exactly one review file, named reviews_NAME_5.json.gz (2014) or NAME_5.json.gz "
            f"(2018); found {found}"
        )
    category = reviews[0].name.removesuffix("_5.json.gz").removeprefix("reviews_")
    names = {REVIEWS: reviews[0].name}
    metadata = source / f"meta_{category}.json.gz"
    others = [path.name for path in files if path.name.startswith("meta_") and path != metadata]
    if metadata.exists():
        names[METADATA] = metadata.name
    elif others:
        raise InputError(f"{source} holds {others[0]}, but the metadata of {reviews[0].name} is {metadata.name}")
    for name, original in names.items():
        verify_gzip(source / original, str(source / original))
        shutil.copyfile(source / original, folder / name)
    return names, category
