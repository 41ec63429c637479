"""One door records the state, shows its headlines and registers its models; again, it adds nothing."""

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from conftest import command
from mlflow import MlflowClient
from registry_world import write_models

from flows.overrides import override
from symbiosis.core.errors import InputError
from symbiosis.registry.publication import publish_state
from symbiosis.registry.versions import Registry
from symbiosis.reporting.summaries import headlines


def test_published_once(stub_run: Path, database: str) -> None:
    """Headlines on the run are those of README.md; the model is attached to the run."""
    write_models(stub_run, "trained")
    done = publish_state(stub_run, flow_run_id="flow-1")
    assert done is not None
    assert [(one.version, one.new) for one in done.registered] == [(1, True)]
    assert done.refused == ()
    client = MlflowClient(tracking_uri=database)
    run = client.get_run(done.recorded.run_id)
    assert run.info.run_name.endswith(f" pipeline {done.recorded.state.sha256[:8]}")
    recommender, router = headlines(stub_run / "reports")
    shown = [name for name in sorted(run.data.metrics) if name[0].isdecimal()]
    assert shown == ["1 recommender recall_at_20", "2 router aiq"]
    assert sorted(run.data.metrics)[:2] == shown
    assert run.data.metrics["1 recommender recall_at_20"] == recommender.value
    assert run.data.metrics["2 router aiq"] == router.value
    note = run.data.tags["mlflow.note.content"]
    assert f"| {recommender.measure} | {recommender.ours} |" in note
    view = client.get_experiment(run.info.experiment_id).tags["mlflow.sharedViewState.headlines"]
    packed = json.loads(view)["state"].removeprefix("deflate;")
    columns = json.loads(zlib.decompress(base64.b64decode(packed)))["selectedColumns"]
    assert columns == [f"metrics.`{name}`" for name in shown]
    version = done.registered[0]
    assert version.run_id == run.info.run_id
    assert version.tags["dvc.lock_sha256"] == done.recorded.state.sha256
    assert version.tags["git.commit"] == command(stub_run, "git", "rev-parse", "HEAD").strip()
    assert version.tags["router AIQ"] == router.ours
    again = publish_state(stub_run)
    assert again is not None
    assert [(one.version, one.new) for one in again.registered] == [(1, False)]
    assert client.get_run(run.info.run_id).data.metrics == run.data.metrics
    assert len(client.get_metric_history(run.info.run_id, "2 router aiq")) == 1
    assert len(Registry(stub_run).versions("router")) == 1


def test_a_state_without_models(stub_run: Path, database: str) -> None:
    """Only what is there is registered."""
    done = publish_state(stub_run)
    assert done is not None
    assert (done.registered, done.refused) == ((), ())
    assert "7 new runs" in done.lines()[-1]


def test_a_model_that_is_not_of_this_state(stub_run: Path, database: str) -> None:
    """The state is recorded all the same, and one line says what was not registered."""
    write_models(stub_run, "trained")
    (stub_run / "models/encoder/encoder.json").unlink()
    done = publish_state(stub_run)
    assert done is not None
    assert done.registered == ()
    assert done.lines()[-1] == (
        "not registered: models/encoder is missing: run `dvc repro`, or `dvc checkout` if it was made before"
    )


def test_copies_register_nothing(stub_run: Path, database: str) -> None:
    """A named run is recorded, its models are no candidates of the repository."""
    copy = stub_run / ".runs" / "named"
    copy.mkdir(parents=True)
    for name in ("dvc.lock", "dvc.yaml", "reports"):
        command(stub_run, "cp", "-r", name, str(copy))
    write_models(copy, "trained")
    done = publish_state(copy)
    assert done is not None
    assert done.registered == ()


def test_experiments(stub_run: Path, database: str) -> None:
    """DVC experiments are published from their own commits, under their names."""
    command(stub_run, "dvc", "exp", "run", "-q", "-n", "faster", "-S", "finetune.learning_rate=0.2")
    command(stub_run, "git", "checkout", "-q", "--", ".")
    printed = command(stub_run, sys.executable, "-m", "symbiosis.registry", "--experiments")
    assert "faster: run" in printed
    client = MlflowClient(tracking_uri=database)
    experiment = client.get_experiment_by_name("test")
    assert experiment
    everything = client.search_runs([experiment.experiment_id])
    parent = next(run for run in everything if "dvc.stage" not in run.data.tags)
    assert parent.info.run_name == "faster"
    assert parent.data.params["finetune.learning_rate"] == "0.2"
    assert parent.data.metrics["1 recommender recall_at_20"] == 0.2
    assert parent.data.tags["dvc.exp_name"] == "faster"
    assert parent.data.tags["dvc.exp_baseline"] == command(stub_run, "git", "rev-parse", "HEAD").strip()


def test_command_line(stub: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors are one line; a server that is down is one of them."""
    module = [sys.executable, "-m", "symbiosis.registry"]
    assert "Record the pipeline's state" in command(stub, *module, "--help")
    with pytest.raises(InputError, match=r"dvc\.lock is missing: run `dvc repro` first"):
        publish_state(stub)
    override(stub / "params.yaml", {"router_train.seed": 5})
    command(stub, "dvc", "repro", "-q", "router")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    done = subprocess.run(module, cwd=stub, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: MLflow at http://127.0.0.1:9 cannot be used")
    assert done.stderr.count("\n") == 1
