"""Where the raw routing table comes from: the generative model, a long table, or RouterBench's wide one."""

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.routing.data import synthetic, table
from symbiosis.routing.data.params import DownloadRoutingParams
from symbiosis.routing.data.readers import pickles, routerbench, table_files

TABLE_SUFFIXES = (".parquet", ".csv", ".jsonl")
PICKLE_SUFFIXES = (".pkl", ".pickle")
_SUFFIXES = {"table": TABLE_SUFFIXES, "routerbench": (".parquet", ".csv", *PICKLE_SUFFIXES)}


def fetch(params: DownloadRoutingParams, folder: Path) -> None:
    """Put the raw table and its ``manifest.json`` into a new folder.

    A file is copied byte for byte. Only a pickle is rewritten, as parquet, by a reader that runs none of its code.

    Raises
    ------
    InputError
        The file is missing, of another format, damaged, or lacks a column.
    """
    folder.mkdir()
    manifest: dict[str, Any] = {"source": params.source}
    if params.source == "synthetic":
        name = "table.parquet"
        synthetic.generate(params.synthetic.queries, params.seed).write_parquet(folder / name, compression="zstd")
        manifest |= {"format": "parquet", **_size_and_sha256(folder / name)}
    else:
        found = locate(Path(params.path), _SUFFIXES[params.source])
        if found.suffix in PICKLE_SUFFIXES:
            name = "table.parquet"
            pickles.read_frame(found).write_parquet(folder / name, compression="zstd")
            original = {"format": "pickle", **_size_and_sha256(found)}
            manifest |= {"format": "parquet", **_size_and_sha256(folder / name), "converted_from": original}
        else:
            name = f"table{found.suffix}"
            manifest |= {"format": found.suffix[1:], **_copy(found, folder / name)}
        readable = folder / name if found.suffix in PICKLE_SUFFIXES else found
        if params.source == "routerbench":
            routerbench.models(table_files.column_names(readable), found)
        elif found.suffix != ".jsonl":
            table.require_columns(table_files.column_names(readable), found)
    write_json(folder / "manifest.json", manifest)


def locate(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Return the one table that `path` is or holds.

    Raises
    ------
    InputError
        There is none, or more than one.
    """
    kinds = ", ".join(suffixes)
    if path.is_file():
        if path.suffix not in suffixes:
            raise InputError(f"download_routing.path: {path} is none of {kinds}: convert it, or name another file")
        return path
    if not path.is_dir():
        raise InputError(f"download_routing.path: {path} does not exist: name a table ({kinds}) or a folder with one")
    found = sorted(file for file in path.iterdir() if file.suffix in suffixes)
    if len(found) != 1:
        names = f": {', '.join(file.name for file in found[:5])}" if found else ""
        raise InputError(
            f"download_routing.path: {path} holds {len(found)} tables ({kinds}){names}; it must hold exactly one, or "
            "name the file itself"
        )
    return found[0]


def _copy(source: Path, target: Path) -> dict[str, Any]:
    """Copy a file block by block; return its size and SHA-256."""
    with source.open("rb") as reading, target.open("wb") as writing:
        return _digest(reading, writing, source)


def _size_and_sha256(path: Path) -> dict[str, Any]:
    with path.open("rb") as reading:
        return _digest(reading, None, path)


def _digest(reading: BinaryIO, writing: BinaryIO | None, path: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    total = path.stat().st_size
    with tqdm(total=total, unit="B", unit_scale=True, desc=path.name, disable=total < 1 << 26) as bar:
        while block := reading.read(1 << 20):
            digest.update(block)
            size += len(block)
            if writing is not None:
                writing.write(block)
            bar.update(len(block))
    return {"size": size, "sha256": digest.hexdigest()}
