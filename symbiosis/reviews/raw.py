"""The raw files: which they are, whether they are whole, and which of their lines were set aside."""

import json
from collections import Counter
from pathlib import Path
from typing import Any, TextIO

from symbiosis.core import text_files
from symbiosis.core.errors import InputError

REVIEWS = "reviews.json.gz"
RATINGS = "ratings.csv"  # instead of the reviews: a published `rating_only` of 2023
SPLIT = {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}  # or a published split of 2023
METADATA = "metadata.json.gz"  # absent where the source has none
MANIFEST = "manifest.json"
CSV_COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")  # with `history` behind them in some

_QUARANTINED_CHARACTERS = 500


def verify_gzip(path: Path, name: str) -> None:
    """Read a raw file to its end, so that one cut short or damaged is found before it is used.

    Parameters
    ----------
    path
        The file: gzip, or lines of JSON as they are.
    name
        What to call it in the error: the address or path that the user knows.

    Raises
    ------
    InputError
        The file is neither gzip nor begins like JSON, is cut short or fails its checksum.
    """
    text_files.verify(path, name)
    if not text_files.is_gzip(path):
        first = next(text_files.read_lines(path), None)
        if first is not None and not (first[1] or b"{").lstrip().startswith(b"{"):  # an error page of a server, say
            raise InputError(f"{name} is no whole gzip file and no lines of JSON: delete it and get it again")


def verify_csv(path: Path, name: str) -> None:
    """Read a published CSV file to its end, gzip or not, and check its header.

    Parameters
    ----------
    path, name
        As for `verify_gzip`.

    Raises
    ------
    InputError
        The file is damaged gzip or has another header.
    """
    text_files.verify(path, name)
    number, first = next(text_files.read_lines(path), (1, b""))
    columns = tuple((first or b"").decode("utf-8", "replace").strip().split(","))
    if columns not in {CSV_COLUMNS, (*CSV_COLUMNS, "history")}:
        raise InputError(
            f"{name}, line {number}: the header must be {','.join(CSV_COLUMNS)}, with or without history: "
            "put it there, or get the file again"
        )


class Rejects:
    """Counts rejected lines by reason and writes each of them to the quarantine.

    Parameters
    ----------
    quarantine
        Text file open for writing; one JSON object per rejected line: ``file``, ``line``, ``reason`` and the
        beginning of the line.
    """

    def __init__(self, quarantine: TextIO) -> None:
        self._quarantine = quarantine
        self.lines = 0  # read, good and bad, blank ones aside
        self.counts: Counter[str] = Counter()
        self.first_line: dict[str, int] = {}
        self.per_second = 1  # units of the times read: 1000, if they are milliseconds

    def add(self, path: Path, number: int, reason: str, line: bytes | None) -> None:
        """Count and set aside one line."""
        self.counts[reason] += 1
        self.first_line.setdefault(reason, number)
        start = (line or b"").decode("utf-8", "replace")[:_QUARANTINED_CHARACTERS].rstrip("\n")
        entry = {"file": path.name, "line": number, "reason": reason, "start": start}
        self._quarantine.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def summary(self) -> dict[str, Any]:
        """Return ``lines``, ``rejected`` and, per reason, how many of these."""
        return {"lines": self.lines, "rejected": self.counts.total(), "reasons": dict(sorted(self.counts.items()))}

    def check(self, path: Path, maximum_share: float) -> None:
        """Stop if too large a share of the lines was rejected.

        Raises
        ------
        InputError
            The share is above `maximum_share`; the message names reasons, counts and first lines.
        """
        rejected = self.counts.total()
        if rejected <= maximum_share * self.lines:
            return
        reasons = ", ".join(
            f"{reason} ({count:,}, first in line {self.first_line[reason]:,})"
            for reason, count in self.counts.most_common()
        )
        mend = text_files.ENCODE if text_files.NOT_UTF8 in self.counts else "mend the file"
        raise InputError(
            f"{path}: {rejected:,} of {self.lines:,} lines are no valid records, above "
            f"`clean.maximum_rejected_share` = {maximum_share:g}: {reasons}; {mend} or raise the share"
        )
