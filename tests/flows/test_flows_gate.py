"""The gate's flow on a real Prefect server: what it returns and leaves there, and what breaks keeps it shut."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.states import Completed
from prefect.testing.utilities import prefect_test_harness

from flows import gate as module
from symbiosis.core.errors import InputError
from symbiosis.registry.checks.check import Check
from symbiosis.registry.gate import Applied, Waiting
from symbiosis.registry.verdict import Judged, Standing, Verdict


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """One server for this file; starting it takes seconds."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


class World:
    """What the flow meets: verdicts to come, and what it has done about them."""

    def __init__(self) -> None:
        self.standings: dict[str, Standing | Exception] = {"router": "passed", "recommender": "refused"}
        self.applied: list[str] = []
        self.told = 0
        self.warning: str | None = None

    def judge(self, kind: Any, root: Path, params: Any) -> Verdict:
        standing = self.standings[kind]
        if isinstance(standing, Exception):
            raise standing
        check = Check("utility", standing == "passed", 0.1, 0.0, 0.2, -0.01, "by | hand")
        return Verdict(kind, standing, (check,), f"{kind} is {standing}", Judged(2, "b"), Judged(1, "a"), "now")

    def apply(self, verdict: Verdict, root: Path) -> Applied:
        self.applied.append(verdict.kind)
        return Applied("promoted" if verdict.passed else verdict.standing, self.warning)  # type: ignore[arg-type]

    def tell(self, root: Path, memory: object, warn: object) -> None:
        self.told += 1


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(module.judging, "judge", made.judge)
    monkeypatch.setattr(module.judging, "apply", made.apply)
    monkeypatch.setattr(module, "tell_champions", made.tell)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(module, "top", lambda: tmp_path)
    return made


def artifact(kind: str) -> str:
    """The newest verdict in Prefect."""
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[f"gate-{kind}"])), sort="CREATED_DESC", limit=1
        )
    return str(found[0].data)


def test_promoted_and_refused(world: World) -> None:
    """Both are judged and recorded, and whoever waits for champions is told."""
    assert module.gate() == {"router": "promoted", "recommender": "refused"}
    assert world.applied == ["router", "recommender"]
    assert world.told == 1
    assert artifact("router").startswith("**router is passed**")
    assert "| utility | no | 0.1 \\[0, 0.2\\] | -0.01 | yes |" in artifact("recommender")
    assert "- by \\| hand" in artifact("recommender")
    world.standings["router"] = "unchanged"
    assert module.gate("router") == {"router": "unchanged"}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Waiting("the router's candidate waits to be judged: MLflow at x"), "waits to be judged: MLflow at x"),
        (InputError("params.yaml: the block `gate` is missing"), "nothing was promoted: params.yaml: the block"),
        (ZeroDivisionError("by\nzero"), "nothing was promoted: ZeroDivisionError: by zero"),
    ],
)
def test_what_cannot_be_judged_waits(
    error: Exception, told: str, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """The other kind is judged all the same, and the flow does not fail."""
    world.standings["router"] = error
    assert module.gate() == {"router": "waiting", "recommender": "refused"}
    assert world.applied == ["recommender"]
    assert any(told in record.getMessage() for record in caplog.records if record.levelname == "WARNING")


def test_what_is_not_recorded_is_not_promoted(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Prefect goes down between judging and promoting."""

    def down(*_: object, **__: object) -> None:
        raise ConnectionError("all\nattempts failed")

    monkeypatch.setattr(module, "create_markdown_artifact", down)
    assert module.gate() == {"router": "waiting", "recommender": "waiting"}
    assert world.applied == []
    (line, _) = [record.getMessage() for record in caplog.records if "waits for Prefect at" in record.getMessage()]
    assert line.startswith("router version 2 (b) waits for Prefect at http")
    assert line.endswith("which could not take the verdict: all attempts failed")


def test_a_promotion_stands_without_what_follows(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be told or tagged is a line of the log."""

    def down(*_: object, **__: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(module, "tell_champions", down)
    world.warning = "the verdict is not in MLflow"
    assert module.gate("router") == {"router": "promoted"}
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert told == ["the verdict is not in MLflow", "no event tells of the champions yet: no room"]


@pytest.mark.parametrize(
    ("answer", "status", "printed"),
    [
        (lambda _: {"router": "promoted"}, None, "router: promoted\n"),
        (lambda _: 1 / 0, "cannot be used, the candidates wait: division by zero", ""),
    ],
)
def test_door(
    answer: Callable[[str], Any],
    status: str | None,
    printed: str,
    stub: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`python -m flows.gate` prints what became of each; without Prefect it ends in one line."""
    monkeypatch.setattr(sys, "argv", ["gate", "router"])
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    monkeypatch.setattr(module, "gate", lambda kind, return_state: Completed(data=answer(kind)))
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    if status is None:
        module.main()
    else:
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert str(ended.value.code) == f"error: Prefect at http://127.0.0.1:9/api {status}"
    assert capsys.readouterr().out == printed
