"""A state folder of the release before the store: taken over once, nothing lost, wherever that is interrupted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from routing_world import write_router
from test_workspace import encode

from symbiosis.core.artifacts import read_json, sha256_of, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.policy.objectives import Budget
from symbiosis.routing.serving import upgrade
from symbiosis.routing.serving.records import vector_text
from symbiosis.routing.serving.store import Store
from symbiosis.routing.serving.upgrade import DONE, JOURNAL
from symbiosis.routing.serving.versions import DIGESTS, Versions
from symbiosis.routing.serving.workspace import STORE, Workspace


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_router(tmp_path_factory.mktemp("trained") / "router")


def workspace(folder: Path, trained: Path) -> Workspace:
    return Workspace(folder, router=trained, encode=encode)


def known(of: Workspace) -> tuple[Any, ...]:
    """What a state knows, to the last bit."""
    with of.service() as service:
        weights = service.router.heads.weights.tobytes()
        return weights, service.lessons, service.decisions, service.budget.price, service.budget.spent


def in_old_form(folder: Path) -> None:
    """Rewrite a state folder, in which all decisions came before the feedback, as the release before left it."""
    with Store.in_file(folder / STORE) as store:
        stored = list(store.every())
    lines, ends = b"", {}
    by_lesson: dict[int, str] = {}
    lesson_ends: dict[int, int] = {0: 0}
    told = sorted((one for one in stored if one.feedback), key=lambda one: one.feedback.lesson or 0)  # type: ignore[union-attr]
    for one in stored:
        record = one.entry.record
        line = {"decision": record.decision, "llm": record.llm, "at": record.at, "propensity": record.propensity}
        line |= {"prompt_tokens": record.prompt_tokens, "cost_usd": record.cost_usd, "quality": record.quality}
        line |= {"vector": vector_text(record.vector), "budget_usd": record.budget_usd}
        lines += json.dumps(line, separators=(",", ":")).encode() + b"\n"
        ends[one.sequence] = len(lines)
    for one in told:
        assert one.feedback is not None
        assert one.feedback.lesson is not None
        line = {"feedback": one.entry.record.decision, **one.feedback.told._asdict()}
        lines += json.dumps(line, separators=(",", ":")).encode() + b"\n"
        lesson_ends[one.feedback.lesson] = len(lines)
        by_lesson[one.feedback.lesson] = one.entry.record.decision
    (folder / JOURNAL).write_bytes(lines + b'{"decision":"half')
    versions = Versions(folder, keep=100)
    for number in versions.numbers():
        now = versions.open(number)
        state = read_json(now / "service.json")
        state.pop("format")
        state.pop("position")
        state["logged"] = max(lesson_ends[state["logged"]], max(ends.values()))
        origin = state["origin"]
        origin.pop("fits_after")
        origin["since"] = lesson_ends[origin["since"]]
        origin["undone"] = [by_lesson[n] for a, b in origin["undone"] for n in range(a + 1, b + 1)]
        write_json(now / "service.json", state)
        files = sorted(path for path in now.rglob("*") if path.is_file() and path.name != DIGESTS)
        digests = {path.relative_to(now).as_posix(): sha256_of(path) for path in files}
        write_json(now / DIGESTS, digests)
    for path in folder.glob(f"{STORE}*"):
        path.unlink()


@pytest.fixture
def old(trained: Path, tmp_path: Path) -> tuple[Path, list[str], tuple[Any, ...]]:
    """A state of the release before, the ids of its decisions, and what it knew."""
    folder = tmp_path / "state"
    before = workspace(folder, trained)
    ids = [before.route("a" * n).id for n in range(1, 7)]
    ids += [before.route("abc", Budget(1e-7)).id for _ in range(3)]
    for key in ids[:4]:
        before.feedback(key, quality=1.0, response_tokens=100.0)
    before.rollback(3)
    before.feedback(ids[5], satisfied=False)
    then = known(before)
    before.store.close()
    in_old_form(folder)
    return folder, ids, then


def test_an_old_state_is_taken_over_to_the_last_bit(
    old: tuple[Path, list[str], tuple[Any, ...]], trained: Path
) -> None:
    folder, ids, then = old
    now = workspace(folder, trained)
    assert [one.lessons for one in now.versions()] == [1, 2, 3, 4, 3, 4]
    assert known(now) == then
    assert (folder / DONE).is_file()
    assert not (folder / JOURNAL).exists()
    assert [one.entry.record.decision for one in now.store.every()] == ids
    assert not now.feedback(ids[3], quality=1.0, response_tokens=100.0)  # taken back, but given
    with pytest.raises(InputError, match="has other feedback already"):
        now.feedback(ids[0], quality=0.0)
    assert now.feedback(ids[4], quality=1.0)
    now.rollback(2)
    with now.service() as service:
        assert service.lessons == 2


@pytest.mark.parametrize("fails", ["take_in", "_rewrite", "rename"])
def test_an_interrupted_take_over_is_finished_by_the_next(
    old: tuple[Path, list[str], tuple[Any, ...]], trained: Path, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ids, then = old

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if fails == "take_in":
            patched.setattr(Store, "take_in", stop)
        elif fails == "rename":
            patched.setattr(Path, "rename", stop)
        else:
            rewrite, done = upgrade._rewrite, []

            def twice(*arguments: Any) -> None:
                if len(done) == 2:
                    raise KeyboardInterrupt
                done.append(1)
                rewrite(*arguments)

            patched.setattr(upgrade, "_rewrite", twice)
        with pytest.raises(KeyboardInterrupt):
            workspace(folder, trained).route("abc")
    assert (folder / JOURNAL).exists()
    assert known(workspace(folder, trained)) == then
    with Store.in_file(folder / STORE) as store:
        assert [one.entry.record.decision for one in store.every()] == ids
        assert [lesson.record.decision for lesson in store.lessons()] == [*ids[:4], ids[5]]


def test_a_journal_without_versions_is_learned_from_the_start(
    old: tuple[Path, list[str], tuple[Any, ...]], trained: Path
) -> None:
    folder, _, _ = old
    for version in folder.glob("v0*"):
        shutil.rmtree(version)
    with workspace(folder, trained).service() as service:
        assert (service.lessons, service.decisions) == (5, 9)


def test_a_damaged_line_is_told_and_nothing_is_changed(
    old: tuple[Path, list[str], tuple[Any, ...]], trained: Path
) -> None:
    folder, ids, then = old
    journal = folder / JOURNAL
    first, second, *rest = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(first + second[:20] + b"\n" + b"".join(rest))
    with pytest.raises(InputError, match=rf"{JOURNAL}: the line from byte {len(first)} is damaged") as caught:
        workspace(folder, trained).versions()
    assert "\n" not in str(caught.value)
    with Store.in_file(folder / STORE) as store:
        assert store.latest(1) == []
    journal.write_bytes(first + second + b"".join(rest))
    assert known(workspace(folder, trained)) == then
    assert len(ids) == 9


def test_an_old_version_alone_is_refused_in_a_line(old: tuple[Path, list[str], tuple[Any, ...]], trained: Path) -> None:
    folder, _, _ = old
    (folder / JOURNAL).unlink()
    with pytest.raises(InputError, match="was written by an earlier release") as caught:
        workspace(folder, trained).route("abc")
    assert "\n" not in str(caught.value)
