"""Gateways that share a store and no folder: one learns, the others take it over from the store, each lesson once."""

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from routing_world import write_router
from sqlalchemy import text
from test_learner import decide
from test_workspace import encode

from symbiosis.core.errors import InputError
from symbiosis.routing.model.router import Router
from symbiosis.routing.serving.learner import Learner
from symbiosis.routing.serving.settings import ServiceSettings
from symbiosis.routing.serving.storage import locks
from symbiosis.routing.serving.storage.database import LEARNING, Database
from symbiosis.routing.serving.storage.locks import learner_lock
from symbiosis.routing.serving.storage.published import Published, VersionConflict
from symbiosis.routing.serving.storage.tables import versions as versions_table
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.versions import DIGESTS, Versions
from symbiosis.routing.serving.workspace import Workspace

EXPLORING = ServiceSettings("epsilon", 0.9, 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres_url"))


class Machine:
    """A gateway's process on a machine of its own: a state folder that no other one sees."""

    def __init__(self, folder: Path, trained: Path, url: str) -> None:
        self.folder = folder
        self.workspace = Workspace(folder, router=trained, encode=encode, store=url, settings=EXPLORING)
        self.learner, self.service = Learner(self.workspace), self.workspace.serving()

    def ask(self, query: str = "abc") -> str:
        return decide(self.workspace, self.service, query)

    def reload(self) -> bool:
        return self.learner.reload(self.service)


@pytest.fixture
def two(tmp_path: Path, trained: Path, url: str) -> Iterator[tuple[Machine, Machine]]:
    machines = Machine(tmp_path / "a", trained, url), Machine(tmp_path / "b", trained, url)
    yield machines
    for machine in machines:
        machine.workspace.store.close()


def updates(trained: Path, machine: Machine) -> int:
    """How many lessons the heads have learned since training."""
    return int(machine.service.router.heads.updates.sum() - Router.load(trained).heads.updates.sum())


def test_the_second_machine_learns_what_the_first_has_learned(two: tuple[Machine, Machine], trained: Path) -> None:
    one, other = two
    ids = [machine.ask() for machine in (one, other, one, other)]
    for key in ids[:3]:
        other.service.feedback(key, quality=1.0)
    assert one.learner.step() == 1
    for machine in two:
        assert machine.reload()
        assert not machine.reload()
        assert (machine.service.signature[1], machine.service.lessons, updates(trained, machine)) == (1, 3, 3)
    weights = [machine.service.router.heads.weights for machine in two]
    np.testing.assert_array_equal(*weights)
    # The first one is gone; the other one goes on from the store, and learns nothing twice.
    one.service.feedback(ids[3], quality=0.0)
    assert other.learner.step() == 2
    for machine in two:
        assert machine.reload()
        assert (machine.service.lessons, machine.service.learned, updates(trained, machine)) == (4, 4, 4)
    assert [version.lessons for version in one.workspace.versions()] == [3, 4]


def test_what_is_administered_on_one_machine_holds_on_the_other(two: tuple[Machine, Machine]) -> None:
    one, other = two
    other.workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    assert one.reload()
    assert "new" in one.service.router.llms.names
    assert one.workspace.remove_llm("alge-mid") == other.workspace.llms().names
    assert other.reload()
    assert other.service.router.llms.names == ("bio-mid", "dear-all", "poor-cheap", "new")
    assert one.workspace.rollback(1) == 3
    assert other.reload()
    assert "alge-mid" in other.service.router.llms.names


def test_a_query_gets_the_same_decision_from_every_process_of_a_version(two: tuple[Machine, Machine]) -> None:
    one, other = two
    queries = [f"{'a' * (number % 5 + 1)} {number}" for number in range(40)]
    first = [one.service.route(query) for query in queries]
    for _ in range(7):
        other.service.route("something else")  # what a process was asked before changes no draw
    second = [other.service.route(query) for query in reversed(queries)][::-1]
    assert [(it.llm, it.propensity) for it in first] == [(it.llm, it.propensity) for it in second]
    assert len({it.llm for it in first}) > 1
    assert min(it.propensity for it in first) < 1
    one.service.feedback(decide(one.workspace, one.service), quality=1.0)
    one.learner.step()
    one.reload()
    third = [one.service.route(query) for query in queries]
    assert [it.llm for it in third] != [it.llm for it in first]  # another version draws anew


def test_a_learner_that_lost_its_lock_cannot_save(
    two: tuple[Machine, Machine], trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = two
    for key in [one.ask(), other.ask()]:
        one.service.feedback(key, quality=1.0)
    monkeypatch.setattr(Store, "versions_lock", lambda _: nullcontext())
    plain = Published.put

    def late(self: Published, *given: object) -> None:
        monkeypatch.setattr(Published, "put", plain)
        assert other.learner.step() == 1
        plain(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Published, "put", late)
    with pytest.raises(VersionConflict, match="another process has written version 1"):
        one.learner.step()
    assert one.learner.step() == 1
    for machine in two:
        machine.reload()
        assert (machine.service.lessons, updates(trained, machine)) == (2, 2)


def test_a_copy_that_is_lost_or_damaged_comes_again(two: tuple[Machine, Machine]) -> None:
    one, other = two
    one.workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    assert other.reload()
    place = other.folder / "v00000001"
    (place / "service.json").write_text("{}")
    assert "new" in other.workspace.llms().names
    shutil.rmtree(place)
    assert "new" in other.workspace.llms().names
    assert sorted(path.name for path in place.iterdir()) == sorted(
        path.name for path in (one.folder / "v00000001").iterdir()
    )


def test_old_versions_go_from_the_store_and_all_copies(two: tuple[Machine, Machine]) -> None:
    one, other = two
    for number in range(12):
        one.workspace.add_llm(f"new{number}", price_prompt=1e-6, price_response=2e-6)
        other.reload()
    # The newest ten; of the older ones the last of the day.
    assert one.workspace._versions.numbers() == list(range(2, 13))
    assert Versions(one.folder).numbers() == Versions(other.folder).numbers() == list(range(2, 13))


def test_a_folder_with_versions_gives_them_to_a_store_that_has_none(tmp_path: Path, trained: Path, url: str) -> None:
    alone = Workspace(tmp_path / "a", router=trained, encode=encode)
    alone.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    alone.store.close()
    one, other = Machine(tmp_path / "a", trained, url), Machine(tmp_path / "b", trained, url)
    assert "new" in other.service.router.llms.names
    shutil.copytree(tmp_path / "a" / "v00000001", tmp_path / "c" / "v00000001")
    with pytest.raises(InputError, match="c holds versions of another store: name an empty folder"):
        Machine(tmp_path / "c", trained, url)
    assert (tmp_path / "c" / "v00000001" / DIGESTS).is_file()
    for machine in (one, other):
        machine.workspace.store.close()


def test_a_store_of_an_earlier_release_gets_the_table(tmp_path: Path, trained: Path, url: str) -> None:
    database = Database(url)
    with database.writing() as connection:
        versions_table.drop(connection)
    database.close()
    machine = Machine(tmp_path / "a", trained, url)
    machine.workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    assert machine.workspace.newest() == 1
    machine.workspace.store.close()


def test_a_store_in_the_state_folder_keeps_no_copy(tmp_path: Path, trained: Path) -> None:
    folder = tmp_path / "state"
    workspace = Workspace(folder, router=trained, encode=encode, store=f"sqlite:///{folder}/store.db")
    workspace.add_llm("new", price_prompt=1e-6, price_response=2e-6)
    assert workspace.store.published.every() == []
    workspace.store.close()


def test_a_lock_whose_file_was_deleted_is_lost(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/store.db")
    mine, theirs = learner_lock(database), learner_lock(database)
    assert mine.take()
    (tmp_path / "store.db.learner").unlink()
    assert theirs.take()
    assert not mine.take()
    theirs.release()
    assert mine.take()
    mine.release()
    database.close()


def test_a_lock_whose_connection_was_ended_is_lost(postgres_url: str) -> None:
    databases = Database(postgres_url), Database(postgres_url)
    mine, theirs = map(learner_lock, databases)
    assert mine.take()
    assert not theirs.take()
    assert end_holder(databases[1]) == 1
    assert theirs.take()
    assert not mine.take()
    assert theirs.take()
    for lock, database in zip((mine, theirs), databases, strict=True):
        lock.release()
        database.close()


def test_who_is_stopped_for_good_keeps_nobody_from_versions(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONGEST_S", 1)
    stopped, other = Database(postgres_url), Database(postgres_url)
    with locks.versions_lock(stopped), locks.versions_lock(other), other.reading() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    with locks.versions_lock(stopped):  # it goes on with a new connection
        pass
    for database in (stopped, other):
        database.close()


def end_holder(database: Database) -> int:
    """End the connection that holds the learner's lock, as the server does; return how many there were."""
    holders = (
        f"SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory' AND objid = {LEARNING}"
    )
    with database.reading() as connection:
        return int(connection.scalar(text(holders)) or 0)
