"""Two processes' worth of a gateway on one store: one of them learns, the other one follows and takes over."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import gateway_world
import pytest
from starlette.testclient import TestClient

from symbiosis.gateway.config.reading import load
from symbiosis.gateway.service.app import application
from symbiosis.gateway.service.gateway import Gateway
from symbiosis.gateway.service.learning import LEARNER, Learning
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.serving.records import DecisionEntry


@pytest.fixture
def opened(
    trained_folder: Path, llms_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Learning]:
    folder = gateway_world.copied(trained_folder, tmp_path / "gateway")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SYMBIOSIS_ADMIN_KEY", "operator")

    def learning(state: str) -> Learning:
        changes = {"state": state, "store": f"sqlite:///{tmp_path}/store.db", "exploration": {"kind": "epsilon"}}
        return Learning(load(gateway_world.write_config(folder, llms_address, **changes)))

    return learning


def told(learning: Learning, question: str) -> None:
    """Decide and give feedback, as a gateway does."""
    decision = learning.service.route(question)
    learning.store.write([DecisionEntry(decision.record, decision.llm, mode="apply")])
    assert learning.store.feedback(decision.id, Feedback(1.0), at=decision.record.at)


def test_another_one_takes_over_and_counts_each_lesson_once(opened: Callable[[str], Learning]) -> None:
    one, other = opened("a"), opened("b")
    for learning in (one, other, one, other):
        learning.step()
    assert (one.is_learner, other.is_learner) == (True, False)
    told(other, "Explain an index.")
    assert not other.step()
    assert one.step()
    assert other.step()
    assert (one.service.lessons, other.service.lessons) == (1, 1)
    told(one, "Explain a trigger.")
    one.close()
    assert not one.is_learner
    assert other.step()
    assert other.is_learner
    assert other.service.lessons == other.service.learned == 2
    assert json.loads(other.store.settings()[LEARNER])["instance"] == other.instance
    other.close()


def test_many_threads_make_one_learner(opened: Callable[[str], Learning]) -> None:
    both = [opened("a"), opened("b")]
    told(both[0], "Explain an index.")
    threads = [threading.Thread(target=learning.step) for learning in both * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(learning.is_learner for learning in both) == 1
    for learning in both:
        learning.step()
        assert learning.service.lessons == 1
        learning.close()


def test_a_gateway_says_who_learns(opened: Callable[[str], Learning]) -> None:
    one = opened("a")
    one.step()
    app = application(one._config.model_copy(update={"state": "b"}))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        gateway_world.eventually(
            lambda: client.get("/health/ready").json().get("learner") == {"instance": one.instance, "here": False},
            "that the gateway knows the learner",
        )
        assert "symbiosis_learner 0.0" in client.get("/metrics").text
        assert client.get("/admin/learner").status_code == 403
        one.close()
        gateway_world.eventually(lambda: client.get("/health/ready").json()["learner"]["here"], "that it takes over")
        admin = {"authorization": "Bearer operator"}
        said = client.get("/admin/learner", headers=admin).json()
        assert said["here"]
        assert said["instance"] == said["instance_here"] != one.instance
        gateway_world.eventually(lambda: "symbiosis_learner 1.0" in client.get("/metrics").text, "the metric")


def test_a_learner_knows_itself_before_it_reads_the_store(opened: Callable[[str], Learning]) -> None:
    gateway = Gateway(opened("a")._config)
    gateway._learner = {"instance": "another one", "host": "elsewhere", "pid": 1, "since": 0.0}
    assert gateway.learner()["instance"] == "another one"
    gateway.learning.step()
    told = gateway.learner()
    assert told["here"]
    assert told["instance"] == gateway.learning.instance
    assert told == {**json.loads(gateway.store.settings()[LEARNER]), "instance_here": told["instance"], "here": True}
    gateway.learning.close()
