"""The whole pipeline on tiny synthetic data: what runs, what is restored, what is recorded."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, command, repository
from mlflow import MlflowClient
from test_dag import RECOMMENDER, ROUTER

from flows.overrides import override
from symbiosis.registry.publication import publish_state
from symbiosis.reporting.results import text

TINY = {
    "download.synthetic": {"users": 60, "items": 40, "interactions": 600, "drift": 0.3},
    "corpus.maximum_words": 12,
    "pretrain.scratch": {"vocabulary": 400, "width": 16, "layers": 1, "heads": 2},
    "pretrain.content_epochs": 1,
    "pretrain.interaction_epochs": 1,
    "finetune.epochs": 2,
    "baselines.item_knn.neighbours": [20],
    "baselines.item_knn.shrinkage": [10],
    "baselines.rp3beta": {"seed": 19, "alpha": [0.3], "beta": [0], "neighbours": [20]},
    "baselines.ease.l2": [100],
    "baselines.slim": {"seed": 19, "l1": [0.5], "l2": [20]},
    "baselines.ials.dimension": [8],
    "baselines.ials.epochs": 2,
    "evaluate.bootstrap_samples": 100,
    "download_routing.synthetic": {"queries": 120},
    "train_encoder.maximum_tokens": 32,
    "router_train.choice.queries": 80,
    "router_train.choice.trees": 30,
    "router_train.choice.dimensions": [16],
    "router_train.choice.leaves": [5],
    "router_train.choice.decays": [1.5],
    "router_train.network.steps": 60,
    "router_train.forest.trees": 30,
    "compare_routers.robustness.queries": 8,
    "compare_routers.stream.points": 3,
    "report_routers.bootstrap_samples": 100,
    "online_replay.bootstrap_samples": 100,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[str]:
    """The MLflow database of this file."""
    file = tmp_path_factory.mktemp("tracking") / "mlflow.db"
    shutil.copy(empty_database, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
        patch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.delenv("SYMBIOSIS_TRACKING", raising=False)
        yield f"sqlite:///{file}"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, database: str) -> Path:
    """A clone with tiny params, run once and committed."""
    folder = tmp_path_factory.mktemp("pipeline") / "clone"
    files = command(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in files:
        if (ROOT / name).is_file() and name != "dvc.lock" and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    override(folder / "params.yaml", TINY)
    repository(folder)
    printed = command(folder, "dvc", "repro")
    (folder / ".git" / "first_run.log").write_text(printed)
    command(folder, "git", "add", "-A")
    command(folder, "git", "commit", "-q", "-m", "run")
    return folder


def stages_in(printed: str, sign: str) -> list[str]:
    """Stages that DVC mentions with a sign."""
    return re.findall(rf"^{sign.format('(.+)')}", printed, re.MULTILINE)


def ran(printed: str) -> list[str]:
    """Stages that were executed."""
    return stages_in(printed, "Running stage '{}':")


def restored(printed: str) -> list[str]:
    """Stages whose outputs came from the cache."""
    return stages_in(printed, "Stage '{}' is cached")


def test_first_run(pipeline: Path) -> None:
    """Everything ran once; both reports are there and say what they should."""
    printed = (pipeline / ".git" / "first_run.log").read_text()
    assert sorted(ran(printed)) == sorted(RECOMMENDER + ROUTER)
    table = text(pipeline / "reports")
    assert "LLM for RecSys" in table
    assert "RecSys for LLM" in table
    shown = json.loads(command(pipeline, "dvc", "metrics", "show", "--json"))[""]["data"]
    assert {"reports/recommender.json", "reports/router.json"} <= set(shown)
    command(pipeline, "dvc", "plots", "diff", "--json", "HEAD")
    assert command(pipeline, "git", "status", "--porcelain") == ""


def test_second_run_runs_nothing(pipeline: Path) -> None:
    """Nothing has changed, so nothing runs and nothing is written."""
    printed = command(pipeline, "dvc", "repro")
    assert not ran(printed)
    assert not restored(printed)
    assert "Data and pipelines are up to date." in printed
    assert command(pipeline, "git", "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("finetune.learning_rate", 0.02, ["finetune", "rerank", "final-fit", "evaluate"]),
        ("online_replay.seed", 5, ["online-replay", "study-feedback@1"]),  # both read the block
    ],
)
def test_one_changed_param(key: str, value: float, expected: list[str], pipeline: Path) -> None:
    """Exactly the affected stages run, metrics and params can be compared, and the old value is not run again."""
    try:
        override(pipeline / "params.yaml", {key: value})
        assert ran(command(pipeline, "dvc", "repro")) == expected
        block = key.split(".")[0]
        compared = json.loads(command(pipeline, "dvc", "params", "diff", "--json"))
        assert compared["params.yaml"][key]["new"] == value, block
        metrics = json.loads(command(pipeline, "dvc", "metrics", "diff", "--json"))
        other = "reports/router.json" if "evaluate" in expected else "reports/recommender.json"
        assert metrics
        assert other not in metrics
    finally:
        command(pipeline, "git", "checkout", "-q", "params.yaml")
    printed = command(pipeline, "dvc", "repro")
    assert not ran(printed)
    assert restored(printed) == expected
    assert command(pipeline, "git", "status", "--porcelain") == ""


def test_published_once(pipeline: Path, database: str) -> None:
    """One nested run per stage, the live runs among them; a second publish adds nothing."""
    client = MlflowClient(tracking_uri=database)

    def recorded() -> tuple[int, int]:
        experiment = client.get_experiment_by_name("test")
        assert experiment
        runs = client.search_runs([experiment.experiment_id])
        return len(runs), sum(len(client.get_metric_history(r.info.run_id, k)) for r in runs for k in r.data.metrics)

    before, _ = recorded()  # live runs: of the first run and of the changed param
    done = publish_state(pipeline)
    assert done is not None
    assert done.recorded.unreadable == []
    assert [one.new for one in done.registered] == [True] * len(done.registered)
    assert "router" in [one.kind for one in done.registered]
    once = recorded()
    assert once[0] - before == 1 + len(RECOMMENDER + ROUTER) - len(["pretrain", "finetune", "rerank"])
    again = publish_state(pipeline)
    assert again is not None
    assert again.recorded.new_runs == 0
    assert not any(one.new for one in again.registered)
    assert recorded() == once
    children = client.search_runs(
        [client.get_run(done.recorded.run_id).info.experiment_id],
        f"tags.mlflow.parentRunId = '{done.recorded.run_id}'",
    )
    finetune = next(run for run in children if run.data.tags["dvc.stage"] == "finetune")
    steps = [metric.step for metric in client.get_metric_history(finetune.info.run_id, "loss")]
    assert len(steps) == TINY["finetune.epochs"]
    assert len(set(steps)) == len(steps)
    assert "symbiosis.fingerprint" in finetune.data.tags


# ------------------------------------------------------------------ minutes


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_same_bytes_again(pipeline: Path) -> None:
    """Everything run anew gives the same digests of everything."""
    command(pipeline, "dvc", "repro", "--force")
    assert command(pipeline, "git", "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("stage", RECOMMENDER + ROUTER)
def test_stages_need_only_what_they_declare(stage: str, pipeline: Path, tmp_path: Path) -> None:
    """A stage gives the same outputs in a folder with its declared data and nothing else."""
    entry = yaml.safe_load((pipeline / "dvc.lock").read_text())["stages"][stage]
    for name in ("symbiosis", "stages"):
        shutil.copytree(pipeline / name, tmp_path / name)
    shutil.copy(pipeline / "params.yaml", tmp_path)
    for dep in entry["deps"]:
        source, target = pipeline / dep["path"], tmp_path / dep["path"]
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    command(tmp_path, "env", "SYMBIOSIS_TRACKING=off", "sh", "-c", entry["cmd"])
    for out in entry["outs"]:
        command(tmp_path, "diff", "-r", "-x", ".gitignore", out["path"], str(pipeline / out["path"]))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_training_resumes(pipeline: Path) -> None:
    """Kill -9 during finetune, run again: it goes on from its checkpoint and ends with the digests of one go."""
    params = {"finetune.checkpoint_seconds": 0, "finetune.epochs": 40, "finetune.patience": 40}
    try:
        override(pipeline / "params.yaml", params)
        with subprocess.Popen(["dvc", "repro", "-q", "finetune"], cwd=pipeline, start_new_session=True) as run:
            deadline = time.monotonic() + 120
            while not list((pipeline / ".checkpoints/finetune").glob("*/step_*")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.killpg(run.pid, signal.SIGKILL)
        assert not (pipeline / "models/finetune").exists()
        assert "continues from step" in command(pipeline, "dvc", "repro", "finetune")
        resumed = (pipeline / "dvc.lock").read_bytes()
        assert not (pipeline / ".checkpoints/finetune").exists() or not list(
            (pipeline / ".checkpoints/finetune").iterdir()
        )
        command(pipeline, "dvc", "repro", "--force", "--single-item", "finetune")
        assert (pipeline / "dvc.lock").read_bytes() == resumed
    finally:
        command(pipeline, "git", "checkout", "-q", "--", ".")
        command(pipeline, "dvc", "checkout", "-q")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_queued_experiments(pipeline: Path, database: str) -> None:
    """A grid runs from the queue in copies of the workspace and is recorded under its names."""
    command(pipeline, "dvc", "exp", "run", "--queue", "-S", "online_replay.seed=6,7")
    command(pipeline, "dvc", "queue", "start", "-j", "1")
    deadline = time.monotonic() + 300
    while command(pipeline, "dvc", "queue", "status").count("Success") < 2:
        assert time.monotonic() < deadline, command(pipeline, "dvc", "queue", "status")
        time.sleep(2)
    printed = command(pipeline, "env", f"PYTHONPATH={pipeline}", "python", "-m", "symbiosis.registry", "--experiments")
    assert printed.count("new runs") == 2
    assert command(pipeline, "git", "status", "--porcelain", "-uno") == ""
