"""The endpoints beside chat completions: models, decisions, feedback, summary, health and metrics."""

import asyncio
import math
import time
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from symbiosis.gateway.monitoring.summary import summary
from symbiosis.gateway.requests.chat import ChatRequest
from symbiosis.gateway.service.chat import CONVERSATION
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.planning import plan
from symbiosis.gateway.service.problems import Problem
from symbiosis.registry.overview import overview
from symbiosis.routing.serving.inputs import checked
from symbiosis.routing.serving.store import FeedbackConflict, NothingServed, StoreUnavailable, UnknownDecision

router = APIRouter()
MOST_DECISIONS = 500


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that answers a request."""
    gateway: Gateway = request.app.state.gateway
    return gateway


class FeedbackBody(BaseModel):
    """How an answer was: its quality or whether the user was satisfied."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    decision: str = Field(min_length=1, max_length=200, description="From the header `x-symbiosis-decision`.")
    quality: float | None = Field(None, ge=0, le=1, description="0 to 1.")
    satisfied: bool | None = Field(None, description="Instead of `quality`.")
    response_tokens: float | None = Field(None, ge=0, description="If the upstream did not count them.")


@router.get("/v1/models", summary="What can be asked for: routing, its policies, and the LLMs")
async def models(request: Request) -> JSONResponse:
    """List `auto`, the policies and the LLMs in OpenAI's form."""
    gateway = gateway_of(request)
    gateway.admit(request)
    owned = dict.fromkeys(gateway.policies.models, "symbiosis")
    owned |= {name: upstream.name for name, (upstream, _) in gateway.llms.items()}
    at = int(gateway.started_at)
    data = [{"id": name, "object": "model", "created": at, "owned_by": owner} for name, owner in owned.items()]
    return JSONResponse({"object": "list", "data": data})


@router.post("/v1/route", summary="The decision alone: no upstream is called", openapi_extra={})
async def route(request: Request) -> JSONResponse:
    """Decide which LLM should answer, and explain it; the client asks it by itself and gives feedback all the same.

    With `"store": false` it is only looked at: neither stored nor counted, and no feedback can be given on it.
    """
    began = time.perf_counter()
    gateway = gateway_of(request)
    key = gateway.admit(request)
    chat = ChatRequest.parse(await gateway.body(request))
    whom = await plan(gateway, chat, key, request.headers.get(CONVERSATION), began)
    if whom.mode == "explicit":
        raise Problem(400, f"{chat.model} is an LLM: ask for `auto` or a policy to have one chosen", "nothing_to_route")
    whom.entry.served, whom.entry.overhead_ms = whom.candidates[0], whom.overhead_ms
    stored = chat.raw.get("store") is not False
    if stored:
        await gateway.record([whom.entry])
        gateway.metrics.decided(whom.candidates[0], whom.policy, whom.mode, whom.overhead_ms / 1e3)
    explained = None if whom.decision is None else whom.decision.to_dict()
    document = {
        "id": whom.id,
        "model": whom.candidates[0],
        "mode": whom.mode,
        "policy": whom.policy,
        "notice": whom.notice,
        "stored": stored,
        "decision": explained,
    }
    return JSONResponse(
        document, headers={name.decode(): value.decode() for name, value in whom.headers(whom.candidates[0])}
    )


@router.post("/v1/feedback", summary="How an answer was")
async def feedback(request: Request, body: FeedbackBody) -> JSONResponse:
    """Take in refined or binary feedback on a decision; it may come late and may be repeated."""
    gateway = gateway_of(request)
    gateway.admit(request)
    try:
        told = checked(body.decision, body.quality, body.response_tokens, body.satisfied)
    except ValueError as error:
        raise Problem(422, str(error), "invalid_feedback") from None
    idempotency_key = request.headers.get("idempotency-key")
    if idempotency_key is not None and not 0 < len(idempotency_key) <= 255:
        raise Problem(422, "the header Idempotency-Key must have 1 to 255 characters", "invalid_idempotency_key")
    try:
        new = await gateway.feedback(body.decision, told, idempotency_key=idempotency_key)
    except UnknownDecision as error:
        raise Problem(404, str(error), "unknown_decision") from None
    except (FeedbackConflict, NothingServed) as error:
        raise Problem(409, str(error), "feedback_conflict") from None
    except StoreUnavailable as error:
        raise Problem(503, str(error), "store_unavailable", gateway.config.limits.retry_after_s) from None
    return JSONResponse({"decision": body.decision, "accepted": "new" if new else "repeated"})


@router.get("/v1/decisions", summary="The latest decisions")
async def decisions(request: Request, limit: int = 20, before: int | None = None) -> JSONResponse:
    """List the newest decisions, the newest first; `before` is the `sequence` of the last one of a page."""
    gateway = gateway_of(request)
    gateway.admit(request)
    if not 1 <= limit <= MOST_DECISIONS or (before is not None and not 0 <= before < 2**63):
        raise Problem(422, f"`limit` must lie in 1..{MOST_DECISIONS} and `before` must be a sequence", "invalid_page")
    found = await asyncio.to_thread(gateway.store.latest, limit, before)
    return JSONResponse({"data": [_listed(one.to_dict()) for one in found]})


@router.get("/v1/decisions/{decision}", summary="One decision: arms, why, calls, feedback")
async def decision(request: Request, decision: str) -> JSONResponse:
    """Return everything that is stored of a decision."""
    gateway = gateway_of(request)
    gateway.admit(request)
    found = await asyncio.to_thread(gateway.store.decision, decision)
    if found is None:
        raise Problem(404, f"there is no decision {decision[:80]!r}", "unknown_decision")
    told = found.to_dict()
    return JSONResponse({**_listed(told), "decision": told["details"], "calls": told["calls"]})


def _listed(told: dict[str, Any]) -> dict[str, Any]:
    """Return a stored decision as a list shows it."""
    costs = [call["cost_usd"] for call in told["calls"] if call["cost_usd"] is not None]
    names = ("sequence", "id", "at", "llm", "served", "policy", "mode", "propensity", "quality", "overhead_ms")
    shown = {name: told[name] for name in names}
    return {
        **shown,
        "expected_cost_usd": told["cost_usd"],
        "cost_usd": math.fsum(costs) if costs else None,
        "baseline_usd": told["baseline_usd"],
        "router": told["router"],
        "version": told["version"],
        "api_key": told["api_key"],
        "text": told["text"],
        "feedback": told["feedback"],
    }


@router.get("/v1/summary", summary="Spend, savings, share, latency and quality of a window")
async def summarised(request: Request, hours: float = 24.0) -> JSONResponse:
    """Sum up the last hours."""
    gateway = gateway_of(request)
    gateway.admit(request)
    if not 0 < hours <= 24 * 366:
        raise Problem(422, "`hours` must lie above 0 and within a year", "invalid_window")
    return JSONResponse(await asyncio.to_thread(summary, gateway.store, hours, gateway.live()))


@router.get("/v1/loop", summary="Champions, the gate's verdicts, and the last scheduled run")
async def loop(request: Request) -> JSONResponse:
    """Tell which models serve, what the gate said of the last candidates, and what the last scheduled run did."""
    gateway_of(request).admit(request)
    return JSONResponse(await asyncio.to_thread(overview))


@router.get("/health/live", summary="The process runs")
async def live() -> JSONResponse:
    """Say that the process runs."""
    return JSONResponse({"status": "live"})


@router.get("/health/ready", summary="The gateway can serve")
async def ready(request: Request) -> JSONResponse:
    """Say whether the router, its encoder and the store are ready; and, without waiting for it, the recommender."""
    gateway = gateway_of(request)
    if not gateway.ready:
        return JSONResponse({"status": "starting"}, 503)
    try:
        await asyncio.to_thread(gateway.store.settings)
    except StoreUnavailable as error:
        return JSONResponse({"status": "store unavailable", "reason": str(error)}, 503)
    version, recommender = gateway.engine.service.signature[1], gateway.recommending.described()
    told = gateway.learner()
    learner = {"instance": told["instance"], "here": told["here"]}
    return JSONResponse({"status": "ready", "version": version, "learner": learner, "recommender": recommender})


@router.get("/metrics", summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Return the metrics of all workers; where keys are required, to holders of one, whatever it has left to spend."""
    gateway = gateway_of(request)
    header = request.headers.get("authorization")
    if gateway.config.keys.required and not gateway.keys.is_admin(header) and gateway.keys.authenticate(header) is None:
        raise Problem(401, "send the header `Authorization: Bearer KEY`", "invalid_api_key")
    gateway.note_state()
    page, kind = gateway.metrics.page(request.headers.get("accept"))
    return Response(page, media_type=kind)
