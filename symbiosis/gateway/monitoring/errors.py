"""Kinds of upstream failures, few enough to count."""

from typing import Final

CLIENT: Final = "client"
"""The client left: no failure of the upstream."""
OTHER: Final = "other"
KINDS = ("timeout", "connection", "broken", "empty", "unreadable", "error", "key", CLIENT)
"""Kinds that `symbiosis.gateway.upstreams` writes before the colon of a call's error."""


def error_kind(status: int | None, error: str | None) -> str | None:
    """Return the kind of an upstream call's failure: 429, 4xx, 5xx, one of `KINDS` or `OTHER`; None: it went well.

    Parameters
    ----------
    status
        HTTP status; None: there was no answer.
    error
        ``KIND: what went wrong``.
    """
    if status == 429:
        return "429"
    if status is not None and status >= 400:
        return "5xx" if status >= 500 else "4xx"
    if error is None:
        return OTHER if status is None else None
    kind = error.partition(":")[0]
    return kind if kind in KINDS else OTHER
