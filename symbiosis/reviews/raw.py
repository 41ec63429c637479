"""The raw files: which they are, and whether they are whole."""

from pathlib import Path

from symbiosis.core import text_files
from symbiosis.core.errors import InputError

REVIEWS = "reviews.json.gz"
METADATA = "metadata.json.gz"  # absent where the source has none
MANIFEST = "manifest.json"


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
