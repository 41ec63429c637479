"""Fetch one file over HTTP: resumed where it broke off, retried with back-off, verified, moved in whole."""

import hashlib
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from tqdm import tqdm

from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError

ATTEMPTS = 6  # in a row without a single new byte
_TIMEOUTS = (10, 60)  # seconds to connect, and between two packets
_LONGEST_PAUSE = 60.0  # seconds
_BLOCK = 1 << 18
_HEAL = {408, 425, 429, 500, 502, 503, 504}  # answers that may be better next time


class NotOnServerError(InputError):
    """The server says that it has no such file (404 or 410)."""


class _InterruptedError(Exception):
    """The transfer failed in a way that may heal; the message says how."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait  # seconds that the server asked for


def fetch(
    url: str,
    target: Path,
    partial_folder: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    attempts: int = ATTEMPTS,
    first_pause: float = 1.0,
) -> None:
    """Fetch a file.

    What has arrived stays in `partial_folder` when the fetch fails or is killed, and the next call for the same
    address goes on from there, provided that the server still has the same file (by its ETag or date).

    Parameters
    ----------
    url
        ``http`` or ``https``.
    target
        File to create.
    partial_folder
        Where unfinished files lie.
    size, sha256
        Bytes and hexadecimal digest, checked if given.
    attempts
        Give up after so many in a row that bring no new byte.
    first_pause
        Seconds before the second attempt, doubled for each further one, give or take half.

    Raises
    ------
    NotOnServerError
        The file does not exist.
    InputError
        The server refuses or stays unreachable, or size or digest differ from what was expected.
    """
    partial_folder.mkdir(parents=True, exist_ok=True)
    part = partial_folder / (hashlib.sha256(url.encode()).hexdigest()[:16] + ".part")
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _continue(url, part, size)
            break
        except _InterruptedError as error:
            failures = 1 if part.exists() and part.stat().st_size > before else failures + 1
            if failures >= attempts:
                raise InputError(
                    f"{url}: {error}, {failures} times in a row: run again later, it goes on from there"
                ) from None
            pause = error.wait if error.wait is not None else first_pause * 2 ** (failures - 1)
            # Not seeded: clients that were cut off together must not come back together.
            time.sleep(min(pause, _LONGEST_PAUSE) * random.uniform(0.5, 1.5))
    _verify(url, part, size, sha256)
    part.replace(target)
    _validator_of(part).unlink(missing_ok=True)


def _continue(url: str, part: Path, expected: int | None) -> None:
    """Fetch what is missing of `part`.

    Raises
    ------
    _InterruptedError
        It broke off.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a compressed transfer of a .gz file would be unpacked on the way
    known = read_json(_validator_of(part))["validator"] if have and _validator_of(part).exists() else None
    if known is None:
        have = 0  # without an ETag or a date nobody knows whether the rest belongs to the same file
    else:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with _translated(url), requests.get(url, headers=headers, stream=True, timeout=_TIMEOUTS) as response:
        if response.status_code == 416:  # there is no rest: the file is complete, or another one by now
            complete = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if complete and int(complete[1]) == have:
                return
            part.unlink()
            raise _InterruptedError("the file changed on the server")
        _accept(url, response)
        start = have if response.status_code == 206 else 0
        if response.status_code == 206 and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise _InterruptedError("the server sent another part than it was asked for")
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdecimal() else None
        if total is not None and expected is not None and total != expected:
            part.unlink(missing_ok=True)
            raise InputError(
                f"{url} has {total:,} bytes, not the {expected:,} of the params: correct `size` or the url"
            )
        etag = response.headers.get("ETag", "")
        strong = etag if etag and not etag.startswith("W/") else None  # a weak one does not promise the same bytes
        write_json(_validator_of(part), {"url": url, "validator": strong or response.headers.get("Last-Modified")})
        with (
            part.open("r+b" if start else "wb") as file,
            tqdm(total=total, initial=start, desc=url.rsplit("/", 1)[-1], unit="B", unit_scale=True) as bar,
        ):
            file.seek(start)
            for block in _blocks(response):
                file.write(block)
                bar.update(len(block))
        arrived = part.stat().st_size
        if total is not None and arrived < total:
            raise _InterruptedError(f"the connection ended after {arrived:,} of {total:,} bytes")


def _blocks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as sent, in blocks."""
    yield from response.raw.stream(_BLOCK, decode_content=False)


def _accept(url: str, response: requests.Response) -> None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code in {200, 206}:
        return
    if response.status_code in _HEAL:
        wait = response.headers.get("Retry-After", "")
        raise _InterruptedError(f"the server answers {status}", float(wait) if wait.isdecimal() else None)
    error = NotOnServerError if response.status_code in {404, 410} else InputError
    raise error(f"{url}: the server answers {status}: check the category or the url")


@contextmanager
def _translated(url: str) -> Iterator[None]:
    """Tell faults of the network, which may heal, from addresses that cannot work."""
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise InputError(f"{url!r} is no http address: correct the url") from None
    except (requests.RequestException, HTTPError, ConnectionError) as error:
        raise _InterruptedError(f"the connection failed ({type(error).__name__})") from error


def _verify(url: str, part: Path, size: int | None, sha256: str | None) -> None:
    """Check what has arrived; a wrong file is thrown away, because no resumption can mend it."""
    fault = None
    if size is not None and part.stat().st_size != size:
        fault = f"has {part.stat().st_size:,} bytes, not the {size:,} of the params: correct `size` or the url"
    elif sha256 is not None and (found := sha256_of(part)) != sha256:
        fault = f"has the sha256 {found}, not {sha256} of the params: correct `sha256` or the url"
    if fault:
        part.unlink()
        _validator_of(part).unlink(missing_ok=True)
        raise InputError(f"{url} {fault}")


def _validator_of(part: Path) -> Path:
    return part.with_suffix(".json")
