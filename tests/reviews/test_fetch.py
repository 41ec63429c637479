"""Fetching over a real loopback server that cuts connections, fails, lies and changes its mind."""

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from symbiosis.core.errors import InputError
from symbiosis.reviews.fetch import NotOnServerError, fetch

BODY = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Site:
    """What the server does; requests are recorded as (path, range, status)."""

    url: str = ""
    body: bytes = BODY
    etag: str | None = '"one"'
    cut_after: list[int] = field(default_factory=list)  # bytes sent of each of the first answers
    statuses: list[int] = field(default_factory=list)  # of the first answers, instead of the file
    headers: dict[str, str] = field(default_factory=dict)  # sent with these statuses
    ranges: bool = True
    requests: list[tuple[str | None, int]] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    """Serves `Site` with ranges and If-Range."""

    site: Site

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        if site.statuses:
            self._head(site.statuses.pop(0), 0, site.headers)
            return
        start, status = 0, 200
        if asked and site.ranges and self.headers.get("If-Range") == site.etag:
            start, status = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]), 206  # type: ignore[index]
        if start >= len(site.body):
            self._head(416, 0, {"Content-Range": f"bytes */{len(site.body)}"})
            return
        rest = site.body[start:]
        headers = {"ETag": site.etag} if site.etag else {}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(site.body) - 1}/{len(site.body)}"
        self._head(status, len(rest), headers)
        self.wfile.write(rest[: site.cut_after.pop(0)] if site.cut_after else rest)

    def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.site.requests.append((self.headers.get("Range"), status))
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Site]:
    state = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": state}))
    state.url = f"http://127.0.0.1:{server.server_address[1]}/file.json.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record pauses instead of waiting."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def get(site: Site, folder: Path, **arguments: object) -> bytes:
    fetch(site.url, folder / "file", folder / "partial", **arguments)  # type: ignore[arg-type]
    assert list((folder / "partial").iterdir()) == []
    return (folder / "file").read_bytes()


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "partial").glob("*.part"))


def test_a_file_arrives_whole_and_verified(site: Site, tmp_path: Path) -> None:
    assert get(site, tmp_path, size=len(BODY), sha256=SHA256) == BODY
    assert site.requests == [(None, 200)]


def test_cut_connections_are_resumed_where_they_broke_off(site: Site, tmp_path: Path) -> None:
    site.cut_after = [100_000, 50_000]
    assert get(site, tmp_path, sha256=SHA256) == BODY
    assert site.requests == [(None, 200), ("bytes=100000-", 206), ("bytes=150000-", 206)]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site: Site, tmp_path: Path) -> None:
    site.cut_after = [70_000, 0, 0]
    with pytest.raises(InputError, match="run again later, it goes on from there"):
        get(site, tmp_path, attempts=2)
    assert not (tmp_path / "file").exists()
    assert [part.stat().st_size for part in parts(tmp_path)] == [70_000]
    site.cut_after, site.requests = [], []
    assert get(site, tmp_path) == BODY
    assert site.requests == [("bytes=70000-", 206)]


def test_progress_renews_the_patience(site: Site, tmp_path: Path) -> None:
    site.cut_after = [1_000] * 8
    assert get(site, tmp_path, attempts=2) == BODY


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    site.cut_after = [70_000, 0, 0]
    with pytest.raises(InputError):
        get(site, tmp_path, attempts=2)
    site.body, site.etag, site.cut_after = BODY[::-1], '"two"', []
    assert get(site, tmp_path) == BODY[::-1]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_firm_mark_of_the_version_nothing_is_resumed(site: Site, tmp_path: Path, etag: str | None) -> None:
    site.etag, site.cut_after = etag, [100_000]
    assert get(site, tmp_path) == BODY
    assert site.requests == [(None, 200), (None, 200)]


def test_a_server_without_ranges_is_asked_from_the_start(site: Site, tmp_path: Path) -> None:
    site.ranges, site.cut_after = False, [100_000]
    assert get(site, tmp_path) == BODY
    assert site.requests == [(None, 200), ("bytes=100000-", 200)]


def test_a_part_that_is_already_complete_is_taken(site: Site, tmp_path: Path) -> None:
    site.cut_after = [70_000, 0, 0]
    with pytest.raises(InputError):
        get(site, tmp_path, attempts=2)
    parts(tmp_path)[0].write_bytes(BODY)
    site.cut_after, site.requests = [], []
    assert get(site, tmp_path, sha256=SHA256) == BODY
    assert site.requests == [("bytes=300000-", 416)]


def test_busy_servers_are_tried_again_with_growing_pauses(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    site.statuses = [503, 429, 500, 502]
    assert get(site, tmp_path, first_pause=1.0) == BODY
    assert len(pauses) == 3  # the second attempt comes at once
    for pause, expected in zip(pauses, [1, 2, 4], strict=True):
        assert expected <= pause <= expected + 0.5


def test_the_pause_that_the_server_asks_for_is_kept(site: Site, tmp_path: Path, pauses: list[float]) -> None:
    site.statuses, site.headers = [503], {"Retry-After": "7"}
    get(site, tmp_path)
    assert pauses == [7]


def test_patience_ends(site: Site, tmp_path: Path) -> None:
    site.statuses = [503] * 9
    with pytest.raises(InputError, match=r"the server answers 503 .*, 3 times in a row"):
        get(site, tmp_path, attempts=3)
    assert len(site.requests) == 3
    assert not (tmp_path / "file").exists()


def test_an_unreachable_server_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9/x: the connection failed"):
        fetch("http://127.0.0.1:9/x", tmp_path / "file", tmp_path / "partial", attempts=2)


@pytest.mark.parametrize("url", ["file:///etc/hostname", "no address", "ftp://127.0.0.1/x", "http://"])
def test_other_addresses_are_refused_at_once(tmp_path: Path, url: str) -> None:
    with pytest.raises(InputError, match="is no http address"):
        fetch(url, tmp_path / "file", tmp_path / "partial")


@pytest.mark.parametrize("status", [404, 410])
def test_an_absent_file_is_told_apart_and_not_tried_again(site: Site, tmp_path: Path, status: int) -> None:
    site.statuses = [status]
    with pytest.raises(NotOnServerError, match=str(status)):
        get(site, tmp_path)
    assert len(site.requests) == 1


def test_a_refusal_is_not_tried_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [403]
    with pytest.raises(InputError, match="403") as caught:
        get(site, tmp_path)
    assert not isinstance(caught.value, NotOnServerError)
    assert len(site.requests) == 1


def test_a_wrong_size_is_found_before_the_body_is_read(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 300,000 bytes, not the 299,999 of the params"):
        get(site, tmp_path, size=299_999)
    assert parts(tmp_path) == []
    assert not (tmp_path / "file").exists()


def test_a_wrong_digest_leaves_nothing_behind(site: Site, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"has the sha256 {SHA256}, not {'0' * 64}"):
        get(site, tmp_path, sha256="0" * 64)
    assert list((tmp_path / "partial").iterdir()) == []
    assert not (tmp_path / "file").exists()
