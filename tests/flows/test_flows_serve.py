"""`make serve`: ports, what it starts, and what it says; the services themselves are stand-ins."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from conftest import ROOT
from test_flows import until

from flows import serve as module
from flows.serve import Ports, Services, serve
from symbiosis.core.errors import InputError

SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/health", "/api/health", "/health/ready") else 404)
        self.end_headers()
    def log_message(self, *_): pass
if "--port" in sys.argv and "server" in sys.argv + ["server"]:
    http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
if "worker" in sys.argv:
    import time
    time.sleep(600)
"""


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on."""
    with ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@pytest.fixture
def ports() -> dict[str, str]:
    """Free ports by the name of their variable."""
    names = ("PREFECT_SERVER_API_PORT", "MLFLOW_PORT", "GATEWAY_PORT")
    return {name: str(port) for name, port in zip(names, free_ports(3), strict=True)}


@pytest.mark.parametrize("bad", ["eighty", "0", "65536", "-1", "８０８０", "1e3"])
@pytest.mark.parametrize("name", ["PREFECT_SERVER_API_PORT", "MLFLOW_PORT", "GATEWAY_PORT"])
def test_a_port_is_a_number(name: str, bad: str) -> None:
    """One line that names the variable."""
    given = {"PREFECT_SERVER_API_PORT": "4200", "MLFLOW_PORT": "5000", "GATEWAY_PORT": "8080"} | {name: bad}
    with pytest.raises(InputError, match=rf"^{name}={bad} is no port: give a number from 1 to 65535$"):
        Ports.read(*given.values())


def test_bad_ports_end_in_one_line(ports: dict[str, str]) -> None:
    """From the command line, too, before anything starts."""
    environment = os.environ | ports | {"GATEWAY_PORT": "eighty"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.serve"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: GATEWAY_PORT=eighty is no port: give a number from 1 to 65535\n"


def test_a_port_that_is_taken(ports: dict[str, str]) -> None:
    """By another program, or by another of the services."""
    checked = Ports.read(*ports.values())
    checked.check()
    with (
        socket.create_server(("127.0.0.1", checked.gateway)),
        pytest.raises(InputError, match=rf"port {checked.gateway} is taken: choose another with GATEWAY_PORT=\.\.\."),
    ):
        checked.check()
    with pytest.raises(InputError, match="is there twice: choose another with PREFECT_SERVER_API_PORT=... or MLFLOW"):
        Ports(checked.prefect, checked.prefect, checked.gateway).check()


@pytest.fixture
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty repository in which every service is a stand-in that answers on its port."""
    stand_in = tmp_path / "service.py"
    stand_in.write_text(SERVICE)
    monkeypatch.setattr(module, "top", lambda: tmp_path)
    monkeypatch.setattr(module, "CHILD", stand_in)
    for name in ("MLFLOW_TRACKING_URI", "SYMBIOSIS_TRACKING"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    assert not [child for child in psutil.Process().children() if str(stand_in) in child.cmdline()]


def interrupt_when(monkeypatch: pytest.MonkeyPatch, seen: Callable[[], None]) -> None:
    """Let the loop that follows the start look once, then end as by Ctrl-C."""

    monkeypatch.setattr(Services, "revive", lambda _: seen())


@pytest.mark.parametrize("trained", [True, False])
def test_all_three_are_started(
    top: Path,
    ports: dict[str, str],
    trained: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each answers before its address is printed; without a trained router the gateway waits, and it is said."""
    chosen = Ports.read(*ports.values())
    if trained:
        (top / "models/router").mkdir(parents=True)
    said = ""

    def seen() -> None:
        nonlocal said
        said += capsys.readouterr().out
        if "Ctrl-C" not in said:
            return
        with urllib.request.urlopen(f"http://127.0.0.1:{chosen.mlflow}/health") as answer:
            assert answer.status == 200
        raise KeyboardInterrupt

    interrupt_when(monkeypatch, seen)
    with pytest.raises(KeyboardInterrupt):
        serve(chosen)
    lines = said.splitlines()
    assert lines[0] == f"Prefect  http://127.0.0.1:{chosen.prefect}"
    assert lines[1] == f"MLflow   http://127.0.0.1:{chosen.mlflow}"
    missing = "gateway  not started, models/router is missing: `make repro` makes it"
    assert lines[2] == (f"gateway  http://127.0.0.1:{chosen.gateway}" if trained else missing)
    assert (top / ".prefect/logs/gateway.log").exists() == trained
    chosen.check()


def test_a_gateway_that_ends_is_told(top: Path, ports: dict[str, str]) -> None:
    """With its last words; the others are stopped."""
    (top / "models/router").mkdir(parents=True)
    words = "import sys\nif 'gateway' in sys.argv: sys.exit('error: gateway.yaml: no such LLM')\n"
    (top / "service.py").write_text(words + SERVICE)
    with pytest.raises(InputError, match=r"gateway ended with status 1:\nerror: gateway\.yaml: no such LLM"):
        serve(Ports.read(*ports.values()))


def test_what_ends_is_started_again(
    top: Path, ports: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow is killed twice: the gateway serves on, and each time one line says what comes next."""
    (top / "models/router").mkdir(parents=True)
    chosen = Ports.read(*ports.values())
    revive, killed = Services.revive, []

    def look(services: Services) -> None:
        process = services.running["mlflow"]
        if len(killed) < 2 and process.pid not in killed:
            killed.append(process.pid)
            process.kill()
            process.wait()
        revive(services)
        if process.pid not in killed:
            services.wait_for("mlflow", f"http://127.0.0.1:{chosen.mlflow}/health")
            raise KeyboardInterrupt

    monkeypatch.setattr(Services, "revive", look)
    monkeypatch.setattr(module.time, "sleep", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        serve(chosen)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("mlflow ended")]
    assert [line.partition(";")[0] for line in said] == [
        "mlflow ended with status -9, started again in 1 s",
        "mlflow ended with status -9, started again in 2 s",
    ]


@pytest.mark.slow
def test_make_serve_for_real(ports: dict[str, str], tmp_path: Path) -> None:
    """Prefect, MLflow and a gateway with simulated upstreams answer; Ctrl-C leaves nothing behind."""
    environment = os.environ | ports | {"PREFECT_HOME": str(tmp_path / "prefect")}
    environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    environment.pop("SYMBIOSIS_TRACKING", None)
    command = [sys.executable, "-m", "flows.serve"]
    printed = tmp_path / "out.log"
    with (
        printed.open("wb") as out,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out) as run,
    ):
        try:
            until(lambda: run.poll() is not None or b"Ctrl-C" in printed.read_bytes(), 200)
            assert run.poll() is None, printed.read_text()
            gateway = ports["GATEWAY_PORT"]
            assert f"gateway  http://127.0.0.1:{gateway}" in printed.read_text()
            body = b'{"model": "auto", "messages": [{"role": "user", "content": "Reverse a list in Python"}]}'
            request = urllib.request.Request(
                f"http://127.0.0.1:{gateway}/v1/chat/completions", body, {"content-type": "application/json"}
            )
            with urllib.request.urlopen(request) as answer:
                assert answer.status == 200
                assert answer.headers["x-symbiosis-decision"]
        finally:
            run.send_signal(signal.SIGINT)
            run.wait(60)
    assert run.returncode == 0
    Ports.read(*ports.values()).check()
