"""A service on a store: what a killed one knew is taken in again, and each lesson is learned exactly once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import ROOT, train_params
from test_service import NEW, VECTORS, Clock, service_of, trained

from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.model.router import Router
from symbiosis.routing.policy.objectives import Budget, TradeOff
from symbiosis.routing.serving import snapshots
from symbiosis.routing.serving.records import DecisionEntry
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.versions import Versions

SETTINGS = ServiceSettings(exploration="softmax", amount=0.3, burn_in=3)


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    # A loaded router's arrays lie in memory as those of the twin that is loaded later.
    folder = tmp_path_factory.mktemp("trained") / "router"
    trained(train_params()).save(folder)
    return Router.load(folder)


def used(service: RoutingService, start: int = 0) -> list[str]:
    """Route ten queries and give feedback of every kind to some."""
    ids = [service.route(vector, 80).id for vector in VECTORS[start : start + 10]]
    service.feedback(ids[1], quality=1.0, response_tokens=70)
    service.feedback(ids[0], quality=0.5)
    service.feedback(ids[4], satisfied=True)
    return ids


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.in_file(tmp_path / "store.db") as opened:
        yield opened


def same(one: RoutingService, other: RoutingService) -> None:
    np.testing.assert_array_equal(one.router.heads.weights, other.router.heads.weights)
    np.testing.assert_array_equal(one.online.burn_in, other.online.burn_in)
    assert (one.decisions, one.lessons, one.learned) == (other.decisions, other.lessons, other.learned)


def told_of(store: Store) -> list[tuple[str, Feedback]]:
    store.number_lessons()
    return [(lesson.record.decision, lesson.told) for lesson in store.lessons()]


def test_a_store_keeps_what_was_decided_and_told(router: Router, store: Store) -> None:
    service = service_of(router, settings=SETTINGS, store=store)
    ids = used(service)
    decided = list(store.every())
    assert [one.entry.record.decision for one in decided] == ids
    told = [(ids[1], Feedback(1.0, 70.0)), (ids[0], Feedback(0.5)), (ids[4], Feedback(satisfied=True))]
    assert told_of(store) == told
    assert not service.memory.records
    decision = service.route(VECTORS[0], 80)
    kept = store.decision(decision.id)
    assert kept is not None
    np.testing.assert_array_equal(kept.entry.record.vector, VECTORS[0])
    assert replace(kept.entry.record, vector=None) == replace(decision.record, vector=None)
    assert (kept.entry.served, kept.entry.mode) == (decision.llm, "library")
    assert 0 < min(one.entry.record.propensity for one in decided) < 1


@pytest.mark.parametrize("objective", [lambda: TradeOff(1.4), lambda: Budget(1e-4)])
def test_what_came_after_the_last_save_is_taken_in_again(
    objective: Any, router: Router, store: Store, tmp_path: Path
) -> None:
    versions = Versions(tmp_path / "state")
    clock = Clock()
    service = service_of(router, objective(), clock=clock, settings=SETTINGS, store=store)
    service.add_llm("new", **NEW)
    used(service)
    snapshots.save(service, versions)
    ids = used(service, 10)
    service.feedback(ids[3], quality=0.0)
    with Store.in_file(tmp_path / "store.db") as same_store:
        twin = snapshots.load(versions, objective(), clock=clock, settings=SETTINGS, store=same_store)
        same(twin, service)
        if isinstance(service.objective, Budget):
            assert isinstance(twin.objective, Budget)
            assert (twin.objective.spent, twin.objective.price) == (service.objective.spent, service.objective.price)
        assert not twin.feedback(ids[3], quality=0.0)  # known
        with pytest.raises(InputError, match="has other feedback already"):
            twin.feedback(ids[3], quality=1.0)
        assert twin.feedback(ids[2], quality=0.0)
        # Once more from the same state: the store now holds what the twin was told, too.
        same(snapshots.load(versions, objective(), clock=clock, settings=SETTINGS, store=store), twin)


def test_corrections_of_a_budget_come_in_their_order(router: Router, store: Store, tmp_path: Path) -> None:
    versions, clock, budget = Versions(tmp_path / "state"), Clock(), Budget(1e-5)
    service = service_of(router, budget, clock=clock, store=store)
    snapshots.save(service, versions)
    for vector in VECTORS[:20]:
        clock.now += 1
        decision = service.route(vector, 80)
        clock.now += 1
        service.feedback(decision.id, quality=1.0, response_tokens=5000)
    twin = snapshots.load(versions, Budget(1e-5), clock=clock, store=store)
    assert budget.price > 0
    assert (twin.budget.price, twin.budget.spent) == (budget.price, budget.spent)


def test_decisions_of_others_count_towards_pacing_once(router: Router, store: Store, tmp_path: Path) -> None:
    versions = Versions(tmp_path / "state")
    one = service_of(router, Budget(1e-5), store=store, session="one")
    other = service_of(router, Budget(1e-5), store=store, session="other")
    for vector in VECTORS[:10]:
        one.route(vector, 80)
        other.route(vector, 80)
    snapshots.save(one, versions)
    assert one.decisions == 20
    other.route(VECTORS[0], 80)
    one.route(VECTORS[0], 80)
    snapshots.save(one, versions)
    assert one.decisions == 22
    assert snapshots.load(versions, Budget(1e-5), store=store, session="one").decisions == 22


def test_an_older_version_or_a_state_without_a_store_is_loaded_as_it_was(
    router: Router, store: Store, tmp_path: Path
) -> None:
    versions = Versions(tmp_path / "state")
    snapshots.save(service_of(router), versions)  # without a store
    assert snapshots.load(versions, TradeOff(1.4), store=store).decisions == 0
    service = service_of(router, store=store)
    snapshots.save(service, versions)
    used(service)
    snapshots.save(service, versions)
    used(service)
    assert snapshots.load(versions, TradeOff(1.4), version=2, store=store).decisions == 0
    assert snapshots.load(versions, TradeOff(1.4), version=3, store=store).decisions == 10
    assert snapshots.load(versions, TradeOff(1.4), store=store).decisions == 20


def test_llms_that_are_not_there_are_passed_over(router: Router, store: Store) -> None:
    service = service_of(router, settings=ServiceSettings(burn_in=100), store=store)
    other = service_of(router, store=store, session="other")
    service.add_llm("new", **NEW)
    decisions = [service.route(vector, 80) for vector in VECTORS[:40]]
    for decision in decisions:
        service.feedback(decision.id, quality=1.0)
    known = [decision for decision in decisions if decision.llm != "new"]
    assert 0 < len(known) < 40
    assert other.catch_up() == 2 * len(known)
    assert (other.decisions, other.learned) == (len(known), 40)
    np.testing.assert_array_equal(other.router.heads.weights, service.router.heads.weights[:4])


def test_a_service_that_only_decides_leaves_writing_and_learning_to_others(router: Router, store: Store) -> None:
    service = service_of(router, store=store, learns=False, writes=False)
    decision = service.route(VECTORS[0], 80)
    assert store.decision(decision.id) is None
    store.write([DecisionEntry(decision.record, "dear-all", mode="apply")])
    assert service.feedback(decision.id, quality=1.0)
    assert not service.feedback(decision.id, quality=1.0)
    np.testing.assert_array_equal(service.router.heads.weights, router.heads.weights)
    assert store.news() == (0, True)
    learner = service_of(router, store=store, session="learner")
    assert learner.learn_new() == 1
    assert (learner.router.heads.updates - router.heads.updates).tolist() == [0, 0, 1, 0]  # dear-all answered


USER = """
import sys
sys.path[:0] = [{root!r}]
import numpy as np
from symbiosis.routing.serving import snapshots
from symbiosis.routing.serving.store import Store
from symbiosis.routing.policy.objectives import TradeOff
from symbiosis.routing.model.router import Router
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.versions import Versions
service = RoutingService(Router.load({router!r}), TradeOff(1.4), store=Store.in_file({log!r}))
snapshots.save(service, Versions({state!r}))
vector = np.full(16, 0.25)
while True:
    decision = service.route(vector, 80).id
    service.feedback(decision, quality=1.0)
    print(decision, flush=True)
"""


def test_a_killed_service_loses_nothing_that_it_told(router: Router, tmp_path: Path) -> None:
    router.save(tmp_path / "router")
    names = {name: str(tmp_path / name) for name in ("router", "log", "state")}
    code = USER.format(root=str(ROOT), **names)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(50)]
    time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    told += [line for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.wait()
    child.stdout.close()
    with Store.in_file(names["log"]) as store:
        service = snapshots.load(Versions(names["state"]), TradeOff(1.4), store=store)
        service.learn_new()  # what was acknowledged, but not learned before the end
        rewarded = [key for key, _ in told_of(store)]
    assert {line.strip() for line in told} <= set(rewarded)
    assert service.router.heads.updates.sum() == len(rewarded) == len(set(rewarded)) >= 50
