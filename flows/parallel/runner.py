"""Who runs ready stages: threads of the flow, a Dask cluster or a Ray cluster; chosen by one object."""

import argparse
import os
import socket
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil
from pydantic import Field, ValidationError

from symbiosis.core.errors import InputError, printable
from symbiosis.core.params import StageParams

Kind = Literal["threads", "dask", "ray"]
LOCAL_WORKERS = 2
"""Workers of a local cluster that is started for one flow run."""
CORES, GIB = 2, 4
"""What one stage is reckoned to need on this machine."""
HEAVY = frozenset(
    {
        "pretrain",
        "finetune",
        "final-fit",
        "evaluate",
        "neural-baseline",
        "sequential-baseline",
        "embed-items",
        "embed-queries",
        "train-encoder",
        "compare-routers",
    }
)
"""Stages that keep all cores of a machine busy with torch: two of them together take longer than one after another."""
RESOURCE = "heavy"
"""Name of the resource that each machine of a cluster offers, as many times as heavy stages may run on it."""
_PATIENCE_SECONDS = 5.0
_NEEDS = {"dask": "prefect_dask", "ray": "prefect_ray"}
_SCHEMES = {"dask": ("tcp", "tls"), "ray": ("ray",)}


class Runner(StageParams):
    """How ready stages are run side by side.

    Attributes
    ----------
    kind
        ``threads`` of the flow's process, or tasks on a ``dask`` or ``ray`` cluster.
    workers
        Stages at a time. If not given: on threads one for every two cores and 4 GiB of this machine, in a local
        cluster two. A cluster with an address has its own.
    heavy
        Heavy stages at a time on this machine. On a cluster with an address each machine offers the resource `heavy`
        so many times.
    address
        Of a running cluster, HOST:PORT; if not given, one is started on this machine for the flow run.
    """

    kind: Kind = "threads"
    workers: int | None = Field(default=None, ge=1, le=1_000)
    heavy: int = Field(default=1, ge=1, le=1_000)
    address: str | None = None

    def places(self) -> int:
        """Return how many stages run at a time; without meaning for a cluster with an address."""
        return self.workers or (machine_places() if self.kind == "threads" else LOCAL_WORKERS)

    def check(self) -> None:
        """Check that stages can be run so, before anything runs.

        Raises
        ------
        InputError
            The extra is not installed, or the cluster does not answer.
        """
        if self.kind == "threads":
            if self.address:
                raise InputError("an address is that of a cluster: give the runner `dask` or `ray` with it")
            return
        if find_spec(_NEEDS[self.kind]) is None:
            raise InputError(
                f"the runner `{self.kind}` needs the extra `{self.kind}`: "
                f'pip install -c requirements.lock -e ".[{self.kind}]"'
            )
        if self.address is None:
            return
        if self.workers is not None:
            raise InputError("a cluster with an address has its own workers: leave out their number")
        host, port = self._host_and_port(self.address)
        try:
            socket.create_connection((host, port), timeout=_PATIENCE_SECONDS).close()
        except OSError as error:
            raise InputError(
                f"there is no {self.kind.capitalize()} cluster at {printable(self.address)}: {error.strerror or error}"
            ) from None

    def _host_and_port(self, address: str) -> tuple[str, int]:
        try:
            parts = urlsplit(address if "://" in address else f"//{address}")
            if parts.hostname and parts.port and parts.scheme in ("", *_SCHEMES[self.kind]):
                return parts.hostname, parts.port
        except ValueError:
            pass
        forms = " or ".join(["HOST:PORT", *(f"{scheme}://HOST:PORT" for scheme in _SCHEMES[self.kind])])
        raise InputError(f"`{printable(address[:200])}` is no address of a {self.kind.capitalize()} cluster: {forms}")


def machine_places() -> int:
    """Return how many stages this machine can run side by side, from its cores and its memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores // CORES, psutil.virtual_memory().total // (GIB << 30)))


def is_heavy(stage: str) -> bool:
    """Return whether a stage, as DVC addresses it, is heavy."""
    return stage.partition("@")[0] in HEAVY


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a runner."""
    group = parser.add_argument_group("stages side by side")
    group.add_argument("--runner", choices=["threads", "dask", "ray"], default="threads", help="default: threads")
    group.add_argument("--workers", metavar="N", type=int, help="stages at a time; 1: one after another")
    group.add_argument("--heavy", metavar="N", type=int, default=1, help="heavy stages at a time, default: 1")
    group.add_argument("--address", metavar="HOST:PORT", help="of a running Dask or Ray cluster")


def chosen_runner(chosen: argparse.Namespace) -> Runner:
    """Return the checked runner that the options choose.

    Raises
    ------
    InputError
        The options do not fit, or stages cannot be run so.
    """
    given: dict[str, Any] = {name: getattr(chosen, name) for name in ("workers", "heavy", "address")}
    try:
        runner = Runner(kind=chosen.runner, **given)
    except ValidationError as error:
        fault = error.errors()[0]
        raise InputError(f"--{fault['loc'][0]}: {fault['msg']}") from None
    runner.check()
    return runner
