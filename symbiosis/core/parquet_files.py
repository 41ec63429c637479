"""Parquet files from elsewhere, read so that a damaged one is an error and not the end of the process.

Polars panics on many damaged files, and aborts on some for a single wrong bit; pyarrow, with all values validated, does
not. What it gives is the same, as `tests/core/test_parquet_files.py` compares.
"""

from collections.abc import Collection
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

UNREADABLE = (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, UnicodeDecodeError)
"""What the functions below raise."""


def read(path: Path | str, columns: Collection[str] | None = None) -> pl.DataFrame:
    """Read a parquet file.

    Parameters
    ----------
    path
        Of one file.
    columns
        To read where the file has them, in its order; None: all.
    """
    with pq.ParquetFile(path) as file:
        table = file.read([name for name in file.schema_arrow.names if columns is None or name in columns])
    table.validate(full=True)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def column_names(path: Path | str) -> list[str]:
    """Return the names of a parquet file's columns."""
    with pq.ParquetFile(path) as file:
        return list(file.schema_arrow.names)
