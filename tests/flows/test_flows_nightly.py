"""The scheduled flows without a server: order of steps, what a failure stops, what is left to look at."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.states import Completed, Failed, State

from flows import nightly as module
from flows.loop import last_run, steps
from flows.loop.last_run import compared
from flows.parallel.runner import Runner
from flows.pipeline import PipelineRun
from symbiosis.core.errors import InputError
from symbiosis.core.layout import LAST_RUN
from symbiosis.registry.publication import Publication

GRAPH = {"clean": (), "train": ("clean",), "fit": ("train",), "route": ()}
STAGES = {"router": ["route"], "recommender": ["fit"]}


class World:
    """Stand-ins for all steps; what was done, in order."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.not_kept: dict[str, str] = {}
        self.feedback: str | None = None
        self.failed: set[str] = set()
        self.published: Publication | str = published("router", "recommender")
        self.verdicts = {"router": "promoted", "recommender": "refused"}
        self.artifacts: dict[str, Any] = {}

    def keep(self, kind: str, root: str, return_state: bool) -> Any:
        self.done.append(f"keep {kind}")
        assert return_state
        reason = self.not_kept.get(kind)
        return Failed(message=reason) if reason else Completed()

    def ingest(self, root: str) -> str | None:
        self.done.append("ingest")
        return self.feedback

    def bring_up_to_date(
        self, targets: list[str], overrides: dict[str, Any], force: bool, runner: Runner
    ) -> PipelineRun:
        self.done.append(f"pipeline {targets}")
        outcomes: dict[str, str] = {}
        for stage, upstream in GRAPH.items():
            broken = any(outcomes[name] in ("failed", "not run") for name in upstream)
            outcomes[stage] = "failed" if stage in self.failed else "not run" if broken else "ran"
        return PipelineRun(outcomes, dict.fromkeys(GRAPH, 1.0), dict(GRAPH), self.published)

    def gate(self, kind: str) -> dict[str, str]:
        self.done.append(f"gate {kind}")
        return {kind: self.verdicts[kind]}


def published(*kinds: str, refused: tuple[str, ...] = ()) -> Publication:
    """What was registered, as far as the flow looks at it."""
    files = {"reports/router.html": b"", "reports/router.json": b""}
    state = SimpleNamespace(stages=[SimpleNamespace(files=files)])
    recorded: Any = SimpleNamespace(run_id="abc", experiment_id="1", state=state)
    versions: Any = tuple(SimpleNamespace(kind=kind, name=f"symbiosis-{kind}", version=2, new=True) for kind in kinds)
    return Publication(recorded, versions, refused)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    for name in ("keep", "ingest", "gate"):
        monkeypatch.setattr(module, name, getattr(made, name))
    monkeypatch.setattr(module.pipeline, "bring_up_to_date", made.bring_up_to_date)
    monkeypatch.setattr(module, "STAGES", STAGES)
    monkeypatch.setattr(module, "get_run_logger", lambda: logging.getLogger("test"))
    for name in ("create_table_artifact", "create_markdown_artifact"):
        monkeypatch.setattr(last_run, name, lambda content, key, description: made.artifacts.update({key: content}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.test:5000/")
    return made


def told() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(LAST_RUN.read_text())
    return document


def result(ended: Any) -> Any:
    """What a flow returns, or the error of its failed state, whose message is the error's."""
    if not isinstance(ended, State):
        return ended
    assert isinstance(ended.data, Exception)
    assert ended.message == str(ended.data)
    raise ended.data


def test_nightly_in_order(world: World) -> None:
    """What serves is kept before anything is trained, feedback comes before training, the gate comes last."""
    world.feedback = "data/local/feedback/new.parquet"
    assert result(module.nightly.fn()) == world.verdicts
    assert world.done == ["keep router", "keep recommender", "ingest", "pipeline []", "gate router", "gate recommender"]
    last = told()
    assert (last["flow"], last["stages"][0]) == ("nightly", {"stage": "clean", "outcome": "ran", "seconds": 1.0})
    assert last["words"] == ("feedback taken in: data/local/feedback/new.parquet; router promoted; recommender refused")
    summary = world.artifacts["summary"]
    assert summary.startswith("- feedback taken in: data/local/feedback/new.parquet\n- router promoted\n")
    assert "(http://mlflow.test:5000/#/experiments/1/runs?viewStateShareKey=headlines)" in summary
    assert "(http://mlflow.test:5000/#/experiments/1/runs/abc/artifacts/reports/router.html)" in summary
    assert "http://mlflow.test:5000/#/models/symbiosis-router/versions/2" in summary


def test_hourly_does_the_router_alone(world: World) -> None:
    assert result(module.hourly.fn()) == {"router": "promoted"}
    assert world.done == ["keep router", "ingest", "pipeline ['online-replay']", "gate router"]


def test_a_model_that_cannot_be_kept_is_not_trained_anew(world: World) -> None:
    """A retraining would take its place in the workspace, unjudged."""
    world.not_kept["recommender"] = "MLflow is down"
    with pytest.raises(RuntimeError, match="^the retraining waits, as the recommender that serves .*: MLflow is down$"):
        result(module.nightly.fn())
    assert world.done == ["keep router", "keep recommender"]
    assert "MLflow is down" in told()["words"]
    assert "MLflow is down" in world.artifacts["summary"]


def test_a_failed_branch_stops_its_own_model_only(world: World) -> None:
    """The other one is judged; the failure is told at the end."""
    world.failed = {"train"}
    with pytest.raises(RuntimeError, match="^failed: train; not run, they depend on it: fit$"):
        result(module.nightly.fn())
    assert world.done[-1] == "gate router"
    assert [row["outcome"] for row in told()["stages"]] == ["ran", "failed", "not run", "ran"]


def test_nothing_is_judged_when_nothing_could_be_registered(world: World) -> None:
    """An older candidate that is still there must not be taken for the new one."""
    world.published = "MLflow: connection refused"
    with pytest.raises(RuntimeError, match="router and recommender wait to be registered and judged: MLflow: conn"):
        result(module.nightly.fn())
    assert world.done[-1] == "pipeline []"
    world.published = published("router", refused=("models/recommender is not what dvc.lock records",))
    with pytest.raises(RuntimeError, match="not registered: models/recommender is not what"):
        result(module.nightly.fn())
    assert world.done[-1] == "gate router"


def test_a_gate_that_waits_is_told(world: World) -> None:
    world.verdicts["router"] = "waiting"
    with pytest.raises(RuntimeError, match="the router's candidate waits"):
        result(module.nightly.fn())
    assert world.done[-1] == "gate recommender"


def test_a_crash_leaves_its_trace(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The console shows the run that failed, not the one before."""

    def crash(*_: object) -> None:
        raise InputError("params.yaml: unknown key")

    monkeypatch.setattr(module.pipeline, "bring_up_to_date", crash)
    with pytest.raises(InputError):
        result(module.nightly.fn())
    assert (told()["flow"], told()["stages"]) == ("nightly", [])


def test_metrics_against_the_run_before() -> None:
    """A headline that is new has nothing to be compared with; one that is gone is left out."""
    assert compared({"a": 0.5, "b": 1.0}, {"a": 0.25, "c": 3.0}) == [
        {"headline": "a", "now": 0.5, "before": 0.25, "difference": 0.25},
        {"headline": "b", "now": 1.0, "before": None, "difference": None},
    ]


def test_headlines_are_compared_over_runs(world: World) -> None:
    """The first run has nothing before it; the second one sees what has changed."""
    reports = Path("reports")
    reports.mkdir()
    method = {name: {"mean": 0.5, "low": 0.0, "high": 1.0} for name in ("recall@20", "recall@40", "ndcg@100")}
    data = {"users": 7, "items": 5, "training interactions": 1000}
    (reports / "recommender.json").write_text(json.dumps({"recommender": method, "baselines": {}, "data": data}))
    result(module.nightly.fn())
    first = {row["headline"]: row for row in world.artifacts["metrics"]}
    (name,) = [one for one in first if one.endswith("Recall@20")]
    assert first[name]["before"] is None
    report = json.loads((reports / "recommender.json").read_text())
    report["recommender"]["recall@20"]["mean"] += 0.25
    (reports / "recommender.json").write_text(json.dumps(report))
    result(module.nightly.fn())
    second = {row["headline"]: row for row in world.artifacts["metrics"]}
    assert second[name]["before"] == first[name]["now"]
    assert second[name]["difference"] == pytest.approx(0.25)


# ------------------------------------------------------------------ steps


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the registry was asked for; it knows no champion."""
    from symbiosis.registry import champions, registration, versions

    calls: list[str] = []

    def note(name: str, answer: object) -> Callable[..., object]:
        def called(kind: str, *arguments: object, **named: object) -> object:
            calls.append(f"{name} {kind} {named.get('forced', '')}".strip())
            return answer

        return called

    monkeypatch.setattr(versions, "Registry", lambda root: None)
    monkeypatch.setattr(champions, "pull", note("pull", None))
    monkeypatch.setattr(champions, "promote", note("promote", None))
    monkeypatch.setattr(registration, "register", note("register", SimpleNamespace(version=1)))
    monkeypatch.setattr(steps, "get_run_logger", lambda: logging.getLogger("test"))
    return calls


def test_what_serves_is_kept_once(asked: list[str], tmp_path: Path) -> None:
    """Without a model there is nothing to keep; with a champion it is safe; in between it becomes the first one."""
    steps.keep.fn("router", str(tmp_path))
    assert asked == []
    (tmp_path / "models/router").mkdir(parents=True)
    steps.keep.fn("router", str(tmp_path))
    assert asked == ["pull router", "register router", f"promote router {steps.FIRST}"]
    asked.clear()
    (tmp_path / ".champions/router/versions/one").mkdir(parents=True)
    (tmp_path / ".champions/router/current").symlink_to("versions/one")
    steps.keep.fn("router", str(tmp_path))
    assert asked == []


def test_a_store_that_is_down_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asked: list[str], tmp_path: Path
) -> None:
    """One line, and the run goes on without new feedback."""

    def told(root: Path, *arguments: str) -> dict[str, Any]:
        assert arguments == ("decisions", "freeze")
        raise InputError("the store cannot be reached")

    monkeypatch.setattr(steps, "run_json", told)
    assert steps.ingest.fn(str(tmp_path)) is None
    assert caplog.messages == ["no new feedback, the run goes on without: the store cannot be reached"]
    monkeypatch.setattr(steps, "run_json", lambda *_: {"file": "a.parquet"})
    assert steps.ingest.fn(str(tmp_path)) == "a.parquet"
