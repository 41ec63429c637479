"""A gateway that only plays: the console's API with a made-up day of traffic, for its tests and for looking at it.

`python tests/gateway/console/fake_gateway.py PORT` serves it on loopback.
"""

import asyncio
import json
import math
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fake_recommender import add_recommender
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from symbiosis.gateway.console.console import console_router

LLMS = {
    "forge-34b": (0.93, 0.00033, 3.8),
    "grand-1t": (0.95, 0.0118, 13.5),
    "pocket-7b": (0.57, 0.000052, 1.7),
    "quill-34b": (0.62, 0.00028, 4.7),
    "sage-70b": (0.86, 0.00043, 5.0),
    "<b>swift</b>-13b": (0.81, 0.00012, 2.0),
}
"""Expected quality, USD and seconds per answer; one name holds HTML."""
ANSWER = "A list is reversed in place by <code>items.reverse()</code>, or copied by items[::-1]. Both take linear time."


@dataclass
class Played:
    """What the fake gateway has been told, and what it demands.

    Attributes
    ----------
    key
        That it demands, if any.
    traffic
        Whether there has been a day of it.
    breaks
        End answers in the middle with an error event.
    """

    key: str | None = None
    traffic: bool = True
    breaks: bool = False
    feedback: dict[str, bool] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    looked: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    recommended: list[dict[str, Any]] = field(default_factory=list)


def decided(number: int, text: str, dice: random.Random, refused: tuple[str, ...] = ()) -> dict[str, Any]:
    """A decision as `Decision.to_dict` gives it."""
    arms = []
    for name, (mean, usd, seconds) in LLMS.items():
        quality = min(max(mean + dice.gauss(0, 0.06), 0.02), 0.99)
        cost = usd * math.exp(dice.gauss(0, 0.3))
        wait = max(dice.gauss(0.2, 1.6), 0.0) if name != "grand-1t" else max(dice.gauss(3, 2), 0.0)
        parts = {"quality": 0.5833 * quality, "cost": -8.53 * cost, "lateness": -0.02 * max(wait + seconds - 5, 0)}
        arms.append(
            {
                "llm": name,
                "quality": quality,
                "quality_low": max(quality - 0.07, 0),
                "quality_high": min(quality + 0.07, 1),
                "response_tokens": 190 + 40 * dice.random(),
                "cost_usd": cost,
                "wait_s": wait,
                "completion_s": seconds + wait,
                "score": sum(parts.values()),
                "admissible": name not in refused,
                "probability": 0.02,
                "parts": parts,
            }
        )
    best = max((arm for arm in arms if arm["admissible"]), key=lambda arm: arm["score"])
    best["probability"] = 0.9
    return {
        "id": f"fa4e-{number}",
        "llm": best["llm"],
        "objective": "TradeOff",
        "trade_off": 1.4,
        "propensity": 0.9,
        "arms": arms,
        "router": "88be5908cdac",
        "version": 3,
    }


def row(decision: dict[str, Any], at: float, text: str | None, dice: random.Random, **fields: Any) -> dict[str, Any]:
    """A stored decision with all that its list and its page show."""
    arm = next(arm for arm in decision["arms"] if arm["llm"] == decision["llm"])
    call = {
        "attempt": 1,
        "llm": decision["llm"],
        "upstream": "simulated",
        "status": 200,
        "error": None,
        "first_token_s": 0.2 + dice.random(),
        "total_s": arm["completion_s"],
        "prompt_tokens": 31,
        "response_tokens": round(arm["response_tokens"]),
        "cost_usd": arm["cost_usd"] * 1.07,
    }
    return {
        "id": decision["id"],
        "at": at,
        "llm": decision["llm"],
        "served": decision["llm"],
        "policy": "auto",
        "mode": "apply",
        "propensity": decision["propensity"],
        "expected_cost_usd": arm["cost_usd"],
        "cost_usd": call["cost_usd"],
        "quality": arm["quality"],
        "overhead_ms": 4 + 4 * dice.random(),
        "feedback": None,
        "text": text,
        "decision": decision,
        "calls": [call],
        **fields,
    }


def a_day(played: Played, dice: random.Random, now: float) -> None:
    """Fill in the latest decisions of a day."""
    texts = [
        "Reverse a list in Python",
        "What is the capital of Australia, and why not Sydney?",
        "Prove that the square root of two is irrational.",
        "Summarise the attached minutes in three bullet points, one per topic that was decided, with names and dates",
    ]
    for number in range(24):
        at = now - 40 * (24 - number) - 100 * (number % 7 == 0)  # a long answer is listed late
        decision = decided(number, "", dice, ("quill-34b",) if number % 5 == 1 else ())
        fields: dict[str, Any] = {}
        if number % 4 == 2:
            fields["feedback"] = {"satisfied": number % 8 == 2, "quality": None, "source": "user"}
        if number % 11 == 5:
            fields["feedback"] = {"satisfied": None, "quality": 1.0, "source": "check:json"}
        if number % 7 == 3:
            fields["policy"] = "auto:floor=0.8"
        if number % 9 == 4:
            fields["served"] = "sage-70b"
        if number % 6 == 5:
            fields["mode"] = "control"
        played.decisions.append(row(decision, at, texts[number % 4] if number % 3 else None, dice, **fields))


def estimate(mean: float, half: float, n: int) -> dict[str, float]:
    """A mean with its interval."""
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": n}


def summary(played: Played, hours: float, now: float) -> dict[str, Any]:
    """The sums of a made-up day."""
    dice = random.Random(7)
    if not played.traffic and not played.sent:
        llms = [
            {
                "llm": name, "upstream": "simulated", "share": None, "queries": 0, "spend_usd": 0.0,
                "latency_s": {"p50": None, "p90": None}, "first_token_s": {"p50": None, "p90": None},
                "quality": None, "errors": 0, "circuit": "closed",
                "in_flight": 0, "drained": False,
            }
            for name in LLMS
        ]  # fmt: skip
        return {
            "window_hours": hours, "queries": 0, "spend_usd": 0.0, "best_single": None, "saved_usd": None,
            "saved_share": None, "overhead_ms": {"p50": None, "p99": None}, "feedback": {"n": 0, "rate": None},
            "llms": llms, "series": [], "ab": None, "drift": None, "mode": "apply", "router": "88be5908cdac",
            "version": 0,
        }  # fmt: skip
    series = []
    for step in range(96):
        at = now - hours * 3600 * (95 - step) / 96
        rate = 22 + 18 * math.sin(2 * math.pi * (at / 86400 - 0.4)) + dice.gauss(0, 4)
        queries = max(round(rate), 0)
        spend = queries * 0.0011 * math.exp(dice.gauss(0, 0.3))
        series.append({"at": at, "queries": queries, "spend_usd": spend, "baseline_usd": queries * 0.0041})
    total = sum(part["queries"] for part in series)
    spend, single = sum(part["spend_usd"] for part in series), sum(part["baseline_usd"] for part in series)
    shares = dict(zip(LLMS, (0.31, 0.06, 0.0, 0.2, 0.31, 0.12), strict=True))
    llms = []
    for name, (mean, usd, seconds) in LLMS.items():
        n = round(40 * shares[name] * 10)
        half = 1.96 * math.sqrt(mean * (1 - mean) / n) if n else None
        llms.append(
            {
                "llm": name,
                "upstream": "simulated",
                "share": shares[name],
                "queries": round(total * shares[name]),
                "spend_usd": total * shares[name] * usd,
                "latency_s": {"p50": seconds if n else None, "p90": 1.9 * seconds if n else None},
                "first_token_s": {"p50": 0.3 if n else None, "p90": 0.9 if n else None},
                "quality": {
                    "mean": mean if n else None,
                    "low": mean - half if half else None,
                    "high": min(mean + half, 1) if half else None,
                    "n": n,
                },
                "errors": 17 if name == "quill-34b" else 0,
                "circuit": {"quill-34b": "open", "sage-70b": "half-open"}.get(name, "closed"),
                "in_flight": round(9 * shares[name]),
                "drained": name == "pocket-7b",
            }
        )
    return {
        "window_hours": hours,
        "queries": total + len(played.sent),
        "spend_usd": spend,
        "best_single": {"llm": "grand-1t", "usd": single},
        "saved_usd": single - spend,
        "saved_share": 1 - spend / single,
        "overhead_ms": {"p50": 5.8, "p99": 23.4},
        "feedback": {"n": 412 + len(played.feedback), "rate": 0.193},
        "llms": llms,
        "series": series,
        "ab": {
            "routed": {"queries": 1822, "quality": estimate(0.871, 0.021, 340), "usd_per_query": 0.000691},
            "control": {"queries": 322, "quality": estimate(0.842, 0.049, 71), "usd_per_query": 0.000342},
            "quality_difference": estimate(0.029, 0.055, 411),
            "usd_difference": estimate(0.000349, 0.00017, 2144),
        },
        "drift": {
            "judged": 340,
            "feedback_rate": 0.193,
            "bias": 0.021,
            "bias_low": -0.004,
            "bias_high": 0.046,
            "calibration_error": 0.041,
            "training_error": 0.032,
            "priced": 1822,
            "cost_log_ratio": -0.07,
            "measures": [
                {"name": "tag mix", "value": 0.012, "threshold": 0.03, "alarm": False, "words": ""},
                {"name": "embedding distance", "value": 0.4, "threshold": 0.25, "alarm": True, "words": "more law"},
            ],
        },
        "mode": "apply",
        "router": "88be5908cdac",
        "version": 3,
    }


def problem(status: int, message: str) -> JSONResponse:
    """An error in OpenAI's form."""
    return JSONResponse({"error": {"message": message, "type": "invalid_request_error"}}, status)


def fake_gateway(played: Played) -> FastAPI:
    """The application: the real console over a made-up API."""
    app = FastAPI()
    app.include_router(console_router())
    dice = random.Random(3)
    if played.traffic:
        a_day(played, dice, time.time())

    @app.middleware("http")
    async def keys(request: Request, go_on: Any) -> Any:
        given = request.headers.get("authorization")
        if played.key and request.url.path.startswith("/v1/") and given != f"Bearer {played.key}":
            return problem(401, "give an API key")
        return await go_on(request)

    @app.get("/v1/summary")
    async def sums(hours: float = 24) -> dict[str, Any]:
        return summary(played, hours, time.time())

    @app.get("/v1/decisions")
    async def latest(limit: int = 20) -> dict[str, Any]:
        hidden = ("decision", "calls")
        newest = played.decisions[::-1][:limit]
        return {"data": [{key: value for key, value in one.items() if key not in hidden} for one in newest]}

    @app.get("/v1/decisions/{name}", response_model=None)
    async def one(name: str) -> dict[str, Any] | JSONResponse:
        found = [stored for stored in played.decisions if stored["id"] == name]
        return found[0] if found else problem(404, f"decision {name!r} is unknown")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        names = ["auto", "auto:budget", "auto:careful", "auto:cheap", *LLMS]
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in names]}

    @app.post("/v1/route")
    async def route(request: Request) -> dict[str, Any]:
        asked = await request.json()
        played.looked.append(asked)
        decision = decided(1000 + len(played.looked), asked["messages"][0]["content"], dice)
        return {"id": decision["id"], "model": decision["llm"], "decision": decision}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> StreamingResponse:
        asked = await request.json()
        played.sent.append(asked)
        decision = decided(2000 + len(played.sent), asked["messages"][0]["content"], dice)
        stored = row(decision, time.time(), None, dice)
        played.decisions.append(stored)

        async def chunks() -> AsyncIterator[str]:
            words = ANSWER.split(" ")
            for place, word in enumerate(words):
                if played.breaks and place == 5:
                    yield f"data: {json.dumps({'error': {'message': 'upstream simulated broke off'}})}\n\n"
                    return
                delta = {"choices": [{"index": 0, "delta": {"content": word + " " * (place + 1 < len(words))}}]}
                yield f"data: {json.dumps(delta)}\n\n"
                await asyncio.sleep(0.02)
            yield f"data: {json.dumps({'choices': [], 'usage': {'total_tokens': 60}})}\n\n"
            yield "data: [DONE]\n\n"

        headers = {
            "x-symbiosis-decision": decision["id"],
            "x-symbiosis-model": decision["llm"],
            "x-symbiosis-propensity": str(decision["propensity"]),
            "x-symbiosis-expected-cost": str(stored["expected_cost_usd"]),
            "x-symbiosis-overhead-ms": "6.2",
            "x-symbiosis-fallbacks": "0",
        }
        return StreamingResponse(chunks(), media_type="text/event-stream", headers=headers)

    @app.post("/v1/feedback", response_model=None)
    async def feedback(request: Request) -> dict[str, Any] | JSONResponse:
        given = await request.json()
        before = played.feedback.setdefault(given["decision"], given["satisfied"])
        if before != given["satisfied"]:
            return problem(409, "the decision has other feedback already")
        for stored in played.decisions:
            if stored["id"] == given["decision"]:
                stored["feedback"] = {"satisfied": given["satisfied"], "quality": None, "source": "user"}
        return {"decision": given["decision"], "recorded": True}

    add_recommender(app, played.recommended)
    return app


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """Serve an application on loopback and return its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    uvicorn.run(fake_gateway(Played(traffic="empty" not in sys.argv)), port=int(sys.argv[1]))
