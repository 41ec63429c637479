"""The recommender's part of the gateway that plays: users, items, recommendations, champions and verdicts."""

from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

TITLES = ("Brass Teapot", "Copper <b>Kettle</b>", "Tea Cosy", "Garden Gloves", "Watering Can", "Music Stand")
CHECKS: list[dict[str, Any]] = [
    {"name": "utility", "passed": True, "value": 0.021, "low": 0.008, "high": 0.034, "threshold": -0.01,
     "words": "utility is .021 higher", "decides": True},
    {"name": "calibration", "passed": True, "value": -0.002, "low": None, "high": None, "threshold": 0.02,
     "words": "calibration error is not larger", "decides": True},
]  # fmt: skip
LOOP: dict[str, Any] = {
    "router": {
        "champion": {"name": "symbiosis-router", "version": 2, "digest": "88be5908cdac", "at": "2026-11-27T02:09:11Z"},
        "verdict": {
            "standing": "passed", "candidate": {"version": 2, "digest": "88be5908cdac"},
            "champion": {"version": 1, "digest": "0c1d2e3f4a5b"},
            "words": "router version 2 passes against version 1: utility is .021 higher", "checks": CHECKS,
        },
        "history": [{"at": "2026-11-27T02:09:11Z", "action": "promote", "version": 2, "because": None}],
    },
    "recommender": {
        "champion": None,
        "verdict": {
            "standing": "refused", "candidate": {"version": 1, "digest": "aabbccddeeff"}, "champion": None,
            "words": "recommender version 1 is refused: recall@20 is .031 lower",
            "checks": [{**CHECKS[0], "passed": False, "value": -0.031, "low": -0.05, "high": -0.012}],
        },
        "history": [],
    },
    "last_run": {
        "flow": "nightly", "began": "2026-11-28T02:00:00Z", "seconds": 312.0, "words": "router promoted",
        "stages": [{"stage": "clean", "outcome": "unchanged", "seconds": 0.9},
                   {"stage": "router-train", "outcome": "ran", "seconds": 7.5}],
    },
}  # fmt: skip


def add_recommender(app: FastAPI, asked: list[dict[str, Any]]) -> None:
    """Add the endpoints; what was asked for is noted."""

    @app.get("/v1/users")
    async def users(prefix: str = "", count: int = 10) -> dict[str, Any]:
        return {"users": [name for name in ("A1", "A2", "B7") if name.startswith(prefix)][:count]}

    @app.get("/v1/items")
    async def items(query: str = "", count: int = 10) -> dict[str, Any]:
        found = [(item, title) for item, title in enumerate(TITLES) if query.lower() in title.lower()]
        return {"items": [{"item_id": f"I{item}", "title": title, "users": 3} for item, title in found[:count]]}

    @app.post("/v1/recommendations", response_model=None)
    async def recommendations(request: Request) -> dict[str, Any] | JSONResponse:
        body = await request.json()
        asked.append(body)
        if body.get("user") == "nobody":
            return JSONResponse({"error": {"message": "user 'nobody' is unknown"}}, 422)
        rows = [
            {"rank": rank, "item_id": f"I{rank}", "title": title, "brand": "Velston",
             "price": 12.5 if rank % 2 else None,
             "score": -float(rank), "similarity": None, "reason": f"bought with {TITLES[0]} by {9 - rank} others",
             **({"written_reason": "I like tea."} if body.get("written") else {})}
            for rank, title in enumerate(TITLES[1:], start=1)
        ]  # fmt: skip
        note = None if body.get("user") else "a guest: the session's items speak alone"
        return {"items": rows[: body.get("count", 10)], "method": "model", "note": note, "model": "1a2b3c4d5e6f"}

    @app.get("/v1/loop")
    async def loop() -> dict[str, Any]:
        return LOOP
