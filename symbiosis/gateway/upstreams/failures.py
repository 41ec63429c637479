"""How a call fails, and errors in OpenAI's form."""

import json
from dataclasses import dataclass, field
from typing import Literal

from symbiosis.gateway.upstreams.calls import Call
from symbiosis.gateway.upstreams.headers import Headers

Kind = Literal[
    "status",  # the answer is an error that may be another one next time
    "timeout",
    "connection",  # none could be made
    "broken",  # cut off, or a redirect
    "empty",  # status 200 and nothing in it
    "unreadable",
    "error",  # status 200 and an error in it
    "key",  # the gateway's own key or account was refused
]


@dataclass(eq=False)
class UpstreamError(Exception):
    """A call failed before anything of it was sent to the client, so another LLM can be asked.

    Parameters
    ----------
    kind
        See `Kind`.
    message
        One line, without the upstream's address or key.
    status
        Of the upstream's answer, if there was one.
    headers, body
        Of that answer, to be passed on if nothing else answers.
    retry_after_s
        For how long the LLM should be left alone.
    call
        What was taken down of the call.
    """

    kind: Kind
    message: str
    status: int | None = None
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    retry_after_s: float | None = None
    call: Call | None = None

    def __str__(self) -> str:
        """Return the message with its kind, as calls are taken down."""
        return f"{self.kind}: {self.message}"


class BrokenAnswer(Exception):  # noqa: N818 - no error of ours
    """An answer of which bytes were sent broke, and its form has no place for an error: cut the client off.

    Raised while bytes are passed on; the server then closes the connection without a proper end, so that the client
    cannot take a half for the whole.
    """


def error_document(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    """Return an error in OpenAI's form."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}, ensure_ascii=False).encode()


def error_event(message: str, code: str) -> bytes:
    """Return the event that ends a stream which broke; no `[DONE]` follows."""
    return b"data: " + error_document(message, "upstream_error", code) + b"\n\n"
