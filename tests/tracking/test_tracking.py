"""Tracking: live runs that never stop a training, and publishing that adds nothing twice."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import command
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from flows.overrides import override
from symbiosis.tracking.live import live_run
from symbiosis.tracking.publish import publish
from symbiosis.tracking.state import flatten, read_state
from symbiosis.tracking.store import LONGEST_NAME, metric_name, named, numbers, tracking_uri, without_credentials


def runs(uri: str) -> list[Run]:
    """All runs of the experiment."""
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("test")
    return list(client.search_runs([experiment.experiment_id])) if experiment else []


def points(uri: str) -> int:
    """How many metric points all runs hold together."""
    client = MlflowClient(tracking_uri=uri)
    return sum(len(client.get_metric_history(run.info.run_id, key)) for run in runs(uri) for key in run.data.metrics)


def history(uri: str, run: Run, key: str) -> list[tuple[int, float]]:
    """The curve of one metric."""
    return [(m.step, m.value) for m in MlflowClient(tracking_uri=uri).get_metric_history(run.info.run_id, key)]


# ------------------------------------------------------------------ names and addresses


def test_names_and_numbers() -> None:
    """Names are made legal; only finite numbers are metrics."""
    assert metric_name("ours.recall@20 (±)") == "ours.recall_at_20 ___"
    nested = {"a": {"b": 1, "c": [1, 2]}, "d": True, "e": "x", "f": float("inf"), "g": float("nan"), "h@1": 0.5}
    assert numbers(flatten(nested)) == {"a.b": 1.0, "h_at_1": 0.5}


@pytest.mark.parametrize(
    "name",
    ["模型", "../../x", "a//b", "/x", "x/", ".", "..", "a/./b", "<b>", "𝕏😀", "x" * 300, 'q"\\', "=1+1", "a\nb"],
)
def test_names_of_users_are_legal_metrics(name: str) -> None:
    """LLMs stand in the keys of reports and params; MLflow refuses what is no plain path of its own."""
    for key in (name, f"llms.{name}", f"{name}.aiq"):
        legal = metric_name(key)
        _validate_metric_name(legal)
        _validate_param_name(legal)
        assert 0 < len(legal) <= LONGEST_NAME
    assert len(named({name: 1, f"{name}|": 2, f"{name}*": 3})) == 3


def test_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sqlite paths are absolute, copies of DVC's queue write to the repository itself, tracking can be off."""
    for name in ("MLFLOW_TRACKING_URI", "SYMBIOSIS_TRACKING", "DVC_ROOT"):
        monkeypatch.delenv(name, raising=False)
    expected = f"sqlite:///{tmp_path}/mlflow.db"
    assert tracking_uri(tmp_path) == expected
    monkeypatch.chdir(tmp_path)
    assert tracking_uri() == expected
    assert tracking_uri(tmp_path / ".dvc" / "tmp" / "exps" / "standalone" / "tmp123") == expected
    assert tracking_uri(tmp_path / ".runs" / "scientific18") == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/other.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@host:1/x")
    assert tracking_uri() == "http://user:secret@host:1/x"
    assert without_credentials("http://user:secret@host:1/x") == "http://host:1/x"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri() is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host")
    monkeypatch.setenv("SYMBIOSIS_TRACKING", "off")
    assert tracking_uri() is None


# ------------------------------------------------------------------ live runs


def test_live_run_resumes(database: str) -> None:
    """A resumed training goes on in the same run, and a repeated step is not recorded twice."""

    def interrupted() -> None:
        with live_run("finetune", "mark") as live:
            live.log({"loss": 3.0, "recall@20": 0.1, "step": 1, "name": "x"}, 1)
            live.log({"loss": 2.0}, 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [run.info.status for run in runs(database)] == ["KILLED"]
    with live_run("finetune", "mark") as live:
        live.log({"loss": 2.0}, 2)
        live.log({"loss": 1.0}, 3)
    with live_run("finetune", "other") as live:
        live.log({"loss": 9.0}, 1)
    first, second = sorted(runs(database), key=lambda run: run.info.start_time)
    assert (first.info.status, first.info.run_name) == ("FINISHED", "finetune")
    assert history(database, first, "loss") == [(1, 3.0), (2, 2.0), (3, 1.0)]
    assert set(first.data.metrics) == {"loss", "recall_at_20"}
    assert first.data.tags["symbiosis.fingerprint"] == "mark"
    assert history(database, second, "loss") == [(1, 9.0)]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@pytest.mark.parametrize("case", ["refused", "silent", "read-only", "no folder", "nonsense"])
def test_store_that_is_down(
    case: str,
    silent_server: str,
    empty_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Whatever is wrong with the store, the training goes on after one line."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
        uri = {
            "refused": closed,
            "silent": silent_server,
            "read-only": f"sqlite:///file:{empty_database}?mode=ro&uri=true",
            "no folder": "sqlite:////proc/nowhere/mlflow.db",
            "nonsense": "nonsense://x",
        }[case]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "test")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with live_run("finetune", "mark") as live:
            live.log({"loss": 1.0}, 1)
            live.log({"loss": 1.0}, 2)
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "cannot be used" in told
    assert "secret" not in told


def test_store_that_goes_down(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A store that fails during training is told once and left alone."""
    calls = []

    def fail(*_: object, **__: object) -> None:
        calls.append(1)
        raise ConnectionError("gone")

    with live_run("finetune", "mark") as live:
        live.log({"loss": 1.0}, 1)
        monkeypatch.setattr(MlflowClient, "log_batch", fail)
        live.log({"loss": 1.0}, 2)
        live.log({"loss": 1.0}, 3)
    assert len(calls) == 1
    assert capsys.readouterr().err.count("cannot be used (gone)") == 1


def test_training_errors_are_not_hidden(database: str) -> None:
    """An error of the training passes through, and the run is marked."""
    with pytest.raises(ZeroDivisionError), live_run("finetune", "mark"):
        raise ZeroDivisionError
    assert [run.info.status for run in runs(database)] == ["FAILED"]


def test_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Switched off, nothing is written and mlflow is not even imported."""
    code = (
        "import sys; from symbiosis.tracking.live import live_run\n"
        "with live_run('finetune', 'mark') as live: live.log({'loss': 1.0}, 1)\n"
        "assert 'mlflow' not in sys.modules"
    )
    monkeypatch.setenv("SYMBIOSIS_TRACKING", "off")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------ publishing


def test_publish_once(stub_run: Path, database: str) -> None:
    """One parent, one nested run per stage, params, metrics, curves, files, digests; a second publish adds nothing."""
    with live_run("train", "mark0.1") as live:  # as if the tracking server had gone down after the first epoch
        live.log({"loss": 0.1, "recall@20": 0.01}, 10)
    live_id = runs(database)[0].info.run_id
    done = publish(stub_run, flow_run_id="flow-1")
    assert done is not None
    assert (done.new_runs, done.unreadable) == (7, [])
    by_stage = {run.data.tags.get("dvc.stage"): run for run in runs(database)}
    assert set(by_stage) == {None, "download", "baseline@a", "baseline@b", "train", "evaluate", "router"}
    parent, train, evaluate = by_stage[None], by_stage["train"], by_stage["evaluate"]
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for name, run in by_stage.items() if name)
    assert {run.info.status for run in by_stage.values()} == {"FINISHED"}

    assert train.info.run_id == live_id
    assert history(database, train, "loss") == [(10, 0.1), (20, 0.05), (30, 0.1 / 3)]
    assert history(database, by_stage["router"], "regret.random") == [(1, 0.5), (2, 0.75)]
    assert history(database, by_stage["router"], "regret.oracle") == [(1, 0.0), (2, 0.0)]
    assert train.data.params == {"finetune.learning_rate": "0.1"}
    assert evaluate.data.metrics["recommender.recommender.recall_at_20.mean"] == 0.1
    assert evaluate.data.metrics["recommender.data.users"] == 7.0
    assert "recommender.data.note" not in evaluate.data.metrics
    assert parent.data.metrics.items() >= evaluate.data.metrics.items()
    assert parent.data.metrics["router.test.oracle.quality"] == 0.4
    assert parent.data.params["router_train.seed"] == "4"

    lock = read_state(stub_run)
    data = {item.dataset.name: item.dataset.digest for item in train.inputs.dataset_inputs}
    assert list(data) == ["data/raw"]
    assert data["data/raw"].endswith(".dir")
    assert by_stage["download"].data.tags["dvc.out_md5.data/raw"] == data["data/raw"]
    commit = command(stub_run, "git", "rev-parse", "HEAD").strip()
    for run in by_stage.values():
        assert run.data.tags["dvc.lock_sha256"] == lock.sha256
        assert run.data.tags["prefect.flow_run_id"] == "flow-1"
        assert run.data.tags["git.commit"] == commit
        assert run.data.tags["git.dirty"] == "false"
    client = MlflowClient(tracking_uri=database)
    assert [f.path for f in client.list_artifacts(train.info.run_id, "reports/curves")] == ["reports/curves/train.csv"]
    assert [f.path for f in client.list_artifacts(parent.info.run_id, "reports")] == ["reports/page.html"]

    before = points(database)
    (stub_run / "work.py").write_text((stub_run / "work.py").read_text() + "# changed since\n")
    again = publish(stub_run, flow_run_id="flow-2")
    assert again is not None
    assert again.new_runs == 0
    assert (len(runs(database)), points(database)) == (7, before)
    tags = client.get_run(parent.info.run_id).data.tags
    assert (tags["prefect.flow_run_id"], tags["git.dirty"]) == ("flow-2", "true")


def test_publish_another_state(stub_run: Path, database: str) -> None:
    """A changed param makes a second parent; unchanged stages appear below it too, marked as the same result."""
    with live_run("train", "mark0.1") as live:
        live.log({"loss": 0.1}, 10)
    publish(stub_run)
    override(stub_run / "params.yaml", {"router_train.seed": 5})
    command(stub_run, "dvc", "repro", "-q", "router")
    done = publish(stub_run)
    assert done is not None
    assert done.new_runs == 7
    everything = runs(database)
    assert len(everything) == 14
    trains = [run for run in everything if run.data.tags.get("dvc.stage") == "train"]
    assert len({run.data.tags["mlflow.parentRunId"] for run in trains}) == 2
    assert len({run.data.tags["dvc.stage_sha256"] for run in trains}) == 1
    assert [len(history(database, run, "loss")) for run in trains] == [3, 3]

    override(stub_run / "params.yaml", {"router_train.seed": 4})
    command(stub_run, "dvc", "repro", "-q")
    back = publish(stub_run)
    assert back is not None
    assert back.new_runs == 0
    assert len(runs(database)) == 14


def test_stages_run_with_different_params_are_published(stub_run: Path, database: str) -> None:
    """Part of the pipeline was run with another value: each stage tells its own, the parent none."""
    lock = yaml.safe_load((stub_run / "dvc.lock").read_text())
    lock["stages"]["train"]["params"]["params.yaml"]["router_train.seed"] = 9
    (stub_run / "dvc.lock").write_text(yaml.safe_dump(lock))
    publish(stub_run)
    told = {run.data.tags.get("dvc.stage"): run.data.params.get("router_train.seed") for run in runs(database)}
    assert (told["train"], told["router"], told[None]) == ("9", "4", None)
    parent = next(run for run in runs(database) if "dvc.stage" not in run.data.tags)
    assert parent.data.params["finetune.learning_rate"] == "0.1"


def test_publish_resumes(stub_run: Path, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A publish that broke off is completed by the next one, without repeating what was there."""
    complete = MlflowClient.log_artifacts
    calls = []

    def fail_late(self: MlflowClient, *arguments: str) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise ConnectionError("gone")
        complete(self, *arguments)

    monkeypatch.setattr(MlflowClient, "log_artifacts", fail_late)
    with pytest.raises(ConnectionError):
        publish(stub_run)
    monkeypatch.setattr(MlflowClient, "log_artifacts", complete)
    publish(stub_run)
    once = (len(runs(database)), points(database))
    results = sum(len(numbers(stage.metrics)) for stage in read_state(stub_run).stages)
    assert once == (7, 3 * 3 + 2 * 2 + 2 * results)  # two curves of the stages; results also on the parent
    publish(stub_run)
    assert (len(runs(database)), points(database)) == once


def test_only_what_the_lock_says(stub_run: Path, database: str) -> None:
    """An edited result is not published as if the pipeline had made it; a lost one is named."""
    (stub_run / "reports" / "recommender.json").write_text('{"recommender": {"recall@20": 1.0}}')
    (stub_run / "params.yaml").write_text("finetune: {learning_rate: 99}\n")
    publish(stub_run)
    parent = next(run for run in runs(database) if "dvc.stage" not in run.data.tags)
    assert parent.data.metrics["recommender.recommender.recall_at_20.mean"] == 0.1
    assert parent.data.params["finetune.learning_rate"] == "0.1"

    command(stub_run, "rm", "-r", ".dvc/cache")
    done = read_state(stub_run)
    assert done.unreadable == ["evaluate"]
