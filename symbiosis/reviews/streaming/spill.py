"""Tables on disk while a stage runs: reviews in the order of their file, and rows by partition."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl

ROWS = 1 << 20
"""Rows of a partition, about: what is held in memory at once."""
_ROWS_OF_FILE = 1 << 18  # with their texts, about 100 MiB
_COMPRESSION: Final = "lz4"  # read again within minutes: quick before small


class Spill:
    """Reviews on disk.

    Parameters
    ----------
    folder
        An empty one.
    rows
        Of a partition, about.
    """

    def __init__(self, folder: Path, rows: int = ROWS) -> None:
        self.folder, self.rows, self.height = folder, rows, 0
        self._held: list[pl.DataFrame] = []
        self._files: list[Path] = []

    def add(self, reviews: pl.DataFrame) -> None:
        """Append reviews, `symbiosis.reviews.records.REVIEW_SCHEMA` and, of a published split, ``part``."""
        self._held.append(reviews)
        self.height += reviews.height
        if sum(frame.height for frame in self._held) >= min(_ROWS_OF_FILE, self.rows):
            self.flush()

    def flush(self) -> None:
        """Write what is still held."""
        if self._held:
            path = self.folder / f"reviews-{len(self._files):06d}.parquet"
            pl.concat(self._held).write_parquet(path, compression=_COMPRESSION)
            self._files.append(path)
            self._held.clear()

    def frames(self) -> Iterator[pl.DataFrame]:
        """Yield all reviews, in the order of the file; what was yielded is deleted from the disk."""
        for path in self._files:
            yield pl.read_parquet(path, glob=False)
            path.unlink()

    def items(self) -> pl.DataFrame:
        """Return all ids of items, ascending, ``item_id``, and their numbers in this order, ``code`` u32."""
        ids = pl.scan_parquet(self._files, glob=False).select("item_id").unique().collect(engine="streaming")
        return ids.sort("item_id").with_row_index("code")

    def partitions(self) -> Iterator[pl.DataFrame]:
        """Yield all reviews without their texts, all of a user together, each part in the order of the file."""
        reviews = pl.scan_parquet(self._files, glob=False).drop("review")
        count = -(-self.height // self.rows)
        if count <= 1:
            yield reviews.collect()
            return
        folder = self.folder / "by_user"
        of_user = (pl.col("user_id").hash(seed=0) % count).alias("partition")
        by_user = pl.PartitionBy(folder, key=of_user, include_key=False)
        reviews.sink_parquet(by_user, compression=_COMPRESSION, mkdir=True)
        for part in sorted(folder.iterdir()):
            files = sorted(part.iterdir())
            yield pl.read_parquet(files, glob=False, hive_partitioning=False)
            for path in files:
                path.unlink()


class Buckets:
    """Rows on disk by ranges of the number of their user.

    Parameters
    ----------
    folder
        An empty one.
    starts
        First user of every range, ascending; the first is 0.
    rows
        Held in memory at most, about.
    """

    def __init__(self, folder: Path, starts: Sequence[int], rows: int = ROWS) -> None:
        self.folder, self.rows = folder, rows
        self._starts = pl.Series(starts, dtype=pl.UInt32)
        self._held: list[pl.DataFrame] = []
        self._files: list[list[Path]] = [[] for _ in starts]

    def add(self, rows: pl.DataFrame) -> None:
        """Append rows with ``user``."""
        self._held.append(rows)
        if sum(frame.height for frame in self._held) >= self.rows:
            self._flush()

    def _flush(self) -> None:
        if not self._held:
            return
        rows = pl.concat(self._held)
        self._held.clear()
        bucket = (self._starts.search_sorted(rows["user"], side="right") - 1).alias("bucket")
        for (number,), part in (
            rows.with_columns(bucket)
            .partition_by("bucket", as_dict=True, include_key=False, maintain_order=True)
            .items()
        ):
            files = self._files[number]
            files.append(self.folder / f"bucket-{number:06d}-{len(files):06d}.parquet")
            part.write_parquet(files[-1], compression=_COMPRESSION)

    def __iter__(self) -> Iterator[pl.DataFrame]:
        """Yield the rows of each range in the order in which they were added; each is deleted from the disk."""
        if len(self._files) == 1 and not self._files[0]:
            yield pl.concat(self._held)
            return
        self._flush()
        for files in self._files:
            yield pl.concat([pl.read_parquet(path, glob=False) for path in files])
            for path in files:
                path.unlink()
