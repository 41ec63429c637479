"""A gateway and its upstreams, each a process that can be killed and started again on the same port."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Process:
    """A process of ``python -m COMMAND``.

    Parameters
    ----------
    command, folder, ready
        What runs, where, and the URL that answers once it is ready.
    """

    command: list[str]
    folder: Path
    ready: str
    lives: int = 0
    _running: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        """Start it, and return once it is ready."""
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "SYMBIOSIS_ADMIN_KEY": "admin"}
        self.lives += 1
        with (self.folder / f"{self.command[1]}.log").open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", *self.command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        opener, until = urllib.request.build_opener(urllib.request.ProxyHandler({})), time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            try:
                opener.open(self.ready, timeout=5).close()
            except OSError:
                if self._running.poll() is not None:
                    sys.exit(f"error: `{' '.join(self.command)}` ended, see {self.folder}")
                time.sleep(0.1)
            else:
                return
        sys.exit(f"error: {self.ready} did not become ready")

    @property
    def seen(self) -> psutil.Process:
        """The process as the operating system sees it."""
        assert self._running is not None
        return psutil.Process(self._running.pid)

    def end(self, *, kill: bool = False) -> None:
        """End it, at once or as an operator would."""
        if self._running is None:
            return
        (self._running.kill if kill else self._running.terminate)()
        try:
            self._running.wait(30)
        except subprocess.TimeoutExpired:
            self._running.kill()
            self._running.wait()

    async def again(self, *, kill: bool, pause_s: float = 0.0) -> None:
        """End it and start it again, without holding others up."""
        await asyncio.to_thread(self.end, kill=kill)
        await asyncio.sleep(pause_s)
        await asyncio.to_thread(self.start)


def order(base_url: str, fault: str, times: int) -> None:
    """Let the next answers of simulated upstreams go wrong; one that is down has fault enough."""
    body = json.dumps({"fault": fault, "times": times}).encode()
    request = urllib.request.Request(f"{base_url.removesuffix('/v1')}/simulate/faults", body, method="POST")
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5).close()
    except OSError:
        return
