"""The pipeline on local clusters of Dask and Ray: as on threads, and whoever is killed leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from conftest import command
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness
from test_flows import alive, until

from flows.parallel.runner import Kind, Runner
from flows.pipeline import pipeline

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EXTRAS = {"dask": "prefect_dask", "ray": "prefect_ray"}


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[str]:
    """One server for this file."""
    with prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()


@pytest.fixture(params=EXTRAS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kind:
    """A kind of cluster that is installed."""
    pytest.importorskip(EXTRAS[request.param])
    monkeypatch.setenv("SYMBIOSIS_TRACKING", "off")
    found: Kind = request.param
    return found


def running(stub: Path) -> tuple[psutil.Process, psutil.Process, psutil.Process]:
    """The stage that sleeps, its DVC, and who started that."""
    until((stub / "child.pid").is_file, 250)
    until(lambda: (stub / "child.pid").read_text())
    stage = psutil.Process(int((stub / "child.pid").read_text()))
    dvc = stage.parent()
    assert dvc is not None
    worker = dvc.parent()
    assert worker is not None
    return stage, dvc, worker


def test_a_failure_stops_what_needs_it(kind: Kind, stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEHAVE_train", "bad input")
    with pytest.raises(RuntimeError, match="failed: train; not run, they depend on it: evaluate"):
        pipeline(overrides={"finetune.learning_rate": 0.3, "router_train.seed": 5}, runner=Runner(kind=kind))
    assert '"quality": 0.5' in (stub_run / "reports/router.json").read_text()


def test_a_killed_worker_is_survived(kind: Kind, stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stage ends with it and is run again elsewhere; every stage goes well, with the flow's number of threads."""
    work = stub_run / "work.py"
    once = 'behave == "sleep" and not os.path.exists("child.pid"):'
    threads = '\npathlib.Path(f"threads-{stage}").write_text(str(os.environ.get("OMP_NUM_THREADS")))\n'
    work.write_text(work.read_text().replace('behave == "sleep":', once) + threads)
    monkeypatch.setenv("BEHAVE_train", "sleep")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    killed: list[psutil.Process] = []

    def kill() -> None:
        killed.extend(running(stub_run))
        killed[-1].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    outcomes = pipeline(force=True, runner=Runner(kind=kind))
    killer.join()
    assert outcomes == dict.fromkeys(("download", "baseline@a", "baseline@b", "train", "evaluate", "router"), "ran")
    assert {file.read_text() for file in stub_run.glob("threads-*")} == {"None"}
    assert killed[-1].pid != os.getpid()
    assert not [process.pid for process in killed if alive(process.pid)]
    assert "Data and pipelines are up to date" in command(stub_run, "dvc", "status")


def test_termination_leaves_no_orphan(kind: Kind, server: str, stub_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM to a flow ends its stages, its workers and the cluster that it started."""
    monkeypatch.setenv("BEHAVE_train", "sleep")
    arguments = [sys.executable, "-m", "flows.pipeline", "-f", "--runner", kind, "train"]
    with subprocess.Popen(
        arguments, env=os.environ | {"PREFECT_API_URL": server}, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    ) as flow:
        stage, dvc, worker = running(stub_run)
        below = psutil.Process(flow.pid).children(recursive=True)
        flow.terminate()
        flow.wait(60)
    assert flow.returncode == 128 + signal.SIGTERM
    assert worker.pid != flow.pid
    until(lambda: not [process.pid for process in (stage, dvc, worker, *below) if alive(process.pid)])


def test_a_killed_flow_takes_its_stages_from_a_cluster_that_goes_on(
    server: str, stub_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody cleans up, and the worker lives: the stage ends with the lease of its flow."""
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("prefect_dask")
    monkeypatch.setenv("BEHAVE_train", "sleep")
    arguments = [sys.executable, "-m", "flows.pipeline", "-f", "train", "--runner", "dask", "--address"]
    environment = os.environ | {"PREFECT_API_URL": server}
    here = {"host": "127.0.0.1", "dashboard_address": None, "n_workers": 1, "threads_per_worker": 1}
    with distributed.LocalCluster(**here) as poor:
        done = subprocess.run(
            [*arguments, poor.scheduler_address], env=environment, capture_output=True, text=True, check=False
        )
        assert "no machine of the Dask cluster" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("error: no machine of the Dask cluster at tcp://127.0.0.1:")
    with distributed.LocalCluster(**here, resources={"heavy": 1}) as cluster:
        with subprocess.Popen(
            [*arguments, cluster.scheduler_address], env=environment, stderr=subprocess.DEVNULL
        ) as flow:
            stage, dvc, worker = running(stub_run)
            flow.kill()
        until(lambda: not alive(stage.pid) and not alive(dvc.pid))
        assert alive(worker.pid)
