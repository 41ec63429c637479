"""Parquet files read without polars: the same frames, and damage that ends in an error."""

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest

from symbiosis.core import parquet_files

FRAME = pl.DataFrame(
    {
        "text": ["a", None],
        "whole": [1, None],
        "share": [0.5, float("nan")],
        "right": [True, None],
        "took": [timedelta(seconds=3), None],
        "day": [date(2026, 1, 2), None],
        "at": [datetime(2026, 1, 2, 3), None],
        "clock": [time(3, 4), None],
        "money": [Decimal("1.25"), None],
        "bytes": [b"a", None],
        "parts": [["a"], None],
        "numbers": [[0.5, None], []],
        "message": [{"role": "user", "content": "x"}, None],
        "messages": [[{"role": "user", "content": "x"}], None],
        "nothing": [None, None],
        "kind": pl.Series(["a", "b"], dtype=pl.Categorical),
    },
    schema_overrides={"numbers": pl.List(pl.Float32), "whole": pl.Int32},
)


def test_it_is_what_polars_reads(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "t.parquet")
    assert parquet_files.read(tmp_path / "t.parquet").equals(pl.read_parquet(tmp_path / "t.parquet"))
    assert parquet_files.read(tmp_path / "t.parquet").schema == FRAME.schema
    assert parquet_files.column_names(tmp_path / "t.parquet") == FRAME.columns


def test_only_the_columns_that_are_wanted_and_there(tmp_path: Path) -> None:
    FRAME.write_parquet(tmp_path / "t.parquet")
    assert parquet_files.read(tmp_path / "t.parquet", ["parts", "text", "other"]).equals(FRAME.select("text", "parts"))


def test_one_wrong_byte_is_an_error_or_another_value(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Polars 2.1 ends the process at several of these places."""
    FRAME.select("text", "whole", "share", "parts").write_parquet(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "d.parquet").write_bytes(damaged)
        try:
            str(parquet_files.read(tmp_path / "d.parquet").rows())
        except parquet_files.UNREADABLE:
            refused += 1
    assert refused > 50
    assert capfd.readouterr().err == ""


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.parquet"):
        with pytest.raises(parquet_files.UNREADABLE, match="none.parquet|folder|[Dd]irectory"):
            parquet_files.read(path)
