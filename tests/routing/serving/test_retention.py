"""What a store forgets, and what it must not: lessons that a version needs, budgets, ids and numbers."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routing_world import write_router
from test_workspace import encode

from symbiosis.core.errors import InputError
from symbiosis.routing.learning.feedback import Feedback
from symbiosis.routing.policy.objectives import Budget
from symbiosis.routing.serving import retention as retaining
from symbiosis.routing.serving.exporting import freeze
from symbiosis.routing.serving.records import CallEntry, DecisionEntry, DecisionRecord
from symbiosis.routing.serving.retention import Pruned, Retention
from symbiosis.routing.serving.storage import forgetting
from symbiosis.routing.serving.store import FeedbackConflict, Store, Telling, UnknownDecision
from symbiosis.routing.serving.workspace import Workspace

DAY = 86_400.0
NOW = 1_000 * DAY


def entry(number: int, at: float, **values: Any) -> DecisionEntry:
    record = DecisionRecord(f"d-{number}", "bio-mid", at, 0.5, 80.0, 1e-4, 0.5, np.arange(4.0))
    return replace(DecisionEntry(record, "bio-mid", "apply", details={"arms": []}), **values)


def call(number: int) -> CallEntry:
    return CallEntry(f"d-{number}", 1, "bio-mid", "here", NOW, 200, cost_usd=0.25, api_key="app")


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path}/store.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with Store(str(url)) as opened:
        yield opened


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


@pytest.fixture
def workspace(trained: Path, tmp_path: Path) -> Workspace:
    shutil.copytree(trained, tmp_path / "router")
    return Workspace(tmp_path / "state", router=tmp_path / "router", encode=encode)


def test_each_kind_goes_up_to_where_it_may(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "ROWS", 2)  # several transactions
    store.write([entry(number, NOW + number) for number in range(1, 11)])
    store.write([call(number) for number in range(1, 11)])
    store.write([entry(11, NOW + 11, served="alge-mid")])
    told = [Telling(f"d-{number}", Feedback(0.5, None, None), NOW + 20) for number in (2, 4, 6, 8)]
    assert store.tell(told) == [True] * 4
    store.number_lessons()
    assert store.forget_explanations(3) == 3
    assert [one.entry.record.decision for one in store.latest(20) if one.entry.details is None] == ["d-3", "d-2", "d-1"]
    assert store.forget_unanswered(7) == 4
    assert store.forget_unanswered(7) == 0
    kept = [one.entry.record.decision for one in store.latest(20)]
    assert kept == ["d-11", "d-10", "d-9", "d-8", "d-6", "d-4", "d-2"]
    assert sorted(store.calls_frame()["decision"]) == ["d-10", "d-2", "d-4", "d-6", "d-8", "d-9"]
    assert store.forget_lessons(2) == 2
    assert [one.number for one in store.lessons()] == [3, 4]
    assert store.decision("d-2") is None
    # What a key has spent is not forgotten, and numbers go on.
    assert store.spent("app", "total") == pytest.approx(2.5)
    assert store.feedback("d-10", Feedback(1.0, None, None), at=NOW + 30)
    assert store.number_lessons() == 5
    assert store.forget_explanations(11) == len([6, 8, 9, 10])
    # Another LLM answered than was chosen: its lesson needs the explanation.
    assert store.latest(1)[0].entry.details == {"arms": []}


def test_the_newest_decision_stays_so_that_sequences_go_on(store: Store) -> None:
    store.write([entry(1, NOW), entry(2, NOW)])
    assert store.sequence_at(NOW) == 0
    position = store.position()
    assert store.sequence_at(NOW + 1) == position - 1
    store.forget_unanswered(store.sequence_at(NOW + 1))
    assert store.position() == position


def test_feedback_in_a_group_is_as_if_it_came_one_by_one(store: Store) -> None:
    store.write([entry(number, NOW) for number in range(1, 5)])
    store.write([entry(5, NOW, served=None)])
    good, bad = Feedback(1.0, None, None), Feedback(0.0, None, None)
    outcomes = store.tell(
        [
            Telling("d-1", good, NOW, idempotency_key="once"),
            Telling("d-1", good, NOW, idempotency_key="once"),
            Telling("d-1", bad, NOW),
            Telling("d-2", bad, NOW, idempotency_key="once"),
            Telling("d-3", bad, NOW, source="check:shape"),
            Telling("d-3", good, NOW),
            Telling("d-5", good, NOW),
            Telling("nobody", good, NOW),
            Telling("d-4", good, NOW + 2 * DAY),
            Telling("d-4", good, NOW),
        ],
        lifetime_s=DAY,
    )
    assert outcomes[:2] == [True, False]
    assert [type(one).__name__ for one in outcomes[2:4]] == ["FeedbackConflict"] * 2
    assert outcomes[4:6] == [True, True]
    assert [type(one).__name__ for one in outcomes[6:9]] == ["NothingServed", "UnknownDecision", "UnknownDecision"]
    assert outcomes[9] is True
    kept = {row["decision"]: (row["quality"], row["source"]) for row in store.feedback_frame().to_dicts()}
    assert kept == {"d-1": (1.0, "user"), "d-3": (1.0, "user"), "d-4": (1.0, "user")}
    with pytest.raises(InputError, match="its LLM 'bio-mid' was removed"):
        store.feedback("d-2", good, at=NOW, llms=("dear-all",))


def test_old_decisions_go_and_the_state_goes_on_as_before(
    workspace: Workspace,
) -> None:
    """Budgets, lessons and exports are the same with and without what was forgotten."""
    with workspace.service(Budget(1e-5)) as service:
        old = [service.route(f"old {number}").id for number in range(6)]
        for key in old[:2]:
            service.feedback(key, quality=1.0)
    new = workspace.route("new").id
    later = workspace.store.latest(1)[0].entry.record.at + 100 * DAY
    with workspace.service(Budget(1e-5)) as service:
        before = service.decisions, service.lessons, service.budget.price, service.budget.spent
        weights = service.router.heads.weights.copy()
    pruned = workspace.prune(now=later)
    assert pruned.decisions + 2 == len(old)
    assert workspace.prune(now=later) == Pruned()
    with workspace.service(Budget(1e-5)) as service:
        assert (service.decisions, service.lessons, service.budget.price, service.budget.spent) == before
        np.testing.assert_array_equal(service.router.heads.weights, weights)
    store = workspace.store
    assert [one.entry.record.decision for one in store.every()] == [*old[:2], new]
    with pytest.raises(FeedbackConflict):
        workspace.feedback(old[0], quality=0.0)
    with pytest.raises(UnknownDecision):
        workspace.feedback(old[5], quality=0.0)
    assert workspace.feedback(new, quality=1.0)
    assert freeze(store, workspace._versions.folder / "exports") is not None


def test_decisions_without_any_feedback_are_bounded_too(workspace: Workspace) -> None:
    """Nothing was learned, so there is no version yet: one is written, as budgets need what is deleted."""
    ids = [workspace.route(f"text {number}").id for number in range(4)]
    now = workspace.store.latest(1)[0].entry.record.at + 100 * DAY
    assert workspace.newest() == 0
    assert workspace.prune(now=now).decisions == len(ids) - 1
    assert workspace.newest() == 1
    with workspace.service() as service:
        assert service.decisions == len(ids)


def test_feedback_stays_while_a_version_might_learn_it_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retaining, "LEAST_LESSONS", 1)
    ids = [workspace.route(f"text {number}").id for number in range(5)]
    for key in ids:
        workspace.feedback(key, quality=1.0)
    # Five versions; the first has learned one lesson, and would need the others again.
    assert workspace.prune(Retention(lessons=1)).lessons == 1
    with workspace.service() as service:
        lessons, weights = service.lessons, service.router.heads.weights.copy()
    newest = workspace.newest()
    (workspace._versions.folder / f"v{newest:08d}" / "service.json").write_text("half")
    with workspace.service() as service:
        assert service.lessons == lessons
        np.testing.assert_allclose(service.router.heads.weights, weights, rtol=1e-9)
    assert workspace.rollback(2) > newest
    with workspace.service() as service:
        assert service.lessons == 2


@pytest.mark.parametrize(("given", "name"), [({"days": 1.0}, "days"), ({"lessons": 10}, "lessons")])
def test_less_than_feedback_needs_is_refused(given: dict[str, Any], name: str) -> None:
    with pytest.raises(InputError, match=f"`{name}` is .*: keep at least"):
        Retention(**given)


def test_a_program_without_a_gateway_forgets_now_and_then(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many versions, or where so much was asked that the newest version is written anew."""
    done: list[int] = []
    monkeypatch.setattr(Workspace, "prune", lambda self: done.append(self.newest()))
    monkeypatch.setattr("symbiosis.routing.serving.workspace.PRUNED_EVERY", 2)
    ids = [workspace.route(f"text {number}").id for number in range(4)]
    for key in ids:
        workspace.feedback(key, quality=1.0)
    assert done == [2, 4]
    monkeypatch.setattr("symbiosis.routing.serving.workspace.TAIL", 1)
    workspace.route_many(["one", "two"])
    assert done == [2, 4]
    workspace.route("three")
    assert done == [2, 4, 4]
