"""Fetch one file over HTTP: resumed where it broke off, retried with back-off, verified, moved in whole."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError

from symbiosis.core.artifacts import read_json, sha256_of, staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.http import PASSING, patient_session, retries
from symbiosis.core.progress import tqdm

ATTEMPTS = 6  # in a row without a single new byte
_TIMEOUTS = (10, 60)  # seconds to connect, and between two packets
_BLOCK = 1 << 18


class NotOnServerError(InputError):
    """The server says that it has no such file (404 or 410)."""


class _InterruptedError(Exception):
    """The transfer broke off and may be resumed; the message says how it ended."""


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
        Give up after this many in a row that bring no new byte.
    first_pause
        Seconds before the third attempt in a row, doubled for each further one, and lengthened by chance.

    Raises
    ------
    NotOnServerError
        The file does not exist.
    InputError
        The server refuses or stays unreachable, or size or digest differ from what was expected.
    """
    partial_folder.mkdir(parents=True, exist_ok=True)
    part = partial_folder / (hashlib.sha256(url.encode()).hexdigest()[:16] + ".part")
    # Of transfers that broke off; the session counts those that never began, because only we can resume.
    patience = retries(attempts, first_pause)
    with patient_session(attempts, first_pause) as session:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _continue(session, url, part, size, attempts)
                break
            except _InterruptedError as error:
                if part.exists() and part.stat().st_size > before:
                    patience = retries(attempts, first_pause)
                try:
                    patience = patience.increment("GET", url, error=ProtocolError(str(error)))
                except MaxRetryError:
                    raise _gave_up(url, str(error), attempts) from None
                patience.sleep()
    _verify(url, part, size, sha256)
    part.replace(target)
    _validator_of(part).unlink(missing_ok=True)


def _gave_up(url: str, fault: str, attempts: int) -> InputError:
    return InputError(f"{url}: {fault}, {attempts} times in a row: run again later, it goes on from there")


def _continue(session: requests.Session, url: str, part: Path, expected: int | None, attempts: int) -> None:
    """Fetch what is missing of `part`.

    Raises
    ------
    _InterruptedError
        It broke off.
    InputError
        The server refuses, stays unreachable or has another file.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}  # a compressed transfer of a .gz file would be unpacked on the way
    known = read_json(_validator_of(part))["validator"] if have and _validator_of(part).exists() else None
    if known is None:
        have = 0  # without an ETag or a date nobody knows whether the rest belongs to the same file
    else:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with _asked(session, url, headers, attempts) as response:
        if response.status_code == 416:  # there is no rest: the file is complete, or another one by now
            complete = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
            if complete and int(complete[1]) == have:
                return
            part.unlink()
            raise _InterruptedError("the file changed on the server")
        _accept(url, response, attempts)
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
        if not start:
            part.unlink(missing_ok=True)  # a process that is killed next must not take old bytes for those of this file
        with staged(_validator_of(part)) as (told,):
            write_json(told, {"url": url, "validator": strong or response.headers.get("Last-Modified")})
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
    """Yield the body as sent, in blocks.

    Raises
    ------
    _InterruptedError
        The connection failed on the way.
    """
    try:
        yield from response.raw.stream(_BLOCK, decode_content=False)
    except (HTTPError, ConnectionError) as error:
        raise _InterruptedError(f"the connection failed ({type(error).__name__})") from error


def _accept(url: str, response: requests.Response, attempts: int) -> None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code in {200, 206}:
        return
    if response.status_code in PASSING:
        raise _gave_up(url, f"the server answers {status}", attempts)
    error = NotOnServerError if response.status_code in {404, 410} else InputError
    raise error(f"{url}: the server answers {status}: check the category or the url")


@contextmanager
def _asked(session: requests.Session, url: str, headers: dict[str, str], attempts: int) -> Iterator[requests.Response]:
    """Yield the answer to a request, its body still to be read.

    Raises
    ------
    InputError
        The address cannot work, or the server cannot be reached.
    """
    try:
        response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUTS)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema):
        raise InputError(f"{url!r} is no http address: correct the url") from None
    except requests.RequestException as error:
        raise _gave_up(url, f"the connection failed ({type(error).__name__})", attempts) from None
    with response:
        yield response


def _verify(url: str, part: Path, size: int | None, sha256: str | None) -> None:
    """Check what has arrived; a wrong file is thrown away, because resuming cannot repair it."""
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
