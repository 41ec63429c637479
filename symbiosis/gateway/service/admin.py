"""What an operator may do while a gateway runs; each request brings the admin's key."""

import asyncio

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from symbiosis.core.errors import quoted
from symbiosis.gateway.service.endpoints import gateway_of
from symbiosis.gateway.service.engine import PER_MILLION
from symbiosis.gateway.service.problems import Problem
from symbiosis.routing.serving.inputs import HIGHEST_PRICE


def operator(request: Request) -> None:
    """Refuse everybody but the holder of the admin's key."""
    gateway = gateway_of(request)
    if not gateway.keys.is_admin(request.headers.get("authorization")):
        name = gateway.config.keys.admin_env
        raise Problem(
            403, f"send the header `Authorization: Bearer KEY` with the key that the gateway has in {name}", "no_admin"
        )


router = APIRouter(prefix="/admin", dependencies=[Depends(operator)])


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class AddBody(_Body):
    """An LLM of the config that the router shall choose, too; its prices are the config's."""

    name: str = Field(min_length=1, max_length=200)
    startup_s: float = Field(0.5, ge=0, description="Expected seconds to the first token.")
    tokens_per_s: float = Field(60.0, gt=0, description="Expected tokens a second from there.")


class PriceBody(_Body):
    """New prices in USD per million tokens; what is not given stays."""

    price_prompt: float | None = Field(None, ge=0, le=HIGHEST_PRICE * PER_MILLION)
    price_cached: float | None = Field(None, ge=0, le=HIGHEST_PRICE * PER_MILLION)
    price_response: float | None = Field(None, ge=0, le=HIGHEST_PRICE * PER_MILLION)


class DrainBody(_Body):
    """Whether an LLM gets no new queries."""

    drained: bool = True


@router.post("/llms", summary="Let the router choose an LLM of the config, too")
async def add(request: Request, body: AddBody) -> JSONResponse:
    """Add an LLM to the router of all gateways that share the state; feedback tells how good it is."""
    gateway = gateway_of(request)
    llm = gateway.llm(body.name)
    if llm is None:
        raise Problem(404, f"no upstream serves {quoted(body.name)}: add it to the config and restart", "no_such_llm")
    if body.name in gateway.engine.names:
        raise Problem(409, f"the router knows {quoted(body.name)} already", "llm_exists")
    names = await asyncio.to_thread(
        gateway.learning.workspace.add_llm,
        body.name,
        price_prompt=llm.price_prompt / PER_MILLION,
        price_response=llm.price_response / PER_MILLION,
        startup_s=body.startup_s,
        tokens_per_s=body.tokens_per_s,
    )
    await gateway.catch_up()
    return JSONResponse({"llms": list(names)})


@router.delete("/llms/{name:path}", summary="Take an LLM from the router's choice")
async def remove(request: Request, name: str) -> JSONResponse:
    """Remove an LLM from the router of all gateways that share the state; by its name it can still be asked."""
    gateway = gateway_of(request)
    if name not in gateway.engine.names:
        raise Problem(404, f"the router does not know {quoted(name)}", "no_such_llm")
    names = await asyncio.to_thread(gateway.learning.workspace.remove_llm, name)
    await gateway.catch_up()
    return JSONResponse({"llms": list(names)})


@router.post("/llms/{name:path}/prices", summary="Change an LLM's prices")
async def reprice(request: Request, name: str, body: PriceBody) -> JSONResponse:
    """Change prices in all gateways that share the store, until the config is changed."""
    given = body.model_dump(exclude_none=True)
    if not given:
        raise Problem(422, "give price_prompt, price_cached or price_response", "no_price")
    llm = await asyncio.to_thread(gateway_of(request).set_prices, name, given)
    return JSONResponse(llm)


@router.post("/llms/{name:path}/drain", summary="Send an LLM no new queries")
async def drain(request: Request, name: str, body: DrainBody) -> JSONResponse:
    """Drain an LLM in all gateways that share the store; answers under way go on."""
    drained = await asyncio.to_thread(gateway_of(request).set_drained, name, body.drained)
    return JSONResponse({"drained": drained})


@router.post("/reload", summary="Take over a newer trained router now")
async def reload(request: Request) -> JSONResponse:
    """Look for a newer trained router and newer versions now, without waiting for the next look."""
    gateway = gateway_of(request)
    changed = await gateway.catch_up()
    router, version = gateway.engine.service.signature
    return JSONResponse({"changed": changed, "router": router, "version": version})


@router.get("/learner", summary="Who learns for all gateways of the store")
async def learner(request: Request) -> JSONResponse:
    """Tell which process learns, since when, and which one answers here; decisions' ids begin with its `instance`."""
    gateway = gateway_of(request)
    router, version = gateway.engine.service.signature
    return JSONResponse({**gateway.learner(), "router": router, "version": version})


@router.post("/rollback/{version}", summary="Go back to an earlier version")
async def rollback(request: Request, version: int) -> JSONResponse:
    """Let all gateways that share the state go on from an earlier version; 0 is the trained router."""
    gateway = gateway_of(request)
    number = await asyncio.to_thread(gateway.learning.workspace.rollback, version)
    await gateway.catch_up()
    return JSONResponse({"version": number})
