"""A look at a decision, as the console takes while one types: nothing is stored of it."""

import httpx


def test_a_look_is_no_decision(web: httpx.Client) -> None:
    asked = {"model": "auto", "messages": [{"role": "user", "content": "How long does this list take to sort?"}]}
    known = [one["id"] for one in web.get("/v1/decisions").json()["data"]]
    look = web.post("/v1/route", json=asked | {"store": False}).json()
    assert look["stored"] is False
    assert look["model"] == look["decision"]["llm"]
    assert [one["id"] for one in web.get("/v1/decisions").json()["data"]] == known
    assert web.post("/v1/feedback", json={"decision": look["id"], "satisfied": True}).status_code == 404
    asked_for = web.post("/v1/route", json=asked).json()
    assert asked_for["stored"] is True
    assert web.get("/v1/decisions").json()["data"][0]["id"] == asked_for["id"]
    assert [arm["llm"] for arm in asked_for["decision"]["arms"]] == [arm["llm"] for arm in look["decision"]["arms"]]
