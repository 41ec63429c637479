"""Which headers go to an upstream and which come back.

To the upstream only the headers of `FORWARDED` go, as in LiteLLM, which forwards by a list as well: a client's
`authorization`, cookies and address are the gateway's business, `openai-organization` and `openai-project` belong to
the client's account and not to the gateway's key, and `x-stainless-*` speaks of the connection to the gateway. The
trace's context (`traceparent`) is sent as the caller hands it over. The body travels as it is: `identity`.

From the upstream every header comes back but those that speak of its connection to the gateway or of its own origin
(`DROPPED`); several of one name stay several, in order.
"""

import math
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime

Headers = list[tuple[str, str]]
ClientHeaders = Mapping[str, str] | Iterable[tuple[str, str]]

FORWARDED = frozenset(
    {
        "accept",
        "accept-language",
        "anthropic-beta",
        "idempotency-key",
        "openai-beta",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-client-request-id",
        "x-request-id",
    }
)
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, 7.6.1, with those that `connection` names."""
DROPPED = HOP_BY_HOP | {
    "alt-svc",
    "content-length",  # the server that answers the client counts again
    "date",  # it writes these itself
    "server",
    "set-cookie",
    "strict-transport-security",  # would bind the gateway's own origin, loopback included
}


def to_upstream(client: ClientHeaders, key: str | None) -> dict[str, str]:
    """Return the headers of a request to an upstream.

    Parameters
    ----------
    client
        The client's headers; names in any case.
    key
        The upstream's API key, if it wants one.
    """
    pairs = client.items() if isinstance(client, Mapping) else client
    # A value that HTTP forbids would look like a failure of the upstream.
    kept = {
        name.lower(): value
        for name, value in pairs
        if name.lower() in FORWARDED and value.isascii() and value.isprintable()
    }
    kept |= {"content-type": "application/json", "accept-encoding": "identity"}
    if key is not None:
        kept["authorization"] = f"Bearer {key}"
    return kept


def to_client(upstream: Iterable[tuple[str, str]], *, decoded: bool = False) -> Headers:
    """Return the headers of an answer to the client; `decoded`: it was unpacked here, so the coding's name goes too."""
    pairs = [(name.lower(), value) for name, value in upstream]
    named = {part.strip().lower() for name, value in pairs if name == "connection" for part in value.split(",")}
    dropped = DROPPED | named | ({"content-encoding"} if decoded else set())
    return [(name, value) for name, value in pairs if name not in dropped and not name.startswith("access-control-")]


def retry_after_s(headers: Iterable[tuple[str, str]]) -> float | None:
    """Return for how many seconds an upstream asks to be left alone: `retry-after-ms`, or seconds or a date.

    None where it does not say, or says nothing that can be read.
    """
    found = {name.lower(): value.strip() for name, value in headers}
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            seconds = float(found[name]) / unit
        except (KeyError, ValueError):
            continue
        if math.isfinite(seconds) and seconds >= 0:
            return seconds
    try:
        at = parsedate_to_datetime(found["retry-after"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None
    return max(at - time.time(), 0.0)
