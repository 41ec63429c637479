"""Prefect server and worker, MLflow and the gateway on this machine's loopback address.  Run it:  make serve

Waits until all services answer, deploys prefect.yaml and prints the addresses; Ctrl-C stops everything. Set the ports
with PREFECT_SERVER_API_PORT, MLFLOW_PORT and GATEWAY_PORT, or with the options.
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
from dataclasses import dataclass
from pathlib import Path

import psutil

from flows.repro import CHILD, end_group
from flows.workspace import MLFLOW_UI, checked_port, command, top
from symbiosis.core.errors import InputError
from symbiosis.core.layout import ROUTER
from symbiosis.core.serving import serving_folder
from symbiosis.core.telemetry import TELEMETRY_OFF
from symbiosis.tracking.store import tracking_uri, without_credentials

HOST, POOL = "127.0.0.1", "symbiosis"
PATIENCE_SECONDS = 180.0
LONG_SECONDS, LONGEST_PAUSE = 600.0, 60.0
"""A service that ran for so long is started again at once; one that did not, after a pause that doubles up to this."""


@dataclass(frozen=True)
class Ports:
    """Where the services listen."""

    prefect: int
    mlflow: int
    gateway: int

    @classmethod
    def read(cls, prefect: str, mlflow: str, gateway: str) -> "Ports":
        """Read the ports' numbers.

        Raises
        ------
        InputError
            One is no port.
        """
        given = {"PREFECT_SERVER_API_PORT": prefect, "MLFLOW_PORT": mlflow, "GATEWAY_PORT": gateway}
        return cls(*(checked_port(value, name) for name, value in given.items()))

    def check(self) -> None:
        """Check that all are free.

        Raises
        ------
        InputError
            One is taken, by another program or by another of these.
        """
        taken: dict[int, str] = {}
        named = {"PREFECT_SERVER_API_PORT": self.prefect, "MLFLOW_PORT": self.mlflow, "GATEWAY_PORT": self.gateway}
        for name, port in named.items():
            if port in taken:
                raise InputError(f"port {port} is there twice: choose another with {taken[port]}=... or {name}=...")
            taken[port] = name
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise InputError(f"port {port} is taken: choose another with {name}=...") from None


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
        self._arguments: dict[str, tuple[str, ...]] = {}
        self._began: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start a module in a separate process group, its output in a log file."""
        (self.logs / f"{name}.log").write_bytes(b"")
        self._arguments[name] = arguments
        self._launch(name)

    def _launch(self, name: str) -> None:
        self._began[name] = time.monotonic()
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, str(CHILD), *self._arguments[name]],
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

    def revive(self) -> None:
        """Start again what has ended, and say so in one line: the other services go on meanwhile.

        What ends again and again is started less and less often.
        """
        now = time.monotonic()
        for name, process in self.running.items():
            status = process.poll()
            if status is None:
                continue
            if name not in self._due:
                lasted = now - self._began[name] >= LONG_SECONDS
                pause = 1.0 if lasted else min(2 * self._pauses.get(name, 0.5), LONGEST_PAUSE)
                self._pauses[name] = pause
                self._due[name] = now + pause
                log = self.logs / f"{name}.log"
                print(f"{name} ended with status {status}, started again in {pause:g} s; see {log}", flush=True)
            elif now >= self._due[name]:
                del self._due[name]
                self._launch(name)

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


def serve(ports: Ports) -> None:
    """Serve until interrupted.

    Without a trained router there is no gateway yet: Prefect may be what trains it.

    Raises
    ------
    InputError
        A port is taken, or a service does not start. One that ends later is started again.
    """
    root = top()
    api = f"http://{HOST}:{ports.prefect}/api"
    extra = {
        "PREFECT_HOME": os.environ.get("PREFECT_HOME") or str(root / ".prefect"),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_UI_API_URL": api,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # evaluation jobs that nothing here uses; saves a GB of workers
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    store = tracking_uri(root)
    local_store = store is not None and not store.startswith(("http:", "https:"))
    if local_store:
        extra[MLFLOW_UI] = f"http://{HOST}:{ports.mlflow}"
    trained = (serving_folder("router", root) / ROUTER).is_dir()
    ports.check()
    services = Services(root, TELEMETRY_OFF | os.environ | extra)
    try:
        services.start("prefect-server", "flows.prefect_server", "--port", str(ports.prefect))
        if local_store:
            network = ["--host", HOST, "--port", str(ports.mlflow), "--workers", "1"]
            # Its default lets in names of private networks and pages of any port of this machine.
            names = f"{HOST}:{ports.mlflow},localhost:{ports.mlflow}"
            network += ["--allowed-hosts", names, "--cors-allowed-origins", f"http://{HOST}:{ports.mlflow}"]
            places = ["--backend-store-uri", str(store), "--artifacts-destination", (root / "mlartifacts").as_uri()]
            services.start("mlflow", "mlflow", "server", *network, *places)
        if trained:
            services.start("gateway", "symbiosis", "gateway", "--host", HOST, "--port", str(ports.gateway))
        services.wait_for("prefect-server", f"{api}/health")
        services.run("prefect", "--no-prompt", "work-pool", "create", POOL, "--type", "process", "--overwrite")
        services.run("prefect", "--no-prompt", "work-pool", "set-concurrency-limit", POOL, "2")
        services.run("prefect", "--no-prompt", "deploy", "--all")  # makes the pool's queues
        services.run("flows.zombies", POOL)
        services.start("prefect-worker", "prefect", "worker", "start", "--pool", POOL, "--limit", "2")
        if local_store:
            services.wait_for("mlflow", f"http://{HOST}:{ports.mlflow}/health")
        if trained:
            services.wait_for("gateway", f"http://{HOST}:{ports.gateway}/health/ready")
        print(f"Prefect  http://{HOST}:{ports.prefect}", flush=True)
        shown = f"http://{HOST}:{ports.mlflow}" if local_store else without_credentials(store or "switched off")
        print(f"MLflow   {shown}", flush=True)
        waiting = f"not started, {ROUTER} is missing: `make repro` makes it"
        print(f"gateway  {f'http://{HOST}:{ports.gateway}' if trained else waiting}", flush=True)
        print(f"logs in {services.logs}; Ctrl-C stops everything", flush=True)
        while True:
            time.sleep(1)
            services.revive()
    finally:
        services.stop()


def main() -> None:
    """Serve from the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    environment = os.environ.get
    for service, variable, usual in (
        ("prefect", "PREFECT_SERVER_API_PORT", "4200"),
        ("mlflow", "MLFLOW_PORT", "5000"),
        ("gateway", "GATEWAY_PORT", "8080"),
    ):
        parser.add_argument(f"--{service}-port", metavar="N", default=environment(variable) or usual)
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with command():
        try:
            serve(Ports.read(chosen.prefect_port, chosen.mlflow_port, chosen.gateway_port))
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
