"""Flows on a real Prefect server: states, retries, independent branches, cancellation."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import PARAMS, ROOT, command
from prefect.cli.deploy._models import DeploymentConfig
from prefect.cli.deploy._triggers import _initialize_deployment_triggers
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.schemas.automations import Posture
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL
from prefect.states import Running
from prefect.testing.utilities import prefect_test_harness
from test_flows import alive, until

from flows import nightly, zombies
from flows import pipeline as module
from flows.loop.events import CHAMPION_CHANGED, DATA_ARRIVED, DRIFT_ALARM
from flows.parallel.stages import run_stage
from flows.pipeline import pipeline, router_refresh
from symbiosis.core.errors import InputError
from symbiosis.core.layout import LAST_RUN


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    """One server for this file; starting it takes seconds."""
    with prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()


@pytest.fixture(autouse=True)
def untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow has tests of its own."""
    monkeypatch.setenv("SYMBIOSIS_TRACKING", "off")


def newest_run() -> tuple[FlowRun, dict[str, str], dict[str, int]]:
    """The newest flow run, the state of each of its tasks and how often each ran."""
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(limit=1, sort="START_TIME_DESC")
        tasks = client.read_task_runs(limit=100)
        mine = [task for task in tasks if task.flow_run_id == run.id]
    return run, {task.name: task.state_name or "" for task in mine}, {task.name: task.run_count for task in mine}


def edges(run: FlowRun) -> dict[str, list[str]]:
    """The graph that the interface draws."""
    with get_client(sync_client=True) as client:
        tasks = {task.id: task for task in client.read_task_runs(limit=100) if task.flow_run_id == run.id}
    return {
        task.name: sorted(tasks[edge.id].name for edges in task.task_inputs.values() for edge in edges)  # type: ignore
        for task in tasks.values()
        if not task.name.startswith("publish")
    }


def stage_table() -> dict[str, str]:
    """The outcomes in the newest table artifact."""
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["stages"])), sort="CREATED_DESC", limit=1
        )
    data: Any = artifacts[0].data
    return {row["stage"]: row["outcome"] for row in json.loads(data)}


def test_overrides_and_outcomes(stub_run: Path) -> None:
    """An override runs what it touches and leaves the rest; the table tells which is which."""
    outcomes = pipeline(overrides={"finetune.learning_rate": 0.2})
    expected = dict.fromkeys(["download", "baseline@a", "baseline@b", "router"], "unchanged")
    assert outcomes == expected | {"train": "ran", "evaluate": "ran"}
    report = json.loads((stub_run / "reports/recommender.json").read_text())
    assert report["recommender"]["recall@20"]["mean"] == 0.2
    run, states, _ = newest_run()
    assert run.state_name == "Completed"
    assert {stage: states[stage].lower() for stage in outcomes} == outcomes
    assert edges(run) == {
        "download": [],
        "baseline@a": ["download"],
        "baseline@b": ["download"],
        "train": ["download"],
        "evaluate": ["baseline@a", "baseline@b", "train"],
        "router": [],
    }
    assert stage_table() == outcomes
    back = pipeline(targets=["evaluate"], overrides={"finetune.learning_rate": PARAMS["finetune.learning_rate"]})
    assert back == {
        "download": "unchanged",
        "baseline@a": "unchanged",
        "baseline@b": "unchanged",
        "train": "restored",
        "evaluate": "restored",
    }


def test_nothing_starts_on_bad_arguments(stub: Path) -> None:
    """Unknown keys and stages are refused before a stage runs."""
    before = (stub / "params.yaml").read_text()
    with pytest.raises(InputError, match=r"unknown key `finetune\.lr`"):
        pipeline(overrides={"finetune.learning_rate": 0.2, "finetune.lr": 1})
    with pytest.raises(InputError, match="unknown stage `trian`"):
        pipeline(targets=["trian"], overrides={"finetune.learning_rate": 0.2})
    assert (stub / "params.yaml").read_text() == before
    assert not (stub / "dvc.lock").exists()


def test_independent_branch_goes_on(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed stage stops what needs it, and nothing else; the flow fails in the end. Bad input is not retried."""
    monkeypatch.setenv("BEHAVE_train", "bad input")
    with pytest.raises(RuntimeError, match="failed: train; not run, they depend on it: evaluate"):
        pipeline(overrides={"finetune.learning_rate": 0.3, "router_train.seed": 5})
    run, states, counts = newest_run()
    assert run.state_name == "Failed"
    assert states["train"] == "Failed"
    assert counts["train"] == 1
    assert states["evaluate"] == "NotReady"
    assert states["router"] == "Ran"
    assert stage_table() == {
        "download": "unchanged",
        "baseline@a": "unchanged",
        "baseline@b": "unchanged",
        "train": "failed",
        "evaluate": "not run",
        "router": "ran",
    }


def test_download_is_retried(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that breaks off is tried again, and its retries end."""
    monkeypatch.setattr(run_stage, "retry_delay_seconds", [0, 0, 0])
    monkeypatch.setenv("BEHAVE_download", "crash")
    with pytest.raises(RuntimeError, match="failed: download"):
        pipeline(targets=["download"])
    _, states, counts = newest_run()
    assert (states["download"], counts["download"]) == ("Failed", 4)


def test_router_refresh_runs_its_branch_only(stub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hourly flow touches no stage of the other branch."""
    monkeypatch.setattr(module, "ROUTER_TARGETS", ["router"])
    assert router_refresh() == {"router": "ran"}
    assert router_refresh(force=True) == {"router": "ran"}
    assert not (stub / "data").exists()


def test_termination_leaves_no_orphan(server: str, stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM to a flow, as a cancellation sends it, ends DVC and the stage, and the next run is clean."""
    monkeypatch.setenv("BEHAVE_train", "sleep")
    environment = os.environ | {"PREFECT_API_URL": server}
    arguments = [sys.executable, "-m", "flows.pipeline", "-S", "finetune.learning_rate=0.4", "train"]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.DEVNULL) as flow:
        until((stub_run / "child.pid").is_file)
        child = psutil.Process(int((stub_run / "child.pid").read_text()))
        dvc = child.parent()
        assert dvc is not None
        assert dvc.pid != flow.pid
        flow.terminate()
        flow.wait(30)
    assert not alive(child.pid)
    assert not alive(dvc.pid)
    assert flow.returncode == 128 + signal.SIGTERM
    run, states, _ = newest_run()
    assert (run.state_name, states["train"]) == ("Crashed", "Crashed")
    monkeypatch.delenv("BEHAVE_train")
    assert "train" in command(stub_run, "dvc", "repro", "train")


def artifact(key: str) -> Any:
    """Contents of the newest artifact of a key."""
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        return client.read_artifacts(artifact_filter=wanted, sort="CREATED_DESC", limit=1)[0].data


def test_nightly_shows_its_steps(stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is a task of the run, the stages among them; without tracking nothing is judged, and a line says so."""
    monkeypatch.setattr(nightly, "STAGES", {"router": ["router"], "recommender": ["evaluate"]})
    with pytest.raises(RuntimeError, match="^router and recommender wait to be registered and judged: tracking is"):
        nightly.nightly(overrides={"finetune.learning_rate": 0.25})
    run, states, _ = newest_run()
    assert run.state_name == "Failed"
    assert {name: states[name] for name in ("keep the router that serves", "ingest", "train", "router")} == {
        "keep the router that serves": "Completed",
        "ingest": "Completed",
        "train": "Ran",
        "router": "Unchanged",
    }
    rows = {row["headline"]: row["now"] for row in json.loads(artifact("metrics"))}
    assert 0.25 in rows.values()
    last = json.loads((stub_run / LAST_RUN).read_text())
    assert {row["stage"]: row["outcome"] for row in last["stages"]} == stage_table()
    assert "wait to be registered" in last["words"]


def deployments() -> list[dict[str, Any]]:
    """What prefect.yaml deploys."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    found: list[dict[str, Any]] = document["deployments"]
    return found


@pytest.mark.parametrize("deployment", deployments(), ids=lambda one: one["name"])
def test_deployments_are_right(deployment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Entry point, parameters, schedule and triggers are as the installed Prefect wants them."""
    monkeypatch.chdir(ROOT)
    DeploymentConfig.model_validate(deployment)
    deployed = load_flow_from_entrypoint(deployment["entrypoint"])
    assert deployed.name == deployment["name"]
    assert deployed.validate_parameters(deployment["parameters"]) is not None
    for schedule in deployment.get("schedules", []):
        assert CronSchedule(cron=schedule["cron"], timezone=schedule["timezone"])
    for trigger in _initialize_deployment_triggers(deployment["name"], deployment.get("triggers", [])):
        assert isinstance(trigger, DeploymentEventTrigger)
        assert trigger.expect <= {DATA_ARRIVED, DRIFT_ALARM, CHAMPION_CHANGED}
        assert trigger.posture == Posture.Reactive
        # Prefect passes over keys that it does not know.
        assert all(key in DeploymentEventTrigger.model_fields for spec in deployment["triggers"] for key in spec)


def test_every_event_has_who_waits_for_it() -> None:
    """New data start a full run, drift a run of the router; another recommender, and no router, ranks for all users."""
    waiting = {
        event: (one["name"], trigger.get("match"))
        for one in deployments()
        for trigger in one.get("triggers", [])
        for event in trigger["expect"]
    }
    assert waiting == {
        DATA_ARRIVED: ("nightly", None),
        DRIFT_ALARM: ("hourly", None),
        CHAMPION_CHANGED: ("recommend-all", {"prefect.resource.id": "symbiosis.champion.recommender"}),
    }


def test_dead_runs_are_closed() -> None:
    """Runs that a dead worker left Running are closed, waiting ones stay; the automation exists once."""
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="pool", type="process"))
        deployment = client.create_deployment(client.create_flow(pipeline), "nightly", work_pool_name="pool")
        assert zombies.limit_queues("pool") == 1
        assert [queue.concurrency_limit for queue in client.read_work_queues(work_pool_name="pool")] == [1]
        dead, waiting = (client.create_flow_run_from_deployment(deployment) for _ in range(2))
        client.set_flow_run_state(dead.id, Running(), force=True)
        assert zombies.close_orphans("other") == 0
        assert zombies.close_orphans("pool") == 1
        assert zombies.close_orphans("pool") == 0
        assert client.read_flow_run(dead.id).state_name == "Crashed"
        assert client.read_flow_run(waiting.id).state_name == "Scheduled"
        zombies.deploy_automation()
        (first,) = client.read_automations_by_name(zombies.NAME)
        zombies.deploy_automation()
        (second,) = client.read_automations_by_name(zombies.NAME)
    assert first.id == second.id
