"""Headers that pass to the upstream and back, and the pause that it asks for."""

import time
from email.utils import formatdate

import pytest

from symbiosis.gateway.upstreams.headers import retry_after_s, to_client, to_upstream


def test_only_known_headers_go_to_the_upstream() -> None:
    sent = to_upstream([("X-Request-Id", "r"), ("Authorization", "mine"), ("X-Forwarded-For", "1.2.3.4")], "k")
    assert sent == {
        "x-request-id": "r",
        "content-type": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer k",
    }
    assert "authorization" not in to_upstream({"authorization": "mine"}, None)


@pytest.mark.parametrize("value", ["a\r\nauthorization: x", "\x00", "é"])
def test_values_that_http_forbids_stay_here(value: str) -> None:
    assert "x-request-id" not in to_upstream({"x-request-id": value}, None)


def test_headers_come_back_but_those_of_the_connection() -> None:
    came = [
        ("X-RateLimit-Remaining", "3"),
        ("Connection", "close, X-Hop"),
        ("x-hop", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Content-Encoding", "br"),
        ("link", "a"),
        ("link", "b"),
        ("Access-Control-Allow-Origin", "*"),
        ("strict-transport-security", "max-age=1"),
    ]
    assert to_client(came) == [("x-ratelimit-remaining", "3"), ("content-encoding", "br"), ("link", "a"), ("link", "b")]
    assert ("content-encoding", "br") not in to_client(came, decoded=True)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "3"}, 3.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "9", "Retry-After-Ms": "1500"}, 1.5),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_the_pause_that_an_upstream_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers.items()) == seconds


def test_a_pause_until_a_date() -> None:
    seconds = retry_after_s([("retry-after", formatdate(time.time() + 60, usegmt=True))])
    assert seconds is not None
    assert 55 < seconds <= 60
