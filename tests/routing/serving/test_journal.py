"""The log of decisions: what a killed service knew is taken in again, and other policies can be judged by it."""

import os
import signal
import subprocess
import sys
import time
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
from symbiosis.routing.serving.journal import DecisionRecord, FeedbackRecord, Journal, lines
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.settings import ServiceSettings
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


def same(one: RoutingService, other: RoutingService) -> None:
    np.testing.assert_array_equal(one.router.heads.weights, other.router.heads.weights)
    np.testing.assert_array_equal(one.online.burn_in, other.online.burn_in)
    assert list(one.memory.records) == list(other.memory.records)
    for mine, theirs in zip(one.memory.records.values(), other.memory.records.values(), strict=True):
        np.testing.assert_array_equal(mine.vector, theirs.vector)
        assert replace(mine, vector=None) == replace(theirs, vector=None)
    assert one.memory.rewarded == other.memory.rewarded
    assert one.decisions == other.decisions


def test_a_journal_keeps_what_was_decided_and_told(router: Router, tmp_path: Path) -> None:
    service = service_of(router, settings=SETTINGS, journal=Journal(tmp_path / "new" / "log.jsonl"))
    ids = used(service)
    records = [line.record for line in lines(tmp_path / "new/log.jsonl")]
    decided = [record for record in records if isinstance(record, DecisionRecord)]
    assert [record.decision for record in decided] == ids
    assert [record for record in records if isinstance(record, FeedbackRecord)] == [
        FeedbackRecord(ids[1], 1.0, 70.0, None),
        FeedbackRecord(ids[0], 0.5, None, None),
        FeedbackRecord(ids[4], None, None, True),
    ]
    kept = service.memory.records[ids[2]]
    np.testing.assert_array_equal(decided[2].vector, kept.vector)
    assert replace(decided[2], vector=None) == replace(kept, vector=None)
    assert 0 < min(record.propensity for record in decided) < 1


def test_vectors_come_back_to_the_last_bit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    for dtype in (np.float32, np.float64):
        vector = np.random.default_rng(0).standard_normal(7).astype(dtype).astype(np.float64)
        journal.decided(DecisionRecord("t-0", "bio-mid", 1.0, 1.0, 2.0, 3.0, 0.5, vector))
        (*_, last) = lines(journal.path)
        np.testing.assert_array_equal(last.record.vector, vector)  # type: ignore[union-attr]


@pytest.mark.parametrize("objective", [lambda: TradeOff(1.4), lambda: Budget(1e-4)])
def test_what_came_after_the_last_save_is_taken_in_again(objective: Any, router: Router, tmp_path: Path) -> None:
    versions, log = Versions(tmp_path / "state"), Journal(tmp_path / "log.jsonl")
    clock = Clock()
    service = service_of(router, objective(), clock=clock, settings=SETTINGS, journal=log)
    service.add_llm("new", **NEW)
    used(service)
    snapshots.save(service, versions)
    ids = used(service, 10)
    service.feedback(ids[3], quality=0.0)
    twin = snapshots.load(versions, objective(), clock=clock, settings=SETTINGS, journal=Journal(log.path))
    same(twin, service)
    if isinstance(service.objective, Budget):
        assert (twin.objective.spent, twin.objective.price) == (service.objective.spent, service.objective.price)
    assert not twin.feedback(ids[3], quality=0.0)  # known
    with pytest.raises(InputError, match="has other feedback already"):
        twin.feedback(ids[3], quality=1.0)
    assert twin.feedback(ids[2], quality=0.0)
    # Once more from the same state: it now holds what the twin logged, too.
    same(snapshots.load(versions, objective(), clock=clock, settings=SETTINGS, journal=log), twin)


def test_an_older_version_or_a_state_without_a_log_is_loaded_as_it_was(router: Router, tmp_path: Path) -> None:
    versions, log = Versions(tmp_path / "state"), Journal(tmp_path / "log.jsonl")
    snapshots.save(service_of(router), versions)  # without a log
    assert snapshots.load(versions, TradeOff(1.4), journal=log).decisions == 0
    service = service_of(router, journal=log)
    snapshots.save(service, versions)
    used(service)
    snapshots.save(service, versions)
    used(service)
    assert snapshots.load(versions, TradeOff(1.4), version=2, journal=log).decisions == 0
    assert snapshots.load(versions, TradeOff(1.4), version=3, journal=log).decisions == 10
    assert snapshots.load(versions, TradeOff(1.4), journal=log).decisions == 20


def test_llms_that_are_not_there_are_passed_over(router: Router, tmp_path: Path) -> None:
    log = Journal(tmp_path / "log.jsonl")
    service = service_of(router, settings=ServiceSettings(burn_in=100), journal=log)
    service.add_llm("new", **NEW)
    decisions = [service.route(vector, 80) for vector in VECTORS[:40]]
    for decision in decisions:
        service.feedback(decision.id, quality=1.0)
    known = [decision for decision in decisions if decision.llm != "new"]
    assert 0 < len(known) < 40
    other = service_of(router)
    assert other.catch_up(line.record for line in lines(log.path)) == 2 * len(known)
    assert other.decisions == len(known)
    np.testing.assert_array_equal(other.router.heads.weights, service.router.heads.weights[:4])


def test_half_a_line_is_cut_off_and_a_damaged_one_is_told(router: Router, tmp_path: Path) -> None:
    log = Journal(tmp_path / "log.jsonl")
    used(service_of(router, journal=log))
    whole = log.path.read_bytes()
    for cut in (1, 10, len(whole.splitlines(keepends=True)[-1])):
        log.path.write_bytes(whole[:-cut])
        assert sum(1 for _ in lines(log.path)) == 12
        again = Journal(log.path)
        assert again.position == len(b"".join(whole.splitlines(keepends=True)[:-1]))
        again.rewarded("t-9", Feedback(1.0))
        assert list(lines(log.path))[-1].record == FeedbackRecord(
            feedback="t-9", quality=1.0, response_tokens=None, satisfied=None
        )
    first, second, *rest = whole.splitlines(keepends=True)
    log.path.write_bytes(first + second[:20] + b"\n" + b"".join(rest))
    with pytest.raises(InputError, match=rf"log.jsonl: the line from byte {len(first)} is damaged"):
        list(lines(log.path))
    with pytest.raises(InputError, match="is shorter than when the state was saved"):
        next(lines(log.path, 10**6))
    with pytest.raises(InputError, match="nowhere.jsonl is missing"):
        next(lines(tmp_path / "nowhere.jsonl"))


USER = """
import sys
sys.path[:0] = [{root!r}]
import numpy as np
from symbiosis.routing.serving import snapshots
from symbiosis.routing.serving.journal import Journal
from symbiosis.routing.policy.objectives import TradeOff
from symbiosis.routing.model.router import Router
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.versions import Versions
service = RoutingService(Router.load({router!r}), TradeOff(1.4), journal=Journal({log!r}))
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
    service = snapshots.load(Versions(names["state"]), TradeOff(1.4), journal=Journal(names["log"]))
    assert {line.strip() for line in told} <= service.memory.rewarded.keys()
    assert service.router.heads.updates.sum() == len(service.memory.rewarded) >= 50
