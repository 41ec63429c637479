"""Champions: moved whole or not at all, whatever dies, is damaged or is down meanwhile."""

import shutil
import socket
from pathlib import Path

import pytest
from registry_world import use_store, write_models

from symbiosis.core.errors import InputError
from symbiosis.core.serving import current, serving_folder
from symbiosis.registry import champions
from symbiosis.registry.bundles import of_workspace
from symbiosis.registry.registration import register
from symbiosis.registry.versions import FORCED_BECAUSE, RegisteredVersion, Registry


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Path:
    """A repository whose registry knows three routers; read only, see `root`."""
    folder = tmp_path_factory.mktemp("registry") / "work"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        use_store(folder, empty_database, patch)
        for word in ("first", "second", "third"):
            write_models(folder, word)
            register("router", folder)
    return folder


@pytest.fixture
def root(three: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with a copy of the database; the artifacts are shared."""
    folder = tmp_path / "work"
    folder.mkdir()
    use_store(folder, three / "mlflow.db", monkeypatch)
    shutil.copytree(three / "models", folder / "models")
    return folder


def number(version: RegisteredVersion | None) -> int | None:
    return None if version is None else version.version


def served(root: Path) -> str:
    """The word of the router that serves."""
    return (serving_folder("router", root) / "models/router/router.json").read_text().split()[1]


def moves(root: Path) -> list[tuple[str, int]]:
    return [(change.action, change.version) for change in champions.history("router", root)]


def test_a_state_is_registered_once(root: Path) -> None:
    """The same state adds nothing; the alias comes to it, unless it is the champion."""
    registry = Registry(root)
    write_models(root, "first")
    again = register("router", root, registry)
    assert (again.version, again.new) == (1, False)
    assert [one.version for one in registry.versions("router")] == [1, 2, 3]
    assert number(champions.candidate("router", root, registry)) == 1
    champions.promote("router", 2, root=root, registry=registry)
    write_models(root, "second")
    assert register("router", root, registry).version == 2
    assert number(champions.candidate("router", root, registry)) == 1


def test_what_a_version_tells(root: Path) -> None:
    """Each has the digest of its bundle, and that by which states of a router tell their origin."""
    from symbiosis.routing.learning.serving_state import digest_of

    latest = Registry(root).versions("router")[-1]
    assert latest.name == "symbiosis-router"
    assert latest.digest == of_workspace("router", root).digest
    assert latest.tags["symbiosis.router"] == digest_of(root / "models/router")


def test_promoted_and_taken_back(root: Path) -> None:
    """What serves follows the alias, step by step back to the first champion."""
    assert current("router", root) is None
    assert served(root) == "third"  # the workspace's
    for version, word in ((1, "first"), (2, "second"), (3, "third")):
        assert champions.promote("router", version, root=root).moved
        assert served(root) == word
    assert not champions.promote("router", 3, root=root).moved
    back = champions.rollback("router", root)
    assert (back.version, back.former, served(root)) == (2, 3, "second")
    versions = Registry(root).versions("router")
    assert [one.was_rolled_back for one in versions] == [False, False, True]
    assert champions.rollback("router", root).version == 1
    assert served(root) == "first"
    with pytest.raises(InputError, match="there is no router to go back to"):
        champions.rollback("router", root)
    assert number(champions.champion("router", root)) == 1
    assert moves(root) == [("promote", 1), ("promote", 2), ("promote", 3), ("rollback", 2), ("rollback", 1)]
    champions.promote("router", 3, root=root)
    assert not Registry(root).version("router", 3).was_rolled_back


def test_only_what_may_serve_again_stays_on_disk(root: Path) -> None:
    """Copies of the candidate, the champion and its predecessor stay."""
    for version in (1, 2, 3):
        champions.promote("router", version, root=root)
    digests = {one.version: one.digest for one in Registry(root).versions("router")}
    kept = {folder.name for folder in (root / ".champions/router/versions").iterdir()}
    assert kept == {digests[2], digests[3]}


def test_forced(root: Path) -> None:
    """Why a version was forced stands in the registry and in the history."""
    champions.promote("router", 2, forced="the gate's data were broken", root=root)
    version = champions.champion("router", root)
    assert version is not None
    assert version.tags[FORCED_BECAUSE] == "the gate's data were broken"
    assert [(one.action, one.because) for one in champions.history("router", root)] == [
        ("force", "the gate's data were broken")
    ]


def test_what_cannot_be(root: Path) -> None:
    """A version that is not there, and models that were never registered, are told in one line."""
    with pytest.raises(InputError, match="symbiosis-router has no version 9"):
        champions.promote("router", 9, root=root)
    assert champions.candidate("recommender", root) is None
    assert champions.pull("recommender", root) is None
    with pytest.raises(InputError, match="models/recommender is missing"):
        register("recommender", root)


@pytest.mark.parametrize("step", ["set_alias", "_link", "tag", "_remember", "_clear_up"])
@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_killed_on_the_way(action: str, step: str, root: Path) -> None:
    """Whatever the step, the next call leaves alias, link and history at one."""
    for version in (1, 2):
        champions.promote("router", version, root=root)

    def move() -> champions.Change:
        if action == "promote":
            return champions.promote("router", 3, root=root)
        return champions.rollback("router", root)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    calls = 0

    def killed_later(self: Registry, *told: object) -> None:
        nonlocal calls
        calls += 1
        if calls > (action == "promote"):  # the first tag of a promotion comes before the alias moves
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if step == "set_alias":
            patch.setattr(Registry, step, killed)
        elif step == "tag":
            patch.setattr(Registry, step, killed_later)
        else:
            patch.setattr(champions, step, killed)
        with pytest.raises(KeyboardInterrupt):
            move()
    assert served(root) in ("second", "third" if action == "promote" else "first")
    there = champions.champion("router", root)
    begun = {"promote": 3, "rollback": 1}[action]
    if step == "set_alias":
        assert (number(there), served(root)) == (2, "second")
        move()
    else:
        assert number(there) == begun
    assert served(root) == {3: "third", 1: "first"}[begun]
    assert number(champions.champion("router", root)) == begun
    assert moves(root) == [("promote", 1), ("promote", 2), (action, begun)]
    assert not (root / ".champions/router/pending.json").exists()


def test_an_interrupted_rollback_that_is_repeated_goes_one_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second command finishes the first."""
    for version in (1, 2, 3):
        champions.promote("router", version, root=root)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(champions, "_link", killed)
        with pytest.raises(KeyboardInterrupt):
            champions.rollback("router", root)
    assert served(root) == "third"
    assert champions.rollback("router", root).version == 2
    assert served(root) == "second"


def test_mlflow_is_down(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moves are refused in one line and change nothing; what serves needs no registry."""
    for version in (1, 2):
        champions.promote("router", version, root=root)
    before = sorted((file, file.stat().st_mtime_ns) for file in (root / ".champions").rglob("*"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{free.getsockname()[1]}")
        for move in (
            lambda: champions.promote("router", 3, root=root),
            lambda: champions.rollback("router", root),
            lambda: champions.pull("router", root),
        ):
            with pytest.raises(InputError, match=r"^MLflow at http://127.0.0.1:\d+ cannot be used: ") as told:
                move()
            assert "\n" not in str(told.value)
    assert served(root) == "second"
    assert sorted((file, file.stat().st_mtime_ns) for file in (root / ".champions").rglob("*")) == before


def test_goes_down_on_the_way(root: Path) -> None:
    """The alias has moved, the link has not: the former one serves, until MLflow is back."""
    champions.promote("router", 1, root=root)

    def down(*_: object) -> None:
        raise InputError("MLflow cannot be used")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(champions, "_complete", down)
        with pytest.raises(InputError, match="cannot be used"):
            champions.promote("router", 2, root=root)
    assert served(root) == "first"
    assert number(champions.champion("router", root)) == 2
    assert served(root) == "second"


def test_a_damaged_copy_is_fetched_anew(root: Path) -> None:
    """A byte that changed since is found before the copy serves again."""
    for version in (1, 2):
        champions.promote("router", version, root=root)
    digests = {one.version: one.digest for one in Registry(root).versions("router")}
    copy = root / ".champions/router/versions" / digests[1] / "models/router/router.json"
    copy.write_text("damaged")
    champions.rollback("router", root)
    assert served(root) == "first"
    copy.write_text("damaged")
    champions.pull("router", root)
    assert served(root) == "first"


def test_damaged_in_the_registry(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and nothing changes."""
    champions.promote("router", 1, root=root)
    download = Registry.download

    def damaged(self: Registry, version: RegisteredVersion, folder: Path) -> Path:
        found = download(self, version, folder)
        (found / "models/router/router.json").write_text("damaged")
        return found

    monkeypatch.setattr(Registry, "download", damaged)
    with pytest.raises(InputError, match="version 2 of symbiosis-router is damaged in MLflow"):
        champions.promote("router", 2, root=root)
    assert (number(champions.champion("router", root)), served(root)) == (1, "first")
    assert len(list((root / ".champions/router/versions").iterdir())) == 1


def test_another_machine_follows(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without models pulls the registry's champion, again after each move, and says so once."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    other = tmp_path / "other"
    other.mkdir()
    assert champions.pull("router", other) is None
    champions.promote("router", 1, root=root)
    for version, word in ((1, "first"), (2, "second")):
        champions.promote("router", version, root=root)
        pulled = champions.pull("router", other)
        assert pulled is not None
        assert pulled.moved
        assert served(other) == word
    again = champions.pull("router", other)
    assert again is not None
    assert not again.moved
    assert moves(other) == [("pull", 1), ("pull", 2)]
    assert champions.history("router", other)[-1].former == 1


def test_a_missing_copy_lets_the_workspace_serve(root: Path) -> None:
    """A link to nothing is no champion; pulling mends it."""
    champions.promote("router", 1, root=root)
    shutil.rmtree(root / ".champions/router/versions")
    assert current("router", root) is None
    champions.pull("router", root)
    assert served(root) == "first"


def test_not_what_dvc_recorded(root: Path) -> None:
    """A model that was changed by hand, or half of an earlier run, is not registered."""
    entry = {"path": "models/router", "md5": "0" * 32 + ".dir"}
    (root / "dvc.lock").write_text(f"stages: {{router-train: {{outs: [{entry}]}}}}")
    with pytest.raises(InputError, match=r"models/router is not what dvc\.lock records"):
        register("router", root)
    assert len(Registry(root).versions("router")) == 3


def test_what_cannot_be_read_of_the_history_is_passed_over(tmp_path: Path) -> None:
    place = tmp_path / ".champions/router"
    place.mkdir(parents=True)
    whole = b'{"kind": "router", "action": "pull", "version": 2, "digest": "d", "former": null, "at": "2026"}'
    lines = [whole[:40] + b"}", whole, b'{"of another": "release"}', b"\xff}", whole.replace(b"2,", b"true,"), b"NaN"]
    (place / "history.jsonl").write_bytes(b"\n".join(lines))
    assert moves(tmp_path) == [("pull", 2)]


def test_a_damaged_move_is_named_with_the_way_on(root: Path) -> None:
    champions.promote("router", 1, root=root)
    pending = root / ".champions/router/pending.json"
    pending.write_text('{"kind": "router"')
    with pytest.raises(InputError, match=r"pending.json is damaged: delete it, and run `symbiosis models pull router`"):
        champions.champion("router", root)
    assert served(root) == "first"
