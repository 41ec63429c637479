"""What every request passes before anything acts: its host and origin, its size, and its key."""

import logging
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from symbiosis.gateway.config.schema import GatewayConfig, ListenConfig
from symbiosis.gateway.service.problems import Problem, response

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOG = logging.getLogger("symbiosis.gateway")
READING = ("GET", "HEAD", "OPTIONS")


class HostGuard:
    """Refuses requests for another host, and those that a page of another origin sends.

    A page in a user's browser can reach loopback, by DNS rebinding with any name: a name that is not ours is refused,
    and an origin that is not ours may not act.

    Parameters
    ----------
    app
        What is guarded.
    listen
        Where it listens, and what else it is called.
    """

    def __init__(self, app: ASGIApp, listen: ListenConfig) -> None:
        self._app = app
        self._hosts = {host.lower() for host in (*LOOPBACK, listen.host, *listen.allowed_hosts)}
        # Behind a proxy or on every address of a machine, its names cannot be known: keys guard it then.
        self._any_host = not listen.is_loopback and not listen.allowed_hosts
        self._origins = set(listen.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "http" and (problem := self._refusal(Request(scope))) is not None:
            await response(problem)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, request: Request) -> Problem | None:
        host = request.headers.get("host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if not self._any_host and name not in self._hosts:
            return Problem(421, "this gateway has no such host name: add it to `listen.allowed_hosts`", "unknown_host")
        origin = request.headers.get("origin")
        if origin is not None and request.method not in READING:
            own = urlsplit(origin)
            if own.netloc.lower() != host.lower() and origin not in self._origins:
                return Problem(
                    403, "pages of this origin may not act here: add it to `listen.allowed_origins`", "origin"
                )
        return None


class FaultGuard:
    """Turns a fault of the gateway into one line in its log and an answer with status 500.

    Parameters
    ----------
    app
        What may have faults.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; an answer that has begun ends without an end."""
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http":
                raise
            LOG.exception("a fault of the gateway: %s", type(error).__name__)
            if not begun:
                problem = Problem(500, "the gateway has a fault; its log says more", "gateway_fault")
                await response(problem)(scope, receive, send)


async def body_of(request: Request, config: GatewayConfig) -> bytes:
    """Read a request's body.

    Raises
    ------
    Problem
        It is larger than ``limits.body_mb``.
    """
    most = int(config.limits.body_mb * 1_000_000)
    too_large = Problem(413, f"the body is larger than `limits.body_mb` ({config.limits.body_mb:g} MB)", "too_large")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise too_large
        parts.append(part)
    return b"".join(parts)
