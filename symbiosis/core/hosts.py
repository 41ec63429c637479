"""Who may ask a server on loopback: no page of another origin, and nobody by another host name."""

import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse

from symbiosis.core.processes import LOOPBACK

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

READING = ("GET", "HEAD", "OPTIONS")
POLICY_VIOLATION = 1008
"""Why a websocket is closed; before it was accepted, the client sees status 403."""


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class HostGuard:
    """Refuses requests for another host, and those that a page of another origin sends.

    A page in a user's browser can reach loopback, by DNS rebinding with any name: a name that is not ours is refused,
    and an origin that is not ours may not act. Refusals have the form of OpenAI's errors.

    Parameters
    ----------
    app
        What is guarded.
    host
        Where it listens.
    allowed_hosts, allowed_origins
        What else it is called, and whose pages may act.
    """

    def __init__(
        self,
        app: "ASGIApp",
        host: str = LOOPBACK[0],
        allowed_hosts: Collection[str] = (),
        allowed_origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._hosts = {name.lower() for name in (*LOOPBACK, host, *allowed_hosts)}
        # Behind a proxy or on every address of a machine, its names cannot be known: keys guard it then.
        self._any_host = not is_loopback(host) and not allowed_hosts
        self._origins = set(allowed_origins)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answer a request, or refuse it."""
        refusal = self._refusal(HTTPConnection(scope)) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await refusal(scope, receive, send)
        else:
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})

    def _refusal(self, request: HTTPConnection) -> JSONResponse | None:
        host = request.headers.get("host", "")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            origin = request.headers.get("origin")
            own = origin is None or urlsplit(origin).netloc.lower() == host.lower() or origin in self._origins
        except ValueError:  # as of brackets that are not closed
            name, own = "", False
        if not self._any_host and name not in self._hosts:
            return _refused(
                421, "this server has no such host name; a gateway takes it by `listen.allowed_hosts`", "unknown_host"
            )
        # A page of any origin may open a websocket and read what comes: no other rule of a browser forbids it.
        if not own and request.scope.get("method") not in READING:
            return _refused(
                403, "pages of this origin may not act here; a gateway lets them by `listen.allowed_origins`", "origin"
            )
        return None


def _refused(status: int, message: str, code: str) -> JSONResponse:
    kind = "permission_error" if status == 403 else "invalid_request_error"
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)
