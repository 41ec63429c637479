"""What the last release left behind is taken over, and answers what it answered then; or one line says what to do.

`tests/golden` holds it, made by the release itself: see tests/golden/make.py. Older router states are tested in
tests/routing/serving/test_old_states.py.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from symbiosis.core.errors import InputError
from symbiosis.core.params import OLDER, read_document
from symbiosis.core.serving import current, serving_folder
from symbiosis.gateway.config import reading
from symbiosis.params import BLOCKS, validate
from symbiosis.recommender.inference.asking import RecommendationRequest
from symbiosis.recommender.inference.recommender import Recommender
from symbiosis.registry.bundles import of_folder
from symbiosis.routing.serving.exporting import freeze
from symbiosis.routing.serving.store import FeedbackConflict
from symbiosis.routing.serving.workspace import Workspace

RELEASE = "release_d5b1690"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(Path(__file__).parent / "golden" / f"{RELEASE}.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder / RELEASE


@pytest.fixture(scope="module")
def expected(unpacked: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((unpacked / "expected.json").read_text())
    return told


def encode(text: str) -> np.ndarray:
    return np.eye(16)[len(text) % 3]


def test_the_state_goes_on_with_the_same_decisions_lessons_and_spending(
    unpacked: Path, expected: dict[str, Any]
) -> None:
    then = expected["state"]
    workspace = Workspace(unpacked / ".router", router=unpacked / "models/router", encode=encode)
    store = workspace.store
    assert store.key == then["key"]
    assert store.settings() == then["settings"]
    assert store.spent("app", "total") == then["spent"]
    assert [one.entry.record.decision for one in store.every()] == then["ids"]
    assert [[one.number, one.record.decision] for one in store.lessons()] == then["numbered"]
    assert [[one.number, one.lessons, one.current] for one in workspace.versions()] == then["versions"]
    with workspace.service() as service:
        assert list(service.router.llms.names) == then["llms"]
        assert (service.lessons, service.decisions) == (then["lessons"], then["decisions"])
        weights = service.router.heads.weights
        assert weights.sum() == pytest.approx(then["weights_sum"], rel=1e-12)
        assert np.abs(weights).sum() == pytest.approx(then["weights_abs_sum"], rel=1e-12)
    assert freeze(store, unpacked / "exports") is not None
    assert all(workspace.feedback(key, quality=1.0) for key in then["awaiting"])
    with pytest.raises(FeedbackConflict):
        workspace.feedback(then["numbered"][0][1], quality=0.123)
    assert workspace.route("abc").id not in then["ids"]
    assert workspace.rollback(0) > then["versions"][-1][0]
    store.close()


def test_the_champion_serves(unpacked: Path, expected: dict[str, Any], tmp_path: Path) -> None:
    folder = current("router", unpacked)
    assert folder is not None
    assert folder.name == of_folder("router", folder).digest == expected["champion"]
    assert serving_folder("router", unpacked) == folder
    workspace = Workspace(tmp_path / "state", router=folder / "models/router", encode=encode)
    assert workspace.route("abc").llm in expected["state"]["llms"]
    workspace.store.close()


def test_the_recommender_recommends_the_same(unpacked: Path, expected: dict[str, Any]) -> None:
    recommender = Recommender.open(unpacked / "models/recommender")
    asked = {
        "user": RecommendationRequest(user="Ann", count=3),
        "text": RecommendationRequest(text="garden gloves", count=3),
    }
    found = {name: [one.item_id for one in recommender.recommend(request).items] for name, request in asked.items()}
    assert found == expected["recommender"]


def test_the_gateways_config_is_read(unpacked: Path) -> None:
    config = reading.load(unpacked / "gateway.yaml")
    assert (config.default, config.mode) == ("small", "apply")
    assert config.retention.days == 90  # it came later, and has its default


def said_of(document: dict[str, object]) -> str:
    """What is said of params; empty where they are right."""
    try:
        validate(document)
    except InputError as error:
        return str(error)
    return ""


def test_params_are_read_or_a_line_says_what_to_do(unpacked: Path) -> None:
    said = said_of(read_document(unpacked / "params.yaml"))
    assert said == "" or (said.startswith("params.yaml: ") and said.endswith(OLDER))
    assert "\n" not in said


def test_keys_that_came_and_went_are_all_named_in_one_line(unpacked: Path) -> None:
    document: dict[str, Any] = {name: dict(read_document()[name]) for name in BLOCKS}  # type: ignore[call-overload]
    del document["gate"], document["finetune"]["seed"]
    document["download"]["sourse"] = "local"
    assert said_of(document) == (
        "params.yaml: `download.sourse`: unknown key; `finetune.seed`: missing key; the block `gate` is missing: "
        + OLDER
    )
