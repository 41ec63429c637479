"""Recommendations over HTTP, and what a page needs to ask for them: items by title, users by id."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from symbiosis.core.text_files import mended
from symbiosis.gateway.recommending.body import MOST_WRITTEN, RecommendationAnswer, RecommendationBody, document
from symbiosis.gateway.recommending.serving import RecommenderUnavailable
from symbiosis.gateway.service.endpoints import gateway_of
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.problems import Problem
from symbiosis.recommender.data.lookup import find_items, users_beginning_with

router = APIRouter()
MOST_FOUND, LONGEST_QUERY = 100, 200
_Result = TypeVar("_Result")


@router.post(
    "/v1/recommendations",
    summary="The best items for a user, a guest's session or a text, with reasons",
    responses={200: {"model": RecommendationAnswer}},
)
async def recommendations(request: Request, body: RecommendationBody) -> JSONResponse:
    """Rank items, each with its score and a reason that is a fact; on request the model writes reasons, too."""
    began = time.perf_counter()
    gateway = gateway_of(request)
    gateway.admit(request)
    asked = body.request()
    if body.written and body.count > MOST_WRITTEN:
        raise Problem(422, f"`count`: reasons are written for at most {MOST_WRITTEN} items at once", "too_many_written")
    gateway.enter()
    try:
        found, reasons, note = await _in_thread(gateway, lambda: gateway.recommending.answer(asked, body.written))
    finally:
        gateway.leave()
    gateway.metrics.recommended(found.method, time.perf_counter() - began)
    return JSONResponse(document(found, reasons, note))


@router.get("/v1/items", summary="Items by words of their titles")
async def items(request: Request, query: str, count: int = 10) -> JSONResponse:
    """List items whose title holds all words of the query, in any case, or whose id it is."""
    gateway = gateway_of(request)
    gateway.admit(request)
    wanted = _checked(query, "query", count)

    def search() -> list[dict[str, Any]]:
        recommender = gateway.recommending.current
        names, popularity = recommender.catalogue, recommender.parts.popularity
        return [
            {"item_id": names.item_id(item), "title": names.title(item), "users": int(popularity[item])}
            for item in find_items(names.items, wanted, count, popularity)
        ]

    return JSONResponse({"items": await _in_thread(gateway, search)})


@router.get("/v1/users", summary="Users by the beginning of their ids")
async def users(request: Request, prefix: str = "", count: int = 10) -> JSONResponse:
    """List ids of users that begin with the prefix."""
    gateway = gateway_of(request)
    gateway.admit(request)
    wanted = _checked(prefix, "prefix", count)
    found = await _in_thread(
        gateway, lambda: users_beginning_with(gateway.recommending.current.catalogue.users, wanted, count)
    )
    return JSONResponse({"users": found})


def _checked(text: str, name: str, count: int) -> str:
    if len(text) > LONGEST_QUERY or not 1 <= count <= MOST_FOUND:
        told = f"`{name}` may have {LONGEST_QUERY} characters, and `count` must lie in 1..{MOST_FOUND}"
        raise Problem(422, told, "invalid_query")
    return mended(text)


async def _in_thread(gateway: Gateway, work: Callable[[], _Result]) -> _Result:
    """Do something that takes its time beside the event loop.

    Raises
    ------
    Problem
        There is no recommender: 503.
    """
    try:
        return await asyncio.get_running_loop().run_in_executor(gateway.recommending.threads, work)
    except RecommenderUnavailable as error:
        patience = max(gateway.config.limits.retry_after_s, 1.0) if error.is_loading else None
        raise Problem(503, str(error), "no_recommender", patience) from None
