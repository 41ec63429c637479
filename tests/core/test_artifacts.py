"""Artefacts are written whole or not at all, and read with clear errors."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from symbiosis.core.artifacts import (
    FrameFile,
    read_array,
    read_frame,
    read_frames,
    read_json,
    sha256_of,
    staged,
    write_json,
)
from symbiosis.core.errors import InputError


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_files_and_folders_are_moved_into_place_together(tmp_path: Path) -> None:
    with staged(tmp_path / "a" / "one.txt", tmp_path / "b") as (one, two):
        one.write_text("1")
        two.mkdir()
        (two / "x").write_text("2")
        assert everything(tmp_path / "b") == []
        assert not (tmp_path / "a" / "one.txt").exists()
    assert everything(tmp_path) == ["a", "a/one.txt", "b", "b/x"]


def test_an_old_file_and_an_old_folder_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "stale").write_text("old")
    with staged(tmp_path / "file", tmp_path / "folder") as (file, folder):
        file.write_text("new")
        folder.mkdir()
    assert (tmp_path / "file").read_text() == "new"
    assert everything(tmp_path / "folder") == []


def test_a_failure_leaves_the_targets_as_they_were_and_nothing_beside_them(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")

    def fail() -> None:
        with staged(tmp_path / "old", tmp_path / "new") as (old, new):
            old.write_text("half")
            new.write_text("half")
            raise KeyError("a fault")

    with pytest.raises(KeyError):
        fail()
    assert everything(tmp_path) == ["old"]
    assert (tmp_path / "old").read_text() == "old"


def test_a_target_that_was_not_written_is_a_fault_and_moves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="second"), staged(tmp_path / "first", tmp_path / "second") as (first, _):
        first.write_text("1")
    assert everything(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("rust", [False, True])
def test_no_room_becomes_one_clear_error(tmp_path: Path, number: int, rust: bool) -> None:
    fault = RuntimeError(f"parquet: {os.strerror(number)} (os error {number})") if rust else OSError(number, "full")
    with pytest.raises(InputError, match="no room left while writing .*target") as caught, staged(tmp_path / "target"):
        raise fault
    assert "\n" not in str(caught.value)
    assert everything(tmp_path) == []


def test_other_faults_of_the_system_pass_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), staged(tmp_path / "target"):
        raise PermissionError(errno.EACCES, "denied")


WRITERS = {
    "python": "path.write_bytes(bytes(100_000))",
    "numpy": "import numpy as np; np.save(path.with_suffix('.npy'), np.zeros(100_000)); path.touch()",
    "polars": "import polars as pl; pl.DataFrame({'x': range(9999)}).write_parquet(path, compression='uncompressed')",
    "safetensors": "import numpy, safetensors.numpy as st; st.save_file({'x': numpy.zeros(9999)}, path)",
}


def written_within(limit: int, target: Path, writer: str) -> str:
    """What a process says that may write no file of more bytes."""
    code = (
        "from symbiosis.core.artifacts import staged\n"
        "from symbiosis.core.errors import InputError\n"
        "import sys\n"
        "try:\n"
        "    with staged(sys.argv[1]) as (path,):\n"
        f"        {WRITERS[writer]}\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("writer", WRITERS)
def test_a_file_size_limit_is_told_whichever_library_meets_it(tmp_path: Path, writer: str) -> None:
    assert written_within(4096, tmp_path / "target", writer).startswith("no room left while writing")
    assert everything(tmp_path) == []


def test_no_room_for_the_end_of_a_parquet_file(tmp_path: Path) -> None:
    assert written_within(1 << 20, tmp_path / "whole", "polars") == ""
    size = (tmp_path / "whole").stat().st_size
    assert written_within(size - 8, tmp_path / "target", "polars").startswith("no room left while writing")
    assert everything(tmp_path) == ["whole"]


def test_json_is_written_the_same_way_each_time_and_refuses_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 0.5], "a": "é"})
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == '{\n  "b": [\n    1,\n    0.5\n  ],\n  "a": "é"\n}\n'
    assert read_json(tmp_path / "a.json") == {"b": [1, 0.5], "a": "é"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"))


def test_json_that_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.json is missing"):
        read_json(tmp_path / "a.json")
    (tmp_path / "b.json").write_bytes(b'{"half": ')
    with pytest.raises(InputError, match=r"b\.json is not valid JSON"):
        read_json(tmp_path / "b.json")
    (tmp_path / "c.json").write_bytes(b'"\xff"')
    with pytest.raises(InputError, match=r"c\.json is not valid JSON"):
        read_json(tmp_path / "c.json")


@pytest.mark.parametrize("mmap", [False, True])
def test_arrays_are_read_back_read_only_if_mapped(tmp_path: Path, mmap: bool) -> None:
    np.save(tmp_path / "a.npy", np.arange(5))
    array = read_array(tmp_path / "a.npy", mmap=mmap)
    np.testing.assert_array_equal(array, np.arange(5))
    assert array.flags.writeable is not mmap


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("kept", [0, 3, 40, 130, 167])
def test_an_array_cut_anywhere_is_named(tmp_path: Path, kept: int, mmap: bool) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    assert path.stat().st_size == 168
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match=r"a\.npy is damaged"):
        read_array(path, mmap=mmap)


def test_an_array_is_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"a\.npy is damaged"):
        read_array(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"b\.npy is missing"):
        read_array(tmp_path / "b.npy")


def test_a_frame_comes_back_and_a_bad_one_is_named(tmp_path: Path) -> None:
    frame = pl.DataFrame({"user": [0, 1], "item": [2, 3]})
    path = tmp_path / "a.parquet"
    frame.write_parquet(path)
    assert read_frame(path).equals(frame)
    assert read_frame(path, ["item"]).equals(frame.select("item"))
    with pytest.raises(InputError, match=r"a\.parquet is damaged.*rating"):
        read_frame(path, ["rating"])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"a\.parquet is damaged"):
        read_frame(path)
    with pytest.raises(InputError, match=r"b\.parquet is missing"):
        read_frame(tmp_path / "b.parquet")
    (tmp_path / "[x]").mkdir()  # no pattern
    frame.write_parquet(tmp_path / "[x]/a.parquet")
    assert read_frame(tmp_path / "[x]/a.parquet").equals(frame)


def test_the_digest_of_a_file_is_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_of(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_digest_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    def digest(files: dict[str, str]) -> str:
        folder = tmp_path / str(len(everything(tmp_path)))
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(content)
        return sha256_of(folder)

    base = digest({"a": "1", "b/c": "2"})
    assert digest({"b/c": "2", "a": "1"}) == base
    assert digest({"a": "1", "b/c": "3"}) != base
    assert digest({"a": "1", "b/d": "2"}) != base
    assert digest({"a": "1"}) != base


@pytest.mark.parametrize("rows", [100, 3])
def test_a_frame_in_blocks_is_the_frame(tmp_path: Path, rows: int) -> None:
    frame = pl.DataFrame({"x": range(10), "text": [None, *"abcdefghi"]})
    file = FrameFile(tmp_path / "blocks.parquet")
    for start in range(0, 10, rows):
        file.add(frame[start : start + rows])
    file.close()
    assert everything(tmp_path) == ["blocks.parquet"]
    blocks = list(read_frames(tmp_path / "blocks.parquet", ["x", "text"], rows))
    assert [len(block) for block in blocks] == ([10] if rows > 10 else [3, 3, 3, 1])
    assert pl.concat(blocks).equals(frame)
    if rows > 10:
        frame.write_parquet(tmp_path / "whole.parquet")
        assert (tmp_path / "whole.parquet").read_bytes() == (tmp_path / "blocks.parquet").read_bytes()


def test_a_frame_that_cannot_be_read_in_blocks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "frame.parquet"
    with pytest.raises(InputError, match="missing: run `dvc repro`"):
        list(read_frames(path, ["x"]))
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"frame\.parquet is damaged"):
        list(read_frames(path, ["x"]))
