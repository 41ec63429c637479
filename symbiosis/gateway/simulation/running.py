"""Run simulated upstreams: here, in a thread or in a process of their own."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from symbiosis.core.errors import InputError

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from symbiosis.gateway.simulation.server import Simulation

HOST = "127.0.0.1"
PATIENCE_S = 30.0
"""In which a server must have started, and a process ended."""


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port; 0: one that the operating system chooses.

    Raises
    ------
    InputError
        The port is taken or not allowed.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio sets it for sockets of `IPPROTO_TCP` alone; without it an answer's body waits 40 ms behind its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(f"--port {port} cannot be used ({error}): choose another, or 0 for any free one") from None
    listener.listen(2048)
    return listener


def base_url(listener: socket.socket) -> str:
    """Return the base URL of what is served on a socket."""
    return f"http://{HOST}:{listener.getsockname()[1]}/v1"


def serve(simulation: "Simulation", listener: socket.socket) -> None:
    """Serve until the process is told to end; requests that come before wait in the socket."""
    _server(simulation.app()).run(sockets=[listener])


@contextlib.contextmanager
def in_thread(simulation: "Simulation") -> Iterator[str]:
    """Serve on a free port in a thread of this process while the block runs; yields the base URL."""
    listener = listen(0)
    with contextlib.closing(Background(simulation.app(), listener)):
        yield base_url(listener)


class Background:
    """An application that is served in a thread of this process, until it is closed.

    Parameters
    ----------
    app
        What is served.
    listener
        Where; it is closed, too.
    """

    def __init__(self, app: "Starlette", listener: socket.socket) -> None:
        self._listener, self._server = listener, _server(app)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + PATIENCE_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)

    def close(self) -> None:
        """End it and wait for its end."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._listener.close()


@contextlib.contextmanager
def in_process(
    folder: Path = Path(), *, port: int = 0, speed: float = 1.0, failures: float = 0.0, seed: int = 0
) -> Iterator[str]:
    """Serve in a process of its own while the block runs; yields the base URL.

    The process ends with this one, however that ends.

    Raises
    ------
    InputError
        It did not start; the message is its own.
    """
    options = {"data-folder": folder, "port": port, "speed": speed, "failures": failures, "seed": seed}
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "symbiosis", "upstreams", "simulate", "--json", "--with-parent", *flags]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # an interrupt at the terminal is for the gateway, which still finishes its answers
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            if not line:
                reason = process.stderr.read().strip().removeprefix("error: ")
                raise InputError(f"the simulated upstreams did not start: {reason}")
            yield json.loads(line)["base_url"]
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _server(app: "Starlette") -> "uvicorn.Server":
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,  # faults that hang would hold it for ever
        )
    )
