"""Start what a runner asks for and submit tasks to it: threads, or a Dask or Ray cluster, here or at an address."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from typing import Any, Protocol

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect import Task  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.futures import PrefectFuture  # noqa: E402
from prefect.settings import PREFECT_API_URL, temporary_settings  # noqa: E402
from prefect.utilities.annotations import quote  # noqa: E402

from flows.parallel.places import Places, offered  # noqa: E402
from flows.parallel.runner import RESOURCE, Runner  # noqa: E402
from flows.parallel.threads import DaemonThreadTaskRunner  # noqa: E402
from symbiosis.core.errors import InputError  # noqa: E402

Stage = Task[..., Any]
Submitted = PrefectFuture[Any]
Upstream = Sequence[Submitted]
HOST = "127.0.0.1"
RAY_STORE_BYTES = 200 << 20
"""Of Ray's object store on this machine, which holds the states of tasks and nothing else."""

ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: listen on loopback alone
    "RAY_worker_niceness": "0",  # by default all other processes of the machine go before stages
}
"""Environment of a Ray that is started for one flow run on this machine, read when `ray` is imported."""


class Submit(Protocol):
    """Submits a task that runs when those upstream have ended, a heavy one where no other heavy one runs."""

    def __call__(self, task: Stage, parameters: dict[str, Any], upstream: Upstream, heavy: bool) -> Submitted:
        """Return at once."""
        ...


@contextmanager
def started(runner: Runner) -> Iterator[Submit]:
    """Start the runner for as long as the context lasts; a flow must be running.

    Raises
    ------
    InputError
        The cluster cannot be used.
    """
    runner.check()
    kinds: dict[str, Callable[[Runner], Any]] = {"threads": _threads, "dask": _dask, "ray": _ray}
    with kinds[runner.kind](runner) as submit:
        yield submit


@contextmanager
def _threads(runner: Runner) -> Iterator[Submit]:
    with offered(Places(runner.places(), runner.heavy)), DaemonThreadTaskRunner() as threads:
        yield lambda task, parameters, upstream, heavy: threads.submit(task, parameters, upstream)


@contextmanager
def _dask(runner: Runner) -> Iterator[Submit]:
    import dask
    from distributed import Nanny, Scheduler, SpecCluster
    from prefect_dask import DaskTaskRunner

    logging.getLogger("distributed").setLevel(logging.WARNING)
    where: dict[str, Any] = {"address": runner.address}
    if runner.address is None:
        here: dict[str, Any] = {"host": HOST, "dashboard": False}
        workers = {
            number: {
                "cls": Nanny,
                "options": here
                | {"nthreads": 1, "memory_limit": 0, "resources": {RESOURCE: 1} if number < runner.heavy else {}},
            }
            for number in range(runner.places())
        }
        scheduler = {"cls": Scheduler, "options": here | {"port": 0}}
        where = {"cluster_class": SpecCluster, "cluster_kwargs": {"workers": workers, "scheduler": scheduler}}
    with _environment_kept(), _server_for_workers(), DaskTaskRunner(**where) as cluster:
        # Dask sets numbers of threads in this process, too, to hand them to its workers.
        with _interruptions_blocked(), dask.config.set({"distributed.nanny.pre-spawn-environ": {}}):
            client = cluster.client
        resources = [worker["resources"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]
        if not resources:
            raise InputError(f"the Dask cluster at {runner.address} has no worker: start one on each machine")
        _require(runner, any(one.get(RESOURCE) for one in resources), f"--resources {RESOURCE}=1 to `dask worker`")

        def submit(task: Stage, parameters: dict[str, Any], upstream: Upstream, heavy: bool) -> Submitted:
            with dask.annotate(resources={RESOURCE: 1}) if heavy else nullcontext():
                return cluster.submit(task, parameters, upstream)

        yield submit


@contextmanager
def _ray(runner: Runner) -> Iterator[Submit]:
    with _environment_kept():
        os.environ |= ALONE if runner.address is None else {}
        with _ray_cluster(runner) as submit:
            yield submit


@contextmanager
def _ray_cluster(runner: Runner) -> Iterator[Submit]:
    import ray
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    options: dict[str, Any] = {}
    if runner.address is None:
        options = {
            "num_cpus": runner.places(),
            "resources": {RESOURCE: runner.heavy},
            "include_dashboard": False,
            "object_store_memory": RAY_STORE_BYTES,
        }
    ended_by = signal.getsignal(signal.SIGTERM)
    with _server_for_workers(), RayTaskRunner(address=runner.address, init_kwargs=options) as cluster:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ended_by)  # Ray's own would end the flow before its stages
        _require(
            runner, bool(ray.cluster_resources().get(RESOURCE)), f"--resources '{{\"{RESOURCE}\": 1}}' to `ray start`"
        )

        def submit(task: Stage, parameters: dict[str, Any], upstream: Upstream, heavy: bool) -> Submitted:
            # Ray itself waits for futures among the parameters alone; with `wait_for` a task takes its place first.
            parameters = parameters | {"upstream": quote(list(upstream))}
            with remote_options(num_cpus=1, resources={RESOURCE: 1} if heavy else {}):
                return cluster.submit(task, parameters, upstream)

        yield submit


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Take back what is done to this process's environment."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ |= before


@contextmanager
def _interruptions_blocked() -> Iterator[None]:
    """Let threads and processes that are begun here not take Ctrl-C, which a terminal sends to all of a command."""
    resource_tracker.ensure_running()  # begun by the first worker, it would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _require(runner: Runner, has: bool, option: str) -> None:
    if not has:
        raise InputError(
            f"no machine of the {runner.kind.capitalize()} cluster at {runner.address} offers the resource "
            f"`{RESOURCE}`, which heavy stages need: give {option} on each"
        )


@contextmanager
def _server_for_workers() -> Iterator[None]:
    """Let tasks in other processes use the flow's server, a temporary one too, instead of starting their own."""
    with get_client(sync_client=True) as client:
        address = str(client.api_url).rstrip("/")
    with temporary_settings({PREFECT_API_URL: address}):
        yield
