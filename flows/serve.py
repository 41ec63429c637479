"""Prefect server and worker and the MLflow UI on this machine's loopback address.  Run it:  make serve

Waits until all services answer, deploys prefect.yaml and prints the two addresses; Ctrl-C stops everything. Set the
ports with PREFECT_SERVER_API_PORT and MLFLOW_PORT, or with the options.
"""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil

from flows.repro import CHILD, end_group
from flows.workspace import checked_port, command, port_of, top
from symbiosis.core.errors import InputError
from symbiosis.core.telemetry import TELEMETRY_OFF
from symbiosis.tracking.store import tracking_uri, without_credentials

HOST, POOL = "127.0.0.1", "symbiosis"
PATIENCE_SECONDS = 180.0


class Services:
    """Processes that end with this one.

    Parameters
    ----------
    root
        Their working directory.
    environment
        Their environment variables.
    """

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root, self.environment = root, environment
        self.logs = root / ".prefect" / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start a module in a separate process group, its output in a log file."""
        with (self.logs / f"{name}.log").open("wb") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, str(CHILD), *arguments],
                cwd=self.root,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, *arguments: str) -> None:
        """Run a module and wait for it.

        Raises
        ------
        InputError
            It failed; the message ends with its last output.
        """
        command = [sys.executable, str(CHILD), *arguments]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stdout + done.stderr).strip().splitlines()[-15:]
            raise InputError("\n".join([f"`{' '.join(arguments)}` failed:", *last]))

    def check(self) -> None:
        """Check that every process still runs.

        Raises
        ------
        InputError
            One has ended; the message ends with its last output.
        """
        for name, process in self.running.items():
            if process.poll() is not None:
                last = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
                raise InputError("\n".join([f"{name} ended with status {process.returncode}:", *last]))

    def wait_for(self, name: str, url: str) -> None:
        """Wait until a URL answers.

        Raises
        ------
        InputError
            It did not in time, or a process has ended.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            self.check()
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.3)
        raise InputError(f"{name} did not answer at {url} in {PATIENCE_SECONDS:.0f} s; see {self.logs}/{name}.log")

    def stop(self) -> None:
        """End all processes, newest first; flow runs, which a stopped worker leaves running, before the server."""
        for name in reversed(list(self.running)):
            process = self.running.pop(name)
            try:
                started = psutil.Process(process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                started = []
            end_group(process)
            for child in started:
                with suppress(psutil.NoSuchProcess):
                    child.terminate()
            for child in psutil.wait_procs(started, timeout=30)[1]:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def serve(prefect_port: int, mlflow_port: int) -> None:
    """Serve until interrupted.

    Raises
    ------
    InputError
        A port is taken, or a service does not start or ends.
    """
    root = top()
    api = f"http://{HOST}:{prefect_port}/api"
    extra = {
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(root / ".prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluation jobs that nothing here uses; saves a GB of workers
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    store = tracking_uri(root)
    local_store = store is not None and not store.startswith(("http:", "https:"))
    for name, port in (("PREFECT_SERVER_API_PORT", prefect_port), ("MLFLOW_PORT", mlflow_port)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                raise InputError(f"port {port} is taken: choose another with {name}=...") from None
    services = Services(root, TELEMETRY_OFF | os.environ | extra)
    try:
        services.start("prefect-server", "prefect", "server", "start", "--host", HOST, "--port", str(prefect_port))
        if local_store:
            network = ["--host", HOST, "--port", str(mlflow_port), "--workers", "1"]
            places = ["--backend-store-uri", str(store), "--artifacts-destination", (root / "mlartifacts").as_uri()]
            services.start("mlflow", "mlflow", "server", *network, *places)
        services.wait_for("prefect-server", f"{api}/health")
        services.run("prefect", "--no-prompt", "work-pool", "create", POOL, "--type", "process", "--overwrite")
        services.run("prefect", "--no-prompt", "work-pool", "set-concurrency-limit", POOL, "1")
        services.run("prefect", "--no-prompt", "deploy", "--all")
        services.run("flows.zombies", POOL)
        services.start("prefect-worker", "prefect", "worker", "start", "--pool", POOL, "--limit", "1")
        if local_store:
            services.wait_for("mlflow", f"http://{HOST}:{mlflow_port}/health")
        print(f"Prefect  http://{HOST}:{prefect_port}", flush=True)
        shown = f"http://{HOST}:{mlflow_port}" if local_store else without_credentials(store or "switched off")
        print(f"MLflow   {shown}", flush=True)
        print(f"logs in {services.logs}; Ctrl-C stops everything", flush=True)
        while True:
            time.sleep(1)
            services.check()
    finally:
        services.stop()


def main() -> None:
    """Serve from the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument("--prefect-port", type=int, help="default: PREFECT_SERVER_API_PORT, or 4200")
    parser.add_argument("--mlflow-port", type=int, help="default: MLFLOW_PORT, or 5000")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        given = {"--prefect-port": chosen.prefect_port, "--mlflow-port": chosen.mlflow_port}
        ports = {name: checked_port(port, name) for name, port in given.items() if port is not None}
        prefect_port = ports.get("--prefect-port") or port_of("PREFECT_SERVER_API_PORT", 4200)
        mlflow_port = ports.get("--mlflow-port") or port_of("MLFLOW_PORT", 5000)
        try:
            serve(prefect_port, mlflow_port)
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
