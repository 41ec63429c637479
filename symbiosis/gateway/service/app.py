"""The gateway as an application: its endpoints, what guards them, and errors in OpenAI's form."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from symbiosis.core.errors import InputError
from symbiosis.core.hosts import HostGuard
from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.console.console import console_router
from symbiosis.gateway.monitoring.metrics import Refusal
from symbiosis.gateway.requests.chat import BadRequest
from symbiosis.gateway.requests.keys import KeyRefused
from symbiosis.gateway.service import admin, endpoints, recommendations
from symbiosis.gateway.service.chat import complete
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.guards import FaultGuard
from symbiosis.gateway.service.planning import TOLD
from symbiosis.gateway.service.problems import Problem, response
from symbiosis.gateway.service.server import config_of_process
from symbiosis.routing.serving.store import StoreUnavailable

CHAT_BODY = {
    "type": "object",
    "required": ["model", "messages"],
    "additionalProperties": True,
    "properties": {
        "model": {"type": "string", "description": "`auto`, `auto:POLICY`, or an LLM's name."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role"],
                "properties": {"role": {"type": "string"}, "content": {}},
            },
        },
        "stream": {"type": "boolean"},
    },
}
BODY = {"requestBody": {"required": True, "content": {"application/json": {"schema": CHAT_BODY}}}}


async def completions(request: Request) -> Response:
    """Answer by the LLM that the router chooses, or by the one that is named; streamed or not."""
    gateway: Gateway = request.app.state.gateway
    gateway.enter()
    answer: Response | None = None
    try:
        answer = await complete(gateway, request)
        return answer
    finally:
        # A response leaves once it is sent.
        if answer is None:
            gateway.leave()


def application(config: GatewayConfig) -> FastAPI:
    """Return the gateway as an application.

    Parameters
    ----------
    config
        Its upstreams filled in.

    Raises
    ------
    InputError
        See `symbiosis.gateway.service.gateway.Gateway`.
    """
    gateway = Gateway(config)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    app = FastAPI(
        title="Symbiosis gateway",
        version=version("symbiosis"),
        description="One OpenAI-compatible address that routes, explains and learns.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    for path, handler in (("/v1/chat/completions", completions),):
        app.add_api_route(
            path, handler, methods=["POST"], summary="A chat completion", openapi_extra=BODY, response_model=None
        )
    app.include_router(endpoints.router)
    app.include_router(recommendations.router)
    app.include_router(admin.router)
    app.include_router(console_router())
    app.add_exception_handler(InputError, _problem)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_middleware(FaultGuard)
    if config.listen.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=config.listen.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=TOLD,
        )
    listen = config.listen
    app.add_middleware(  # the outermost
        HostGuard, host=listen.host, allowed_hosts=listen.allowed_hosts, allowed_origins=listen.allowed_origins
    )
    return app


def create() -> FastAPI:
    """Return the application of a process that `symbiosis.gateway.service.server.serve` started."""
    return application(config_of_process())


async def _problem(request: Request, error: Exception) -> Response:
    gateway: Gateway = request.app.state.gateway
    if isinstance(error, BadRequest | KeyRefused):
        status, code = error.status, error.code
        gateway.metrics.refused("request" if isinstance(error, BadRequest) else _reason(error))
        problem = Problem(status, str(error), code, getattr(error, "retry_after_s", None))
    elif isinstance(error, Problem):
        problem = error
    elif isinstance(error, StoreUnavailable):
        problem = Problem(503, str(error), "store_unavailable", gateway.config.limits.retry_after_s)
    else:
        problem = Problem(422, str(error), "invalid")
    gateway.metrics.answered(problem.status)
    return response(problem)


def _reason(error: KeyRefused) -> Refusal:
    return {"insufficient_quota": "budget", "rate_limit_exceeded": "rate"}.get(error.code, "key")  # type: ignore[return-value]


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return response(Problem(error.status_code, str(error.detail)), error.headers)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    told = f"`{place}`: {first['msg']}" if place else f"the body: {first['msg']}"
    if first["type"] == "less_than_equal" and first["ctx"]["le"] == 1 and (given := float(first["input"])) <= 100:
        told += f"; did you mean {given / 100:g}?"
    return response(Problem(422, told, "invalid"))
