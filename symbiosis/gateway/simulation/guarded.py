"""A server on loopback that asks another one, which knows no rules of hosts and origins: what passes is guarded."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from symbiosis.core.hosts import HostGuard

_DROPPED = frozenset({"host", "connection", "content-length", "transfer-encoding", "authorization", "accept-encoding"})
"""Headers of one connection, not of what is asked or answered; and the client's key, which is none of the other's."""
METHODS = ["GET", "POST"]
PATIENCE = httpx.Timeout(None, connect=5.0)
"""An LLM may write for as long as it likes."""


def guarded(address: str, key: str) -> Starlette:
    """Return an application that passes requests of this machine on, streams included.

    Parameters
    ----------
    address
        Of the other server, without a path.
    key
        That it asks for: nobody else can use it.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(base_url=address, timeout=PATIENCE, trust_env=False) as client:
            app.state.client = client
            yield

    route = Route("/{path:path}", _passed_on(key), methods=METHODS)
    return Starlette(routes=[route], middleware=[Middleware(HostGuard)], lifespan=lifespan)


def _passed_on(key: str):  # type: ignore[no-untyped-def]
    async def passed_on(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.client
        headers = {name: value for name, value in request.headers.items() if name not in _DROPPED}
        asked = client.build_request(
            request.method,
            httpx.URL(path=request.url.path, query=request.url.query.encode("ascii")),
            headers=headers | {"authorization": f"Bearer {key}"},
            content=await request.body(),
        )
        try:
            answer = await client.send(asked, stream=True)
        except httpx.HTTPError as error:
            told = {"message": f"the LLM cannot be asked ({type(error).__name__})", "type": "server_error"}
            return JSONResponse({"error": told}, 502)
        passed = {name: value for name, value in answer.headers.items() if name not in _DROPPED}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, passed, background=BackgroundTask(answer.aclose)
        )

    return passed_on
