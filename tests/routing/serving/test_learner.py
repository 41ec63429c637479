"""The learner of gateways: learns each lesson once, whoever is killed, and running services take it over in place."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import ROOT, write_router
from test_workspace import encode

from symbiosis.routing.learning.serving_state import digest_of
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Budget
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.records import DecisionEntry
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.workspace import Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("trained")
    return {seed: write_router(folder / str(seed), seed) for seed in (0, 1)}


@pytest.fixture
def workspace(trained: dict[int, Path], tmp_path: Path) -> Workspace:
    shutil.copytree(trained[0], tmp_path / "router")
    return Workspace(tmp_path / "state", router=tmp_path / "router", encode=encode)


def decide(workspace: Workspace, service: RoutingService, text: str = "abc") -> str:
    """Decide as a gateway does: it writes for itself."""
    decision = service.route(text)
    workspace.store.write([DecisionEntry(decision.record, decision.llm, mode="apply")])
    return decision.id


def test_what_one_process_learns_the_others_take_over(workspace: Workspace) -> None:
    learner, serving, other = Learner(workspace), workspace.serving(), workspace.serving()
    assert learner.step() == 0
    assert not learner.reload(serving)
    ids = [decide(workspace, one) for one in (serving, other, serving)]
    start = serving.router.heads.weights.copy()
    assert other.feedback(ids[0], quality=1.0, response_tokens=50.0)
    assert serving.feedback(ids[1], satisfied=False)
    np.testing.assert_array_equal(serving.router.heads.weights, start)
    assert learner.step() == 1
    assert learner.step() is None
    for one in (serving, other):
        assert learner.reload(one)
        assert not learner.reload(one)
        assert one.signature[1] == 1
        assert (one.lessons, one.learned) == (2, 2)
    np.testing.assert_array_equal(serving.router.heads.weights, other.router.heads.weights)
    assert (serving.router.heads.weights != start).any()
    with workspace.service() as service:
        np.testing.assert_array_equal(service.router.heads.weights, serving.router.heads.weights)
        assert service.decisions == 3


def test_waits_budgets_draws_and_burn_in_of_a_running_service_stay(workspace: Workspace) -> None:
    budget = Budget(1e-7)
    learner, serving = Learner(workspace), workspace.serving(budget)
    for _ in range(5):
        decide(workspace, serving)
    waits = dict(zip(serving.router.llms.names, serving._backlog, strict=True))
    paced, draws = (budget.price, budget.spent), serving.online.rng.bit_generator.state
    workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    workspace.remove_llm("alge-mid")
    assert learner.reload(serving)
    names = serving.router.llms.names
    assert names == ("bio-mid", "dear-all", "poor-cheap", "new")
    assert serving._backlog.tolist() == [waits.get(name, 0.0) for name in names]
    assert max(waits.values()) > 0
    assert serving.objective is budget
    assert (budget.price, budget.spent) == paced
    assert budget.price > 0
    assert serving.online.rng.bit_generator.state == draws
    assert len(serving.online.burn_in) == len(serving.workers) == len(serving.online.log_deviation) == 4
    decide(workspace, serving)


def test_a_newer_trained_router_and_a_rollback_reach_running_services(
    workspace: Workspace, trained: dict[int, Path], tmp_path: Path
) -> None:
    learner, serving = Learner(workspace), workspace.serving()
    serving.feedback(decide(workspace, serving), quality=1.0)
    learner.step()
    learner.reload(serving)
    shutil.rmtree(tmp_path / "router")
    shutil.copytree(trained[1], tmp_path / "router")
    assert learner.step() == 2
    seen: list[Any] = []
    assert learner.reload(serving, seen.append)
    assert seen[0].signature == serving.signature == (digest_of(trained[1]), 2)
    assert serving.lessons == 1
    serving.feedback(decide(workspace, serving), quality=0.0)
    number = workspace.rollback(1)  # before the feedback was learned: it is still to come
    assert learner.reload(serving)
    assert serving.signature == (digest_of(trained[0]), number)
    assert learner.step() == number + 1
    learner.reload(serving)
    assert serving.lessons == 2


def test_the_command_line_learns_beside_a_learner(workspace: Workspace) -> None:
    learner, serving = Learner(workspace), workspace.serving()
    ids = [decide(workspace, serving) for _ in range(4)]
    serving.feedback(ids[0], quality=1.0)
    assert workspace.feedback(ids[1], quality=1.0)  # learns both
    assert [one.lessons for one in workspace.versions()] == [2]
    serving.feedback(ids[2], quality=1.0)
    assert learner.step() == 2
    assert [one.lessons for one in workspace.versions()] == [2, 3]


def test_a_service_of_another_encoder_gets_the_one_that_is_needed(workspace: Workspace) -> None:
    learner, serving = Learner(workspace), workspace.serving()
    workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    form = serving.form
    assert form is not None
    serving.form, serving.encode = form.model_copy(update={"maximum_tokens": 65}), None
    assert learner.reload(serving)
    assert serving.form == form
    assert serving.encode is encode
    assert "new" in serving.router.llms.names


LEARNING = """
import sys
sys.path[:0] = [{root!r}]
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.workspace import Workspace
learner = Learner(Workspace({state!r}, router={router!r}))
while True:
    if learner.step() is not None:
        print("learned", flush=True)
"""


def test_a_killed_learner_learns_every_lesson_once(workspace: Workspace, tmp_path: Path) -> None:
    serving = workspace.serving()
    ids = [decide(workspace, serving, "a" * (n % 7 + 1)) for n in range(30)]
    code = LEARNING.format(root=str(ROOT), state=str(tmp_path / "state"), router=str(tmp_path / "router"))
    told = iter(ids)
    for round_ in range(3):
        child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
        assert child.stdout is not None
        child.stdout.readline()
        for key in [next(told) for _ in range(8)]:
            serving.feedback(key, quality=1.0)
        time.sleep(0.01 * round_)  # somewhere in the middle of learning or saving
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    Learner(workspace).step()
    with workspace.service() as service:
        assert service.lessons == 24
        assert service.router.heads.updates.sum() - Router.load(tmp_path / "router").heads.updates.sum() == 24
