"""The router of a folder where a champion serves: taken over when the link moves, and taken back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from routing_world import FORM, write_router
from test_workspace import encode

from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.routing.learning.serving_state import FILE, digest_of
from symbiosis.routing.model.router import MANIFEST
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.records import DecisionEntry
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.workspace import Workspace

COPIES = Path(".champions/router/versions")
Promote = Callable[[str], str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("trained")
    return {name: write_router(folder / name, seed) for seed, name in enumerate(("first", "second"))}


@pytest.fixture
def promote(trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Promote:
    """Lets a router serve as a registry does, and returns its digest; the workspace has trained the first one."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained["first"], "models/router")

    def promoted(name: str) -> str:
        if not (COPIES / name).exists():
            shutil.copytree(trained[name], COPIES / name / "models/router")
        draft = COPIES.parent / "draft"
        draft.symlink_to(Path("versions", name))
        draft.replace(COPIES.parent / "current")
        return digest_of(trained[name])

    return promoted


def decide(workspace: Workspace, service: RoutingService) -> str:
    """Decide as a gateway does: it writes for itself."""
    decision = service.route("abc")
    workspace.store.write([DecisionEntry(decision.record, decision.llm, mode="apply")])
    return decision.id


def test_the_champion_serves_as_soon_as_there_is_one(promote: Promote, trained: dict[str, Path]) -> None:
    workspace = Workspace(encode=encode)
    assert workspace.route("abc").router == digest_of(trained["first"])
    assert workspace.notices == []
    second = promote("second")
    assert workspace.route("abc").router == second
    assert workspace.notices == [
        f"models/router ({digest_of(trained['first'])}) does not serve: the champion in .champions ({second}) does, "
        "until `symbiosis models promote router`"
    ]
    promote("first")
    assert workspace.route("abc").router == digest_of(trained["first"])
    assert workspace.notices == []


def test_what_was_learned_goes_along_there_and_back(promote: Promote) -> None:
    first = promote("first")
    workspace = Workspace(encode=encode)
    assert workspace.feedback(workspace.route("abc").id, quality=1.0)
    for name in ("second", "first", "second"):
        digest = promote(name)
        decision = workspace.route("abc")
        assert decision.router == digest
        assert f"{COPIES / name}/models/router has a newer router ({digest}): taken over" in workspace.notices[-1]
        assert workspace.versions()[-1].lessons == 1
    assert first != digest


@pytest.mark.parametrize("learned", [False, True])
def test_running_services_follow_the_link(learned: bool, promote: Promote) -> None:
    """Whether or not a version was saved before."""
    promote("first")
    workspace = Workspace(encode=encode)
    learner, serving, other = Learner(workspace), workspace.serving(), workspace.serving()
    learner.step()
    if learned:
        serving.feedback(decide(workspace, serving), quality=1.0)
        learner.step()
    for name in ("second", "first"):
        digest = promote(name)
        learner.step()
        for one in (serving, other):
            assert learner.reload(one)
            assert not learner.reload(one)
            assert one.signature[0] == digest
            assert one.lessons == learned
    assert serving.feedback(decide(workspace, serving), quality=1.0)
    learner.step()
    assert learner.reload(serving)
    assert serving.lessons == learned + 1


def test_a_champion_with_another_encoder(promote: Promote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its encoder comes with it; decisions with the vectors of the former one teach it nothing."""
    monkeypatch.setattr(Workspace, "encoder", lambda _, form: lambda text: np.eye(16)[len(text) % form.maximum_tokens])
    promote("first")
    workspace = Workspace()
    learner, serving = Learner(workspace), workspace.serving()
    learner.step()
    earlier = decide(workspace, serving)
    promote("second")
    folder = COPIES / "second/models/router"
    told = read_json(folder / FILE)
    form = FORM.model_copy(update={"maximum_tokens": 2})
    write_json(folder / FILE, told | {"vectors": form.model_dump(), "router_sha256": sha256_of(folder / MANIFEST)})
    learner.step()
    assert learner.reload(serving)
    assert serving.form == form
    assert serving.encode is not None
    np.testing.assert_array_equal(serving.encode("abc"), np.eye(16)[1])
    later = decide(workspace, serving)
    start = serving.router.heads.weights.copy()
    serving.feedback(earlier, quality=1.0)
    learner.step()
    learner.reload(serving)
    np.testing.assert_array_equal(serving.router.heads.weights, start)
    serving.feedback(later, quality=1.0)
    learner.step()
    assert learner.reload(serving)
    assert (serving.router.heads.weights != start).any()


def test_a_champion_whose_copy_is_gone(promote: Promote) -> None:
    promote("second")
    shutil.rmtree(COPIES)
    workspace = Workspace(encode=encode)
    assert workspace.route("abc").router == digest_of("models/router")
    assert workspace.notices == [
        "the champion that .champions/router/current names is not there, models/router serves: "
        "`symbiosis models pull` fetches it"
    ]
