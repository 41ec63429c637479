"""What every request passes: a net for faults of the gateway, and a limit on its size."""

import logging

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.service.problems import Problem, response

LOG = logging.getLogger("symbiosis.gateway")


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
