"""A proxy that only passes on, with `httpx`: what any Python proxy costs.  Run it:  python -m bench.pass_through URL

The base URL is the upstream's, ``http://127.0.0.1:9100/v1``. Prints its own base URL.
"""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

HEADERS = ("content-type", "content-length", "x-request-id")


def application(base_url: str) -> Starlette:
    """Return the proxy."""
    client = httpx.AsyncClient(
        timeout=None, trust_env=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=128)
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await client.aclose()

    async def chat(request: Request) -> StreamingResponse:
        asked = client.build_request(
            "POST",
            f"{base_url}/chat/completions",
            content=await request.body(),
            headers={"content-type": "application/json"},
        )
        answer = await client.send(asked, stream=True)

        async def passed() -> AsyncIterator[bytes]:
            try:
                async for chunk in answer.aiter_raw():
                    yield chunk
            finally:
                await answer.aclose()

        headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        return StreamingResponse(passed(), answer.status_code, headers)

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    """Serve on a free port of loopback."""
    own = socket.create_server(("127.0.0.1", 0), backlog=2048)
    own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"http://127.0.0.1:{own.getsockname()[1]}/v1", flush=True)
    uvicorn.Server(uvicorn.Config(application(sys.argv[1]), log_level="warning", access_log=False)).run(sockets=[own])


if __name__ == "__main__":
    main()
