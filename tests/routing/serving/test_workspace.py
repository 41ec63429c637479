"""The router of a folder: versions, going back, budgets, and a newer trained router."""

import shutil
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import LLMS, write_router

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.learning.serving_state import FILE, ServingState, digest_of
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Budget, TradeOff
from symbiosis.routing.serving.workspace import Workspace


def encode(text: str) -> np.ndarray:
    return np.eye(16)[len(text) % 3]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("trained")
    return {seed: write_router(folder / str(seed), seed) for seed in (0, 1)}


@pytest.fixture
def workspace(trained: dict[int, Path], tmp_path: Path) -> Workspace:
    shutil.copytree(trained[0], tmp_path / "router")
    return Workspace(tmp_path / "state", router=tmp_path / "router", encode=encode)


def retrain(folder: Path, trained: dict[int, Path]) -> str:
    """Put the other router in the place of the first, as the pipeline does."""
    shutil.rmtree(folder / "router")
    shutil.copytree(trained[1], folder / "router")
    return digest_of(folder / "router")


def weights(workspace: Workspace) -> np.ndarray:
    with workspace.service() as service:
        return service.router.heads.weights.copy()


def test_the_operating_point_and_what_feedback_means_come_from_training(
    workspace: Workspace, trained: dict[int, Path]
) -> None:
    known = ServingState.load(trained[0])
    with workspace.service() as service:
        assert service.objective == TradeOff(known.trade_off)
        assert service.online.experience == known.experience
        assert service.online.experience.noise.own < 0.25
    told = workspace.route("abc").to_dict()
    assert (told["trade_off"], told["router"], told["version"]) == (1.4, digest_of(trained[0]), 0)
    wanted = {"llm", "quality", "quality_low", "quality_high", "cost_usd", "wait_s", "score"}
    assert wanted <= told["arms"][0].keys()
    assert {arm["llm"] for arm in told["arms"]} == set(LLMS.names)


def test_asking_writes_no_version_and_rollback_goes_back_one_lesson(workspace: Workspace) -> None:
    start = weights(workspace)
    first = workspace.route("abc")
    assert workspace.feedback(first.id, quality=1.0)
    after_one = weights(workspace)
    second = workspace.route("ab")
    assert workspace.feedback(second.id, quality=0.0)
    for _ in range(20):
        last = workspace.route("abc")
    assert [astuple(one)[0::2] for one in workspace.versions()] == [(1, 1), (2, 2)]
    assert last.version == 2
    assert workspace.rollback(1) == 3
    np.testing.assert_array_equal(weights(workspace), after_one)
    assert workspace.feedback(last.id, quality=1.0)  # still awaited
    assert workspace.rollback(0) == 5
    np.testing.assert_array_equal(weights(workspace), start)
    with pytest.raises(InputError, match="no version 9"):
        workspace.rollback(9)


def test_feedback_after_a_rollback_counts_once(workspace: Workspace) -> None:
    ids = [workspace.route("abc").id for _ in range(2)]
    for key in ids:
        workspace.feedback(key, quality=1.0)
    workspace.rollback(1)
    before = weights(workspace)
    assert not workspace.feedback(ids[1], quality=1.0)
    with pytest.raises(InputError, match="has other feedback already"):
        workspace.feedback(ids[1], quality=0.0)
    np.testing.assert_array_equal(weights(workspace), before)
    assert [lesson.record.decision for lesson in workspace.store.lessons()] == ids


def test_a_budgets_pacing_survives_everything(workspace: Workspace) -> None:
    def pacing(objective: Any = None) -> tuple[float, float]:
        with workspace.service(objective) as service:
            return service.budget.price, service.budget.spent

    kept = workspace.route("ab").id
    workspace.feedback(kept, quality=1.0)
    ids = [workspace.route("abc", Budget(1e-7)).id for _ in range(5)]
    paced = pacing()
    assert paced[0] > 0
    assert paced == pacing(Budget(1e-7))
    workspace.feedback(ids[0], quality=1.0)
    workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    workspace.route("abcd")
    workspace.remove_llm("new")
    assert pacing() == paced
    workspace.rollback(1)
    assert pacing() == pytest.approx(paced, rel=1e-12)
    workspace.feedback(ids[1], quality=1.0, response_tokens=5000)  # dearer than was expected
    assert pacing()[1] > paced[1]


def test_a_newer_router_is_taken_over_with_what_was_learned(
    workspace: Workspace, trained: dict[int, Path], tmp_path: Path
) -> None:
    ids = [workspace.route("a" * n).id for n in range(1, 7)]
    for key in ids[:4]:
        workspace.feedback(key, quality=1.0, response_tokens=100.0)
    workspace.rollback(3)  # the fourth lesson is taken back
    digest = retrain(tmp_path, trained)
    decision = workspace.route("abc")
    assert (decision.router, decision.version) == (digest, 6)
    assert workspace.notices == [
        f"{tmp_path / 'router'} has a newer router ({digest}): taken over as version 6, with 3 lessons kept"
    ]
    expected = Router.load(tmp_path / "router")
    with workspace.service() as service:
        assert workspace.notices == []
        assert service.router.heads.updates.sum() == expected.heads.updates.sum() + 3
        assert (service.router.heads.weights != expected.heads.weights).any()
    assert workspace.feedback(ids[4], quality=0.0)  # decided by the older router
    with pytest.raises(InputError, match="has other feedback already"):
        workspace.feedback(ids[3], quality=0.0)
    # Going back before it: the newer router is not taken over a second time.
    workspace.rollback(3)
    assert workspace.route("abc").router == digest_of(trained[0])
    assert workspace.notices == []


def test_a_newer_router_that_does_not_fit_what_was_learned_is_refused_aloud(
    workspace: Workspace, trained: dict[int, Path], tmp_path: Path
) -> None:
    workspace.remove_llm("dear-all")
    digest = retrain(tmp_path, trained)
    decision = workspace.route("abc")
    assert decision.router == digest_of(trained[0])
    (notice,) = workspace.notices
    assert f"({digest}) is not taken over: what was learned belongs to other LLMs (dear-all on one side" in notice
    assert workspace.adopt() == 2
    assert workspace.route("abc").router == digest


def test_nothing_learned_is_nothing_to_lose(workspace: Workspace, trained: dict[int, Path], tmp_path: Path) -> None:
    before = workspace.route("abc")
    digest = retrain(tmp_path, trained)
    assert workspace.route("abc").router == digest
    assert workspace.feedback(before.id, quality=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "serving.json is missing: delete .* and run `dvc repro router-train`"),
        (lambda path: write_json(path, read_json(path) | {"trade_off": -1}), "`trade_off`"),
        (
            lambda path: write_json(path, read_json(path) | {"router_sha256": "0" * 64}),
            "does not belong to router.json",
        ),
    ],
)
def test_a_serving_state_that_does_not_fit_is_refused(
    workspace: Workspace, tmp_path: Path, change: Any, message: str
) -> None:
    change(tmp_path / "router" / FILE)
    with pytest.raises(InputError, match=message) as caught:
        workspace.route("abc")
    assert "\n" not in str(caught.value)


def test_probe_answers_are_learned_as_the_study_learns_them(workspace: Workspace) -> None:
    texts = ["a" * n for n in range(1, 40)]
    workspace.add_llm(
        "new",
        price_prompt=1e-6,
        price_response=2e-6,
        texts=texts,
        quality=np.array([float(len(text) % 3 == 0) for text in texts]),
        response_tokens=np.full(len(texts), 80.0),
    )
    good, bad = (workspace.route(text).to_dict()["arms"][-1] for text in ("abc", "ab"))
    assert good["llm"] == bad["llm"] == "new"
    assert good["quality"] > bad["quality"] + 0.2
