"""From feedback to the next router and back into service: each lesson is learned once."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from routing_world import FORM, LLMS, ROOT, split_of, train_params, write_data, write_router

from stages import collect_feedback, router_train
from symbiosis.core.artifacts import read_json, sha256_of
from symbiosis.core.params import read_document
from symbiosis.routing.data import training_texts
from symbiosis.routing.data.logged import Logged
from symbiosis.routing.data.outcomes import Split
from symbiosis.routing.data.params import CollectFeedbackParams
from symbiosis.routing.learning.serving_state import Lessons, ServingState, digest_of
from symbiosis.routing.model.router import Router
from symbiosis.routing.serving.exporting import freeze
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.serving.workspace import Workspace

EXPLORING = ServiceSettings(exploration="softmax", amount=0.2)
ALL = CollectFeedbackParams(maximum_age_days=None, maximum_rows=None)
HELD_OUT = {"weight": "inverse", "clip": 10, "holdout_share": 0.2}


class Stream:
    """Queries by their text, and users who tell how the answers were."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def encode(self, text: str) -> np.ndarray:
        return self.split.embeddings[int(text.split()[-1])].astype(np.float32)

    def play(self, workspace: Workspace, first: int, last: int) -> None:
        """Route queries and give feedback: in turn quality with length, quality alone, and satisfied or not."""
        for number in range(first, last):
            decision = workspace.route(f"query {number}")
            quality = float(self.split.outcomes.quality[number, decision.arm])
            tokens = float(self.split.outcomes.response_tokens[number, decision.arm])
            told: dict[str, Any] = {"quality": quality}
            if number % 3 == 0:
                told["response_tokens"] = tokens
            elif number % 3 == 1:
                told = {"satisfied": quality > 0.5}
            assert workspace.feedback(decision.id, **told)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


@pytest.fixture
def stream() -> Stream:
    return Stream(split_of(80, 77))


@pytest.fixture
def workspace(trained: Path, tmp_path: Path, stream: Stream) -> Workspace:
    shutil.copytree(trained, tmp_path / "router")
    return Workspace(tmp_path / "state", router=tmp_path / "router", encode=stream.encode, settings=EXPLORING)


def retrain(folder: Path, stores: dict[str, list[int]]) -> Router:
    """Put another router in the place of the first, which is said to be trained on lessons of stores."""
    shutil.rmtree(folder / "router")
    pairs = [(store, number) for store, numbers in stores.items() for number in numbers]
    write_router(folder / "router", 1, Lessons.of([store for store, _ in pairs], [number for _, number in pairs]))
    return Router.load(folder / "router")


def learned(workspace: Workspace, start: Router) -> int:
    """How many lessons the router has learned beyond its training, once it was taken over."""
    with workspace.service() as service:
        return int(service.router.heads.updates.sum() - start.heads.updates.sum())


def test_lessons_that_a_router_was_trained_on_are_not_learned_again(
    workspace: Workspace, stream: Stream, tmp_path: Path
) -> None:
    stream.play(workspace, 0, 8)
    newer = retrain(tmp_path, {workspace.store.key: [1, 2, 4, 5]})  # the third was held out
    assert learned(workspace, newer) == 4
    stream.play(workspace, 8, 10)  # after the cut
    assert learned(workspace, newer) == 6


def test_the_notice_tells_what_training_knows(workspace: Workspace, stream: Stream, tmp_path: Path) -> None:
    stream.play(workspace, 0, 5)
    retrain(tmp_path, {workspace.store.key: [1, 2, 3]})
    workspace.route("query 0")
    assert workspace.notices[0].endswith("with 2 lessons kept, beside 3 that it was trained on")


def test_what_all_was_trained_on_leaves_the_router_as_it_was_trained(
    workspace: Workspace, stream: Stream, tmp_path: Path
) -> None:
    stream.play(workspace, 0, 6)
    newer = retrain(tmp_path, {workspace.store.key: [1, 2, 3, 4, 5, 6]})
    with workspace.service() as service:
        np.testing.assert_array_equal(service.router.heads.weights, newer.heads.weights)
        assert service.learned == 6
    stream.play(workspace, 6, 7)
    assert learned(workspace, newer) == 1


def test_lessons_of_another_store_are_all_learned(workspace: Workspace, stream: Stream, tmp_path: Path) -> None:
    stream.play(workspace, 0, 6)
    newer = retrain(tmp_path, {"f" * 16: [1, 2, 3, 4, 5, 6]})
    assert learned(workspace, newer) == 6


def test_a_new_state_on_an_old_store_learns_only_what_training_has_not(
    workspace: Workspace, stream: Stream, tmp_path: Path
) -> None:
    stream.play(workspace, 0, 6)
    newer = retrain(tmp_path, {workspace.store.key: [1, 2, 3]})
    url = f"sqlite:///{tmp_path}/state/store.db"
    fresh = Workspace(tmp_path / "fresh", router=tmp_path / "router", encode=stream.encode, store=url)
    assert learned(fresh, newer) == 3
    fresh.store.close()


def test_the_form_of_vectors_is_noted_for_training(workspace: Workspace, tmp_path: Path) -> None:
    workspace.route("query 0")
    noted = workspace.store.forms()
    assert noted == {digest_of(tmp_path / "router"): FORM.model_dump_json()}


def test_from_served_queries_to_a_router_that_knows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: Stream
) -> None:
    """Serve 60 queries with feedback, freeze, collect, train: another router, which learns nothing twice."""
    monkeypatch.chdir(tmp_path)
    document: Any = read_document(ROOT / "params.yaml")
    Path("params.yaml").write_text(yaml.safe_dump(document))
    write_data(tmp_path, offline=120)
    params = train_params(logged=HELD_OUT)
    collect_feedback.work(ALL)
    router_train.work(params)
    before, digest = sha256_of("models/router/router.safetensors"), sha256_of("data/logged/outcomes.parquet")
    report = read_json("reports/router_train.json")
    assert "logged" not in report

    workspace = Workspace(encode=stream.encode, settings=EXPLORING)
    stream.play(workspace, 0, 60)
    store = workspace.store
    assert freeze(store) is not None
    assert freeze(store) is None
    collect_feedback.work(ALL)
    assert sha256_of("data/logged/outcomes.parquet") != digest
    counts = read_json("reports/collect_feedback.json")
    assert (counts["kept"], counts["binary"], counts["with_propensity"]) == (60, 20, 60)
    logged = Logged.load("data/logged/outcomes.parquet")
    texts = [hashlib.sha256(f"query {number}".encode()).hexdigest() for number in range(60)]
    assert logged.frame["query"].to_list() == texts
    assert (logged.frame["propensity"] < 1).any()
    np.testing.assert_array_equal(logged.vectors, stream.split.embeddings[:60].astype(np.float32))

    router_train.work(params)
    assert sha256_of("models/router/router.safetensors") != before
    told = read_json("reports/router_train.json")["logged"]
    held = logged.held_out(0.2)
    assert (told["answers"], told["held_out"]) == (60 - held.sum(), held.sum())
    assert sum(told["by_llm"].values()) == told["answers"]
    trained_on = ServingState.load("models/router").trained_on.of_store(store.key)
    assert np.flatnonzero(trained_on).tolist() == (np.flatnonzero(~held) + 1).tolist()
    known = training_texts.load("models/router")
    assert known is not None
    own = training_texts.digests_of(f"query {number}" for number in range(60))
    np.testing.assert_array_equal(np.isin(own, known), ~held)
    start = Router.load("models/router")
    assert learned(workspace, start) == held.sum()
    assert set(start.llms.names) == set(LLMS.names)

    # Nothing new: the same files, so that DVC runs nothing again.
    once = {path: sha256_of(path) for path in ("models/router", "data/logged", "reports")}
    assert freeze(store) is None
    collect_feedback.work(ALL)
    router_train.work(params)
    assert {path: sha256_of(path) for path in once} == once
    assert json.loads(Path("models/router/serving.json").read_text())["format"] == 1
    store.close()
