"""Recommendations at the gateway's door: what is answered, what is refused, and how another bundle takes over."""

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gateway_world
import polars as pl
import pytest
from recommender_world import TITLES, USERS, write_recommender
from starlette.testclient import TestClient

from symbiosis.core import layout
from symbiosis.core.artifacts import write_json
from symbiosis.gateway.config.reading import check, load
from symbiosis.gateway.recommending.body import RecommendationAnswer
from symbiosis.gateway.requests.keys import new_key
from symbiosis.gateway.service.app import application
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.graph.build import build_graph
from symbiosis.graph.params import BuildGraphParams
from symbiosis.recommender.inference.asking import RecommendationRequest
from symbiosis.recommender.inference.recommender import Recommender

PATIENCE_S = 30.0


class Door:
    """A gateway in this process, and a client at its door."""

    def __init__(self, client: TestClient, gateway: Gateway) -> None:
        self.client, self.gateway = client, gateway

    def ask(self, **body: Any) -> Any:
        return self.client.post("/v1/recommendations", json=body)

    def ready(self) -> "Door":
        until(lambda: self.gateway.recommending.described()["ready"])
        return self


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recommender(tmp_path_factory.mktemp("bundles") / "bundle")


@pytest.fixture
def opened(trained_folder: Path, llms_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    folder = gateway_world.copied(trained_folder, tmp_path / "gateway")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("symbiosis.gateway.service.gateway.PAUSE_S", 0.02)

    @contextmanager
    def open_door(**changes: Any) -> Iterator[Door]:
        app = application(load(gateway_world.write_config(folder, llms_address, **changes)))
        with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True) as client:
            yield Door(client, app.state.gateway)

    return open_door


def promote(bundle: Path, digest: str) -> None:
    """Make a version the champion, as `symbiosis.registry.champions` does."""
    versions = Path(".champions/recommender/versions")
    shutil.copytree(bundle, versions / digest)
    write_json(versions / digest / "version.json", {"digest": digest})
    link = layout.CHAMPION_RECOMMENDER
    link.with_name("next").symlink_to(Path("versions") / digest)
    link.with_name("next").replace(link)


def test_the_door_gives_what_the_recommender_gives(opened: Any, bundle: Path) -> None:
    here = Recommender.open(bundle)
    asked: list[dict[str, Any]] = [
        {"user": "Ann"},
        {"user": 1, "count": 2},
        {"session": ["B0", "B2"]},
        {"user": "Ann", "session": ["B5"]},
        {"text": "garden gloves", "text_weight": 3, "count": 2},
        {"user": "Ben", "categories": ["kitchen"], "excluded": ["B3"], "repeat_purchases": True},
        {"user": "Nobody"},
        {"user": "Ann", "allowed": []},
    ]
    with opened(recommender={"folder": str(bundle)}) as door:
        door.ready()
        for body in asked:
            answer = door.ask(**body)
            assert answer.status_code == 200, answer.text
            told = answer.json()
            RecommendationAnswer.model_validate(told)
            lists = {name: tuple(value) for name, value in body.items() if isinstance(value, list)}
            expected = here.recommend(RecommendationRequest(**(body | lists)))
            assert (told["method"], told["note"], told["model"]) == (expected.method, expected.note, here.parts.digest)
            assert [item["item_id"] for item in told["items"]] == [item.item_id for item in expected.items]
            for item, one in zip(told["items"], expected.items, strict=True):
                assert item == {name: getattr(one, name) for name in item}
        assert told["items"] == []
        page = door.client.get("/metrics").text
        assert f'symbiosis_recommendations_total{{method="model"}} {len(asked) - 2}.0' in page
        assert f"symbiosis_recommendation_seconds_count {len(asked)}.0" in page


def test_the_reason_is_counted_and_words_are_written_on_request(opened: Any, bundle: Path) -> None:
    with opened(recommender={"folder": str(bundle)}) as door:
        door.ready()
        told = door.ask(user="Ben", text="steel teapot", repeat_purchases=True, count=1).json()["items"][0]
        assert told["reason"].startswith("like your words: steel, teapot")
        assert "written_reason" not in told
        written = door.ask(user="Ben", count=2, written=True).json()
        assert all(item["written_reason"] for item in written["items"])
        assert written["note"] is None
        guest = door.ask(session=["B0"], written=True).json()
        assert "no reasons are written for a guest" in guest["note"]
        assert not any("written_reason" in item for item in guest["items"])
        refused = door.ask(user="Ben", count=11, written=True)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "too_many_written")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "whom to recommend to is missing"),
        ({"user": "Ann", "count": 0}, "`count`: Input should be greater than or equal to 1"),
        ({"user": "Ann", "colour": "red"}, "`colour`: Extra inputs are not permitted"),
        ({"user": True}, "`user"),
        ({"user": "Ann", "price_from": 5, "price_to": 4}, "price_from 5.0 is above price_to 4.0"),
        ({"text": " "}, "the text is empty"),
        ({"text": "zeppelin"}, "'zeppelin' has no word that several"),
    ],
)
def test_bad_requests_are_refused_in_one_line(opened: Any, bundle: Path, body: dict[str, Any], message: str) -> None:
    with opened(recommender={"folder": str(bundle)}) as door:
        answer = door.ready().ask(**body)
    assert answer.status_code == 422
    assert message in answer.json()["error"]["message"]
    assert "\n" not in answer.json()["error"]["message"]


def test_without_a_bundle_the_rest_of_the_gateway_serves(opened: Any) -> None:
    with opened() as door:
        for answer in (door.ask(user="Ann"), door.client.get("/v1/users"), door.client.get("/v1/items?query=x")):
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "no_recommender")
            assert answer.json()["error"]["message"].startswith("there is no trained recommender")
        assert door.client.post("/v1/route", json={"model": "auto", "messages": [{"role": "user", "content": "x"}]})
    with opened(recommender={"enabled": False}) as door:
        assert "switched off" in door.ask(user="Ann").json()["error"]["message"]


def test_while_it_is_loaded_clients_are_told_to_come_back(
    opened: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, really = threading.Event(), Recommender.open

    def slowly(folder: Any = None) -> Recommender:
        assert go_on.wait(PATIENCE_S)
        return really(folder)

    monkeypatch.setattr(Recommender, "open", slowly)
    with opened(recommender={"folder": str(bundle)}) as door:
        try:
            answer = door.ask(user="Ann")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "being loaded" in answer.json()["error"]["message"]
            until(lambda: door.client.get("/health/ready").status_code == 200)  # the router does not wait for it
        finally:
            go_on.set()
        assert door.ready().ask(user="Ann").status_code == 200
        told = door.client.get("/health/ready").json()["recommender"]
        assert told == {"ready": True, "model": door.ask(user="Ann").json()["model"]}


def test_a_slow_answer_does_not_keep_others_waiting(opened: Any, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(recommender={"folder": str(bundle)}) as door:
        door.ready()
        begun, go_on, answers = threading.Event(), threading.Event(), []
        really = door.gateway.recommending.answer

        def slowly(*arguments: Any) -> Any:
            begun.set()
            assert go_on.wait(PATIENCE_S)
            return really(*arguments)

        monkeypatch.setattr(door.gateway.recommending, "answer", slowly)
        asking = threading.Thread(target=lambda: answers.append(door.ask(user="Ann")))
        asking.start()
        try:
            assert begun.wait(PATIENCE_S)
            assert door.client.get("/health/live").status_code == 200
            assert answers == []
        finally:
            go_on.set()
            asking.join()
        assert answers[0].status_code == 200


def test_keys_count_here_too(opened: Any, bundle: Path) -> None:
    made = new_key()
    entry = {"name": "shop", "sha256": made.sha256, "per_minute": 1}
    with opened(recommender={"folder": str(bundle)}, keys={"required": True, "entries": [entry]}) as door:
        door.ready()
        mine = {"authorization": f"Bearer {made.secret}"}
        for path in ("/v1/users", "/v1/items?query=tea"):
            assert door.client.get(path).status_code == 401
        assert door.ask(user="Ann").status_code == 401
        assert door.client.post("/v1/recommendations", json={"user": "Ann"}, headers=mine).status_code == 200
        again = door.client.post("/v1/recommendations", json={"user": "Ann"}, headers=mine)
        assert (again.status_code, again.json()["error"]["code"]) == (429, "rate_limit_exceeded")


def test_items_are_found_by_their_titles_and_users_by_their_ids(opened: Any, bundle: Path) -> None:
    with opened(recommender={"folder": str(bundle)}) as door:
        door.ready()

        def items(query: str, **others: Any) -> list[str]:
            found = door.client.get("/v1/items", params={"query": query, **others}).json()["items"]
            return [item["title"] for item in found]

        assert items("Garden") == ["red garden glove", "blue garden glove"]  # the first one was taken by a user
        assert items("teapot steel") == ["steel teapot"]
        assert items("b4") == ["B4"]
        assert items("garden", count=1) == ["red garden glove"]
        assert items("%_.*") == items("  ") == []
        assert door.client.get("/v1/items?query=b0").json()["items"][0] == {
            "item_id": "B0", "title": TITLES[0], "users": 1
        }  # fmt: skip
        assert door.client.get("/v1/users?prefix=B").json() == {"users": ["Ben"]}
        assert door.client.get("/v1/users?count=2").json() == {"users": ["Ann", "Ben"]}
        for path in ("/v1/items?query=x&count=0", "/v1/users?count=1000", f"/v1/items?query={'x' * 201}"):
            assert door.client.get(path).status_code == 422


def test_a_promoted_bundle_takes_over_without_a_dropped_request(opened: Any, bundle: Path) -> None:
    promote(bundle, "first")
    with opened() as door:
        door.ready()
        seen: list[tuple[int, str]] = []
        ended = threading.Event()

        def keep_asking() -> None:
            while not ended.is_set():
                answer = door.ask(user="Ann")
                seen.append((answer.status_code, answer.json()["model"]))

        clients = [threading.Thread(target=keep_asking) for _ in range(2)]
        for client in clients:
            client.start()
        try:
            until(lambda: len(seen) > 5)
            promote(bundle, "second")
            until(lambda: seen[-1][1] == "second")
            # Back to the first one, as a rollback does.
            link = layout.CHAMPION_RECOMMENDER
            link.with_name("next").symlink_to("versions/first")
            link.with_name("next").replace(link)
            until(lambda: seen[-1][1] == "first")
        finally:
            ended.set()
            for client in clients:
                client.join()
        assert {status for status, _ in seen} == {200}
        assert {model for _, model in seen} == {"first", "second"}


def test_a_damaged_bundle_replaces_nothing_and_is_told_once(
    opened: Any, bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    promote(bundle, "sound")
    damaged = Path("damaged")
    shutil.copytree(bundle, damaged)
    (damaged / layout.FINETUNED / "training.json").write_text("{")
    with caplog.at_level(logging.WARNING, "symbiosis.gateway"), opened() as door:
        door.ready()
        promote(damaged, "broken")
        until(lambda: bool(caplog.records))
        time.sleep(0.2)  # further looks: ten of them
        assert door.ask(user="Ann").json()["model"] == "sound"
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the former one stays" in line
    assert "training.json is not valid JSON" in line
    with opened(recommender={"folder": str(damaged)}) as door:
        until(lambda: "cannot be loaded" in door.ask(user="Ann").json()["error"]["message"])


def test_new_items_are_recommended_and_their_file_is_read_again(opened: Any, bundle: Path) -> None:
    known = Path(shutil.copytree(bundle, "known"))
    items, train = (pl.read_parquet(known / path) for path in (layout.ITEMS, layout.TRAIN))
    build_graph(USERS, items, train, BuildGraphParams(minimum_group=2, maximum_group_share=0.9)).save(
        known / layout.GRAPH
    )
    file = Path("new.jsonl")
    file.write_text(json.dumps({"item_id": "N1", "title": "green garden glove", "categories": ["Garden"]}) + "\n")
    settings = {"folder": str(known), "new_items": str(file)}
    with opened(recommender=settings) as door:
        door.ready()

        def found() -> set[str]:
            return {item["item_id"] for item in door.ask(text="garden glove", count=20).json()["items"]}

        assert "N1" in found()
        file.write_text(json.dumps({"item_id": "N2", "title": "garden rake"}) + "\n")
        until(lambda: "N2" in found())
        assert "N1" not in found()


def test_a_missing_folder_is_noticed_by_the_check(opened: Any, bundle: Path) -> None:
    config = load(gateway_world.write_config(Path(), "http://127.0.0.1:1/v1"))
    for name in ("folder", "new_items"):
        given = config.recommender.model_copy(update={name: "nowhere"})
        notices = check(config.model_copy(update={"recommender": given}), environment={})
        assert any(f"`recommender.{name}`: nowhere is missing" in line for line in notices)
        off = given.model_copy(update={"enabled": False})
        assert not any("nowhere" in line for line in check(config.model_copy(update={"recommender": off})))
