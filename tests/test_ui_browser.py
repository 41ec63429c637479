"""The user interfaces in a real browser: a flow run in Prefect, two runs compared in MLflow.

Slow, and in need of selenium and Chromium with its driver:  pytest -m slow tests/test_ui_browser.py

SCREENSHOTS names a folder for pictures of what the browser showed.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from conftest import ROOT, command
from mlflow import MlflowClient
from test_flows import until

pytest.importorskip("selenium.webdriver")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something answers at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A browser with an empty profile."""
    with chromium(tmp_path / "profile") as window:
        yield window


def shows(window: Any, *texts: str, name: str) -> None:
    """Wait until the page shows all these texts, then take its picture."""

    def missing() -> list[str]:
        body = window.execute_script("return document.body ? document.body.innerText : ''")
        return [text for text in texts if text not in body]

    try:
        until(lambda: not missing(), 60)
    finally:
        if folder := os.environ.get("SCREENSHOTS"):
            window.save_screenshot(str(Path(folder, f"{name}.png")))
        assert not missing()


def test_both_interfaces(stub: Path, browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make serve`, two scheduled-like runs, and what a person sees of them; Ctrl-C leaves nothing behind."""
    shutil.copytree(ROOT / "flows", stub / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", stub)
    command(stub, "git", "add", "-A")
    command(stub, "git", "commit", "-q", "-m", "flows")
    prefect_port, mlflow_port = free_port(), free_port()
    ports = {"PREFECT_SERVER_API_PORT": str(prefect_port), "MLFLOW_PORT": str(mlflow_port)}
    home = {"PREFECT_HOME": str(stub / ".prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api"}
    for name in ("MLFLOW_TRACKING_URI", "SYMBIOSIS_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (ports | home).items():
        monkeypatch.setenv(name, value)
    printed = (stub / ".git" / "serve.log").open("w+b")
    server = subprocess.Popen([sys.executable, "-m", "flows.serve"], stdout=printed, stderr=subprocess.STDOUT)
    try:
        until(lambda: server.poll() is not None or b"Ctrl-C" in Path(printed.name).read_bytes(), 200)
        assert server.poll() is None, Path(printed.name).read_text()

        run = ["prefect", "deployment", "run", "pipeline/nightly", "--watch"]
        command(stub, *run)
        command(stub, *run, "-p", 'overrides={"finetune.learning_rate": 0.2}')

        browser.get(f"http://127.0.0.1:{prefect_port}/runs")
        shows(browser, "pipeline", "nightly", "Completed", name="prefect_runs")
        links = browser.find_elements("css selector", "a[href*='/runs/flow-run/']")
        browser.get(links[0].get_attribute("href"))
        shows(browser, "Completed", "download", "train", "evaluate", "router", name="prefect_flow_run")
        browser.get(f"http://127.0.0.1:{prefect_port}/deployments")
        shows(browser, "nightly", "hourly", "At 02:00 AM", name="prefect_deployments")

        client = MlflowClient(tracking_uri=f"sqlite:///{stub}/mlflow.db")
        experiment = client.get_experiment_by_name("symbiosis")
        assert experiment
        runs = client.search_runs([experiment.experiment_id], "tags.`symbiosis.kind` = 'pipeline'")
        assert len(runs) == 2
        ids, experiments = (json.dumps(x) for x in ([r.info.run_id for r in runs], [experiment.experiment_id]))
        mlflow = f"http://127.0.0.1:{mlflow_port}/#"
        browser.get(f"{mlflow}/experiments/{experiment.experiment_id}/runs")
        shows(browser, runs[0].info.run_name, runs[1].info.run_name, name="mlflow_runs")
        browser.get(f"{mlflow}/compare-runs?runs={ids}&experiments={experiments}")
        shows(browser, "finetune.learning_rate", "0.1", "0.2", name="mlflow_compare")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
        printed.close()
    assert server.returncode == 0
    assert not listens(prefect_port)
    assert not listens(mlflow_port)
