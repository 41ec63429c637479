"""Kinds of upstream failures, few enough to count."""

from typing import Literal

Kind = Literal["429", "4xx", "5xx", "timeout", "connection", "broken", "garbled", "gone", "other"]
_WORDS: tuple[tuple[Kind, tuple[str, ...]], ...] = (
    ("timeout", ("timeout", "timed out", "in time", "idle", "silent")),
    ("gone", ("client",)),
    ("garbled", ("garbage", "garbled", "json", "malformed", "sse", "decode")),
    ("connection", ("refused", "connect", "resolve", "unreachable")),
    ("broken", ("broken", "reset", "closed", "mid-stream", "incomplete", "ended", "protocol")),
)
"""Words by which the text of an error is recognised; the first that fits counts."""


def error_kind(status: int | None, error: str | None) -> Kind | None:
    """Return the kind of an upstream call's failure, None if it did not fail.

    Parameters
    ----------
    status
        HTTP status; None: there was no answer.
    error
        What went wrong, in words.
    """
    if status == 429:
        return "429"
    if status is not None and status >= 400:
        return "5xx" if status >= 500 else "4xx"
    if error is None:
        return None if status is not None else "other"
    said = error.lower()
    return next((kind for kind, words in _WORDS if any(word in said for word in words)), "other")
