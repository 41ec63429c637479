"""Whom the servers on loopback answer: no foreign host, and no page of another origin that would act."""

import sys
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from flows import prefect_server
from symbiosis.core.hosts import HostGuard
from symbiosis.gateway.simulation.guarded import guarded
from symbiosis.gateway.simulation.server import Simulation

OWN = "http://127.0.0.1:9000"
FOREIGN = [
    ({"host": "evil.example"}, "POST", 421),
    ({"host": "evil.example"}, "GET", 421),
    ({"host": ""}, "GET", 421),
    ({"host": "[::1"}, "GET", 421),
    ({"origin": "http://evil.example"}, "POST", 403),
    ({"origin": "null"}, "POST", 403),
    ({"origin": "http://127.0.0.1:9001"}, "DELETE", 403),
    ({"origin": "http://[bad"}, "POST", 421),
]


async def act(_: Any) -> PlainTextResponse:
    return PlainTextResponse("done")


async def listen(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


def plain() -> Starlette:
    return Starlette(routes=[Route("/", act, methods=["GET", "POST", "DELETE"]), WebSocketRoute("/in", listen)])


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `make serve` starts in the place of `prefect server start`, with a plain application inside."""
    import uvicorn
    from prefect.server.api import server

    served: list[Any] = []
    monkeypatch.setattr(server, "create_app", lambda final: plain())
    monkeypatch.setattr(uvicorn, "run", lambda app, **_: served.append(app))
    monkeypatch.setattr(sys, "argv", ["prefect_server", "--port", "9000"])
    for name in ("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", "PREFECT_SERVER_API_HOST", "PREFECT_SERVER_API_PORT"):
        monkeypatch.setenv(name, "")
    prefect_server.main()
    return served[0]


@pytest.mark.parametrize(("headers", "method", "status"), FOREIGN)
def test_foreign_pages_and_hosts_are_refused(headers: dict[str, str], method: str, status: int, prefect: Any) -> None:
    """By Prefect's server, by the simulated LLMs, and by the guard before the local one."""
    simulated = Simulation.open(speed=float("inf")).app()
    for app in (prefect, HostGuard(plain()), simulated, guarded("http://127.0.0.1:9", "key")):
        with TestClient(app, base_url=OWN) as client:
            assert client.request(method, "/", headers=headers).status_code == status


def test_own_pages_and_programs_may_act(prefect: Any) -> None:
    for app in (prefect, HostGuard(plain()), HostGuard(plain(), allowed_origins=["https://app.example"])):
        with TestClient(app, base_url=OWN) as client:
            for headers in ({}, {"origin": OWN}, {"host": "localhost:9000"}):
                assert client.post("/", headers=headers).text == "done"
    with TestClient(app, base_url=OWN) as client:
        assert client.post("/", headers={"origin": "https://app.example"}).text == "done"


def test_websockets_are_for_own_pages_and_programs(prefect: Any) -> None:
    """Events that come over one start flow runs, and no browser asks before it opens one."""
    with TestClient(prefect, base_url=OWN) as client:
        for headers in ({"origin": "http://evil.example", "host": "127.0.0.1:9000"}, {"host": "evil.example"}):
            with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/in", headers=headers):
                pass
            assert closed.value.code == 1008
        with client.websocket_connect("/in", headers={"origin": OWN, "host": "127.0.0.1:9000"}):
            pass


def test_an_llm_behind_the_guard_that_has_gone() -> None:
    with TestClient(guarded("http://127.0.0.1:9", "key"), base_url=OWN) as client:
        answer = client.post("/v1/chat/completions", content=b"{}")
        assert answer.status_code == 502
        assert answer.json()["error"]["message"] == "the LLM cannot be asked (ConnectError)"
