"""How a gateway serves: modes, A/B shares, failures of the router, conversations, keys, prices, versions."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gateway_world
import pytest
from starlette.testclient import TestClient

from symbiosis.gateway.config.reading import load
from symbiosis.gateway.requests.keys import new_key
from symbiosis.gateway.service.app import application
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.planning import MOST_EXPLAINED, explained
from symbiosis.routing.learning.feedback import Feedback

PATIENCE_S = 30.0
QUESTION = "Explain a database index and when it matters."
ADMIN = {"authorization": "Bearer operator"}


def body(text: str = QUESTION, model: str = "auto", **others: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **others}


class Door:
    """A gateway in this process, and a client at its door."""

    def __init__(self, client: TestClient, gateway: Gateway) -> None:
        self.client, self.gateway = client, gateway

    def ask(self, *, headers: dict[str, str] | None = None, **request: Any) -> Any:
        return self.client.post("/v1/chat/completions", json=body(**request), headers=headers)

    def stored(self, decision: str, calls: int = 1) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.client.get(f"/v1/decisions/{decision}").json()
            if len(found["calls"]) >= calls:
                return found
            time.sleep(0.01)
        raise AssertionError(found)

    def until(self, what: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def open_door(trained_folder: Path, llms_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = gateway_world.copied(trained_folder, tmp_path / "gateway")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SYMBIOSIS_ADMIN_KEY", "operator")

    @contextmanager
    def opened(**changes: Any) -> Iterator[Door]:
        app = application(load(gateway_world.write_config(folder, llms_address, **changes)))
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True) as client:
            yield Door(client, app.state.gateway)

    return opened


def test_observing_serves_the_default_and_logs_the_choice(open_door: Any) -> None:
    with open_door(mode="observe", default="quill-34b", policies={"cheap": {"trade_off": 0}}) as door:
        answer = door.ask(model="auto:cheap")
        assert answer.headers["x-symbiosis-model"] == "quill-34b"
        assert answer.json()["model"] == "quill-34b"
        told = door.stored(answer.headers["x-symbiosis-decision"])
        assert (told["mode"], told["served"], told["llm"], told["policy"]) == (
            "observe",
            "quill-34b",
            "pocket-7b",
            "cheap",
        )


def test_switched_off_nothing_is_decided(open_door: Any) -> None:
    with open_door(mode="off", default="quill-34b") as door:
        answer = door.ask()
        assert "x-symbiosis-propensity" not in answer.headers
        told = door.stored(answer.headers["x-symbiosis-decision"])
        assert (told["served"], told["mode"]) == ("quill-34b", "off")


def test_a_share_is_routed_and_a_conversation_stays_on_its_side(open_door: Any) -> None:
    with open_door(share=0.5, default="quill-34b", policies={"cheap": {"trade_off": 0}}) as door:
        modes = {}
        for number in range(30):
            named = {"x-symbiosis-conversation": f"talk {number}"}
            answers = [door.ask(model="auto:cheap", headers=named, max_tokens=1) for _ in range(2)]
            first, second = (answer.headers["x-symbiosis-mode"] for answer in answers)
            assert first == second
            modes[number] = first
            served = {answer.headers["x-symbiosis-model"] for answer in answers}
            assert served == ({"pocket-7b"} if first == "apply" else {"quill-34b"})
        assert set(modes.values()) == {"apply", "control"}


def test_exploration_tries_others_with_known_chances_but_not_within_a_conversation(open_door: Any) -> None:
    everything = {"kind": "epsilon", "amount": 1.0, "tried": 3}
    with open_door(exploration=everything, conversations={"keep": False}) as door:
        answers = [door.ask(text=f"{QUESTION} {number}", max_tokens=1) for number in range(24)]
        assert {answer.headers["x-symbiosis-propensity"] for answer in answers} == {"0.333333"}
        assert len({answer.headers["x-symbiosis-model"] for answer in answers}) == 3
        begun = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "An index is a sorted copy."},
            {"role": "user", "content": "And when does it hurt?"},
        ]
        later = door.client.post("/v1/chat/completions", json={"model": "auto", "messages": begun, "max_tokens": 1})
        assert later.headers["x-symbiosis-propensity"] == "1"


def test_a_router_that_fails_does_not_fail_the_request(open_door: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_door(default="quill-34b") as door:

        def broken(*_: Any, **__: Any) -> None:
            raise RuntimeError("boom")

        monkeypatch.setattr(door.gateway.engine, "decide", broken)
        answer = door.ask()
        assert (answer.status_code, answer.headers["x-symbiosis-model"]) == (200, "quill-34b")
        assert answer.headers["x-symbiosis-mode"] == "failed-open"
        assert "the router failed (RuntimeError)" in answer.headers["x-symbiosis-notice"]
        # What the client may not do is no failure of the router.
        assert door.ask(model="auto:nothing").status_code == 404


def test_a_store_that_fails_does_not_fail_the_answer_and_says_so(
    open_door: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from symbiosis.routing.serving.store import StoreUnavailable

    with open_door() as door:

        def locked(*_: Any) -> None:
            raise StoreUnavailable("the store is locked")

        with monkeypatch.context() as patch:
            patch.setattr(door.gateway.store, "write", locked)
            answer = door.ask()
        assert answer.status_code == 200
        assert "x-symbiosis-decision" not in answer.headers
        assert "could not be recorded" in answer.headers["x-symbiosis-notice"]


def test_a_tools_result_goes_to_the_llm_that_called_it_in_another_worker_too(open_door: Any) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    asked = [{"role": "user", "content": "call the weather tool"}]
    later = [
        *asked,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "weather"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "rain"},
    ]
    with open_door(policies={"cheap": {"trade_off": 0}, "best": {"trade_off": 1000}}) as door:
        send = door.client.post
        first = send("/v1/chat/completions", json={"model": "auto:best", "messages": asked, "tools": [tool]})
        caller = first.headers["x-symbiosis-model"]
        door.stored(first.headers["x-symbiosis-decision"])
        follow = {"model": "auto:cheap", "messages": later, "tools": [tool]}
        assert send("/v1/chat/completions", json=follow).headers["x-symbiosis-model"] == caller
        door.gateway.conversations._known.clear()  # as in another worker: the store knows
        assert send("/v1/chat/completions", json=follow).headers["x-symbiosis-model"] == caller
        fresh = send("/v1/chat/completions", json={"model": "auto:cheap", "messages": asked, "tools": [tool]})
        assert fresh.headers["x-symbiosis-model"] != caller


def test_a_conversation_so_far_counts_at_the_cached_price_where_it_is_cached(open_door: Any) -> None:
    with open_door() as door:
        first = door.ask(model="grand-1t", headers={"x-symbiosis-conversation": "one"})
        used = first.json()["usage"]["total_tokens"]
        door.stored(first.headers["x-symbiosis-decision"])
        door.until(lambda: len(door.gateway.conversations) == 1)
        talk = [
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "so it goes " * 400},
            {"role": "user", "content": QUESTION},
        ]
        arms = [
            {
                arm["llm"]: arm
                for arm in door.client.post(
                    "/v1/route",
                    json={"model": "auto", "messages": talk, "store": False},
                    headers={"x-symbiosis-conversation": name},
                ).json()["decision"]["arms"]
            }
            for name in ("one", "another")
        ]
        llm = door.gateway.llms["grand-1t"][1]
        saved = used * (llm.price_prompt - llm.price_cached) / 1e6
        assert arms[1]["grand-1t"]["cost_usd"] - arms[0]["grand-1t"]["cost_usd"] == pytest.approx(saved, rel=1e-9)
        assert arms[1]["forge-34b"]["cost_usd"] == pytest.approx(arms[0]["forge-34b"]["cost_usd"], rel=1e-9)


def test_keys_their_budgets_and_what_they_have_spent(open_door: Any) -> None:
    rich, poor = new_key(), new_key()
    entries = [
        {"name": "rich", "sha256": rich.sha256},
        {"name": "poor", "sha256": poor.sha256, "budget_usd": 1e-9, "period": "total"},
    ]
    with open_door(keys={"required": True, "entries": entries}) as door:
        assert door.ask().status_code == 401
        assert door.client.get("/v1/models").status_code == 401
        assert door.ask(headers={"authorization": "Bearer wrong"}).json()["error"]["code"] == "invalid_api_key"
        mine = {"authorization": f"Bearer {rich.secret}"}
        answer = door.ask(headers=mine)
        assert answer.status_code == 200
        told = door.client.get(f"/v1/decisions/{answer.headers['x-symbiosis-decision']}", headers=mine).json()
        assert told["api_key"] == "rich"
        theirs = {"authorization": f"Bearer {poor.secret}"}
        assert door.ask(headers=theirs).status_code == 200
        door.until(lambda: door.gateway.store.spent("poor", "total") > 0)
        door.gateway._spending.clear()
        refused = door.ask(headers=theirs)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
        assert door.client.get("/metrics").status_code == 401
        assert door.client.get("/metrics", headers=theirs).status_code == 200
        assert rich.secret not in (door.gateway.store.latest(10).__repr__())


def test_feedback_is_learned_and_taken_over(open_door: Any) -> None:
    with open_door() as door:
        answer = door.ask()
        decision = answer.headers["x-symbiosis-decision"]
        door.stored(decision)
        service = door.gateway.engine.service
        before = service.router.heads.precision.copy()
        told = door.client.post("/v1/feedback", json={"decision": decision, "quality": 0})
        assert told.json() == {"decision": decision, "accepted": "new"}
        door.until(lambda: service.lessons == 1)
        changed = (service.router.heads.precision != before).any(axis=(1, 2))
        chosen = service.router.llms.names.index(answer.headers["x-symbiosis-model"])
        assert changed.tolist() == [arm == chosen for arm in range(len(changed))]
        # The upstream has counted the answer's tokens; the user need not.
        (lesson,) = door.gateway.store.lessons()
        assert lesson.told == Feedback(0.0, float(answer.json()["usage"]["completion_tokens"]), None)


def test_an_operator_adds_removes_reprices_and_drains(open_door: Any) -> None:
    with open_door(policies={"cheap": {"trade_off": 0}}) as door:
        client = door.client
        assert client.post("/admin/reload").status_code == 403
        names = door.gateway.engine.names
        removed = client.delete("/admin/llms/pocket-7b", headers=ADMIN)
        assert removed.json() == {"llms": [name for name in names if name != "pocket-7b"]}
        assert door.ask(model="auto:cheap").headers["x-symbiosis-model"] != "pocket-7b"
        assert door.ask(model="pocket-7b").headers["x-symbiosis-mode"] == "explicit"
        added = client.post("/admin/llms", headers=ADMIN, json={"name": "pocket-7b"})
        assert added.json() == {"llms": [*(name for name in names if name != "pocket-7b"), "pocket-7b"]}
        assert client.post("/admin/llms", headers=ADMIN, json={"name": "pocket-7b"}).status_code == 409
        assert client.post("/admin/llms", headers=ADMIN, json={"name": "nobody"}).status_code == 404
        assert door.ask(model="auto:cheap").headers["x-symbiosis-model"] == "pocket-7b"
        price = {"price_prompt": 1e4, "price_response": 1e4}
        repriced = client.post("/admin/llms/pocket-7b/prices", headers=ADMIN, json=price)
        assert repriced.json()["price_prompt"] == 1e4
        assert door.ask(model="auto:cheap").headers["x-symbiosis-model"] != "pocket-7b"
        version = door.gateway.engine.service.signature[1]
        back = client.post("/admin/rollback/0", headers=ADMIN).json()
        assert back["version"] > version
        assert door.gateway.engine.names == names
        assert client.post("/admin/rollback/999", headers=ADMIN).status_code == 422
        drained = client.post("/admin/llms/forge-34b/drain", headers=ADMIN, json={}).json()
        assert drained == {"drained": ["forge-34b"]}
        assert client.get("/v1/summary").json()["llms"][names.index("forge-34b")]["drained"]
    # What was agreed on outlives the process, for it is in the store.
    with open_door() as door:
        assert door.gateway.is_drained("forge-34b")
        assert door.gateway.llm("pocket-7b").price_prompt == 1e4


def test_a_full_gateway_says_when_to_come_back(open_door: Any) -> None:
    with open_door(limits={"in_flight": 1, "retry_after_s": 7}) as door:
        door.gateway.enter()
        refused = door.ask()
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
        door.gateway.leave()
        assert door.ask().status_code == 200
        assert door.ask(model="auto:nothing").status_code == 404
        assert door.ask().status_code == 200  # a refused request takes no place


def test_a_body_beyond_the_limit_is_refused(open_door: Any) -> None:
    with open_door(limits={"body_mb": 0.001}) as door:
        assert door.ask(text="word " * 500).status_code == 413
        assert door.ask().status_code == 200


def test_an_explanation_of_many_llms_keeps_the_best_and_the_chosen(open_door: Any) -> None:
    with open_door() as door:
        decision = door.gateway.engine.service.route(QUESTION)
        assert explained(decision) == decision.to_dict()
        few = decision.to_dict([0, decision.arm])
        assert [arm["llm"] for arm in few["arms"]] == [decision.llms[arm] for arm in sorted({0, decision.arm})]
        assert len(decision.llms) < MOST_EXPLAINED
        json.dumps(few, allow_nan=False)


def test_an_allowed_origin_may_act_and_read(open_door: Any) -> None:
    page = {"origin": "https://app.example"}
    with open_door() as door:
        assert door.ask(headers=page).status_code == 403
    with open_door(listen={"allowed_origins": ["https://app.example"]}) as door:
        answer = door.ask(headers=page)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        assert "x-symbiosis-decision" in answer.headers["access-control-expose-headers"]
        preflight = {**page, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        assert door.client.options("/v1/chat/completions", headers=preflight).status_code == 200
