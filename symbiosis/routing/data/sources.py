"""Where the raw routing table comes from: the generative model, or a file or folder of whatever layout people have."""

import hashlib
import re
from pathlib import Path
from typing import Any, BinaryIO

from symbiosis.core.artifacts import write_json
from symbiosis.core.errors import InputError
from symbiosis.core.progress import tqdm
from symbiosis.routing.data import layouts, synthetic, table
from symbiosis.routing.data.params import DownloadRoutingParams
from symbiosis.routing.data.readers import decisions, pickles, routerbench, table_files

_KINDS = ", ".join(table_files.FORMATS)
_WIDE = (".parquet", ".csv", ".pkl", ".pickle")
_COPIED = ("parquet", "csv", "jsonl")
_SHARD = re.compile(r"-\d+-of-\d+\.")


def fetch(params: DownloadRoutingParams, folder: Path) -> None:
    """Put the raw table and its ``manifest.json`` into a new folder.

    A long table in parquet, csv or JSON lines, and RouterBench's in parquet or csv, are copied byte for byte. Anything
    else, several files too, is written as one long table in parquet; the manifest tells what it was.

    Raises
    ------
    InputError
        The file is missing, of another format, damaged, or lacks a column.
    """
    folder.mkdir()
    if params.source == "synthetic":
        synthetic.generate(params.synthetic.queries, params.seed).write_parquet(
            folder / "table.parquet", compression="zstd"
        )
        _finish(folder, {"source": "synthetic"}, "parquet", _size_and_sha256(folder / "table.parquet"))
        return
    found = located(Path(params.path), params.source)
    first, kind = found[0], table_files.format_of(found[0])
    layout = params.source if params.source == "routerbench" else layouts.recognise(first)
    manifest: dict[str, Any] = {"source": "routerbench" if layout == "routerbench" else "table"}
    if layout == "routerbench":
        if kind == "pickle":
            pickles.read_frame(first).write_parquet(folder / "table.parquet", compression="zstd")
        readable = folder / "table.parquet" if kind == "pickle" else first
        routerbench.models(table_files.column_names(readable), first)
    elif layout == "table" and kind in ("parquet", "csv"):
        table.require_columns(table_files.column_names(first), first)
    if len(found) == 1 and layout in ("table", "routerbench") and kind in _COPIED:
        _finish(folder, manifest, kind, _copy(first, folder / f"table.{kind}"))
        return
    was: dict[str, Any] = {"format": kind, **_size_and_sha256(first)}
    if not (layout == "routerbench" and kind == "pickle"):
        reading = layouts.learnable(layouts.read_all(found), Path(params.path))
        reading.frame.write_parquet(folder / "table.parquet", compression="zstd")
        manifest = {"source": "table"}
        was = {"layout": reading.layout, "files": [{"name": one.name, **_size_and_sha256(one)} for one in found]}
        was |= {"left_out": reading.left_out} if reading.left_out else {}
    manifest["converted_from"] = was
    _finish(folder, manifest, "parquet", _size_and_sha256(folder / "table.parquet"))


def located(path: Path, source: str = "table") -> list[Path]:
    """Return the files that `path` is or holds: one, or several that belong together.

    Several belong together if they are the shards of one table, or of a layout that comes in many files: logs,
    comparisons, one LLM's answers each. A folder is searched with its own folders if it holds none itself.

    Raises
    ------
    InputError
        There is none, or there are several that do not belong together.
    """
    kinds = ", ".join(_WIDE) if source == "routerbench" else _KINDS
    if path.is_file():
        if table_files.format_of(path) is None or (source == "routerbench" and path.suffix not in _WIDE):
            raise InputError(f"download_routing.path: {path} is none of {kinds}: convert it, or name another file")
        return [path]
    if not path.is_dir():
        raise InputError(f"download_routing.path: {path} does not exist: name a table ({kinds}) or a folder with one")
    if (path / decisions.STORE).is_file():
        return [path / decisions.STORE]
    found = _tables(path.iterdir()) or _tables(path.rglob("*"))
    if len(found) == 1 or (len(found) > 1 and source == "table" and _belong_together(found)):
        return found
    names = f": {', '.join(file.name for file in found[:5])}" if found else ""
    raise InputError(
        f"download_routing.path: {path} holds {len(found)} tables ({kinds}){names}; it must hold exactly one, the "
        "shards of one or the parts of one log, or name the file itself"
    )


def _tables(files: Any) -> list[Path]:
    """Return the files that are known by their suffix, in order."""
    return sorted(
        file
        for file in files
        if not file.name.startswith(".")
        and (file.suffix in table_files.FORMATS or file.name.endswith((".json.gz", ".jsonl.gz", ".csv.gz")))
        and file.is_file()
    )


def _belong_together(found: list[Path]) -> bool:
    if len({table_files.format_of(file) for file in found}) > 1:
        return False
    if all(_SHARD.search(file.name) for file in found):
        return True
    several = {layouts.recognise(file) for file in found[:20]}
    return len(several) == 1 and not several & {"table", "routerbench"}


def _finish(folder: Path, manifest: dict[str, Any], kind: str | None, contents: dict[str, Any]) -> None:
    converted = {"converted_from": manifest.pop("converted_from")} if "converted_from" in manifest else {}
    write_json(folder / "manifest.json", manifest | {"format": kind, **contents, **converted})


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
