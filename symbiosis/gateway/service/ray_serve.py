"""The gateway as an application of Ray Serve: each replica is a process of the gateway as any other.

On this machine: ``symbiosis gateway --replicas 2``. On a Ray cluster, from a folder that all its machines have::

    serve run symbiosis.gateway.service.ray_serve:build config=gateway.yaml replicas=4

Ray is the extra ``ray``, and imported here alone.
"""

import logging
import os
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import FastAPI

from symbiosis.core.errors import InputError
from symbiosis.gateway.config import reading
from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.monitoring.metrics import FOLDER_VARIABLE, shared_between_workers
from symbiosis.gateway.service.app import application
from symbiosis.gateway.service.server import SHUTDOWN_S, bound, with_upstreams

if TYPE_CHECKING:
    from ray.serve import Application

OBJECTS_BYTES = 200 * 1024**2
"""Of Ray's memory for objects, which the gateway does not use; Ray would take a third of the machine's."""
ALONE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name: Ray's own ports are on loopback alone
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",  # a busy machine may take longer than five seconds
}
"""Environment of a Ray that is started for one gateway on this machine, read when `ray` is imported."""
BESIDE = 32
"""Requests that a replica takes beyond those for answers: pages, health, feedback."""


def build(arguments: Mapping[str, str]) -> "Application":
    """Return the gateway for ``serve run``.

    Parameters
    ----------
    arguments
        ``config``, a file; and ``replicas``, 2 if not given.

    Raises
    ------
    InputError
        The config is none, or names no upstream.
    """
    config = reading.load(Path(arguments.get("config", reading.CONFIG_FILE)))
    if config.simulated:
        raise InputError("the config names no upstream, and simulated ones are for one machine: give `upstreams`")
    reading.require_upstream_keys(config)
    return deployed(config, int(arguments.get("replicas", "2")))


def deployed(config: GatewayConfig, replicas: int, variables: Mapping[str, str] | None = None) -> "Application":
    """Return the gateway as an application of Ray Serve.

    Parameters
    ----------
    config
        Its upstreams filled in.
    replicas
        Processes; a key's rate is shared evenly among them.
    variables
        Environment of the replicas, beside that of the cluster.
    """
    from ray import serve

    listen = config.listen.model_copy(update={"workers": replicas})
    told, folder = config.model_copy(update={"listen": listen}).model_dump_json(by_alias=True), Path.cwd()

    def gateway() -> FastAPI:
        os.chdir(folder)  # where models and state lie
        return application(GatewayConfig.model_validate_json(told))

    deployed_as = serve.deployment(
        name="gateway",
        num_replicas=replicas,
        max_ongoing_requests=config.limits.in_flight + BESIDE,
        graceful_shutdown_timeout_s=SHUTDOWN_S,
        ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": dict(variables or {})}},
    )
    return deployed_as(serve.ingress(gateway)()).bind()


def run(config: GatewayConfig, replicas: int) -> None:
    """Serve by replicas on this machine until interrupted.

    Raises
    ------
    InputError
        Ray is not installed or does not start, or the port is taken.
    """
    for name, value in ALONE.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import serve
        from ray.exceptions import RayError
    except ModuleNotFoundError:
        raise InputError("`--replicas` needs Ray: pip install -c requirements.lock 'symbiosis[ray]'") from None
    with bound(config) as own:
        port = own.getsockname()[1]  # Ray opens the socket itself: another program may take the port in between
    stopped = threading.Event()
    with with_upstreams(config) as whole, shared_between_workers(2):
        try:
            ray.init(
                address="local",
                num_cpus=replicas,
                include_dashboard=False,
                object_store_memory=OBJECTS_BYTES,
                logging_level=logging.WARNING,
                log_to_driver=False,
            )
            serve.start(
                http_options={"host": config.listen.host, "port": port}, logging_config={"log_level": "WARNING"}
            )
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stopped.set())
            metrics = {FOLDER_VARIABLE: os.environ[FOLDER_VARIABLE]}
            serve.run(deployed(whole, replicas, metrics), route_prefix="/")
            print(f"gateway  http://{config.listen.host}:{port}", flush=True)
            stopped.wait()
        except (RayError, RuntimeError, TimeoutError, ConnectionError) as error:
            raise InputError(
                f"Ray Serve has failed: {next(iter(str(error).splitlines()), type(error).__name__)}"
            ) from None
        finally:
            serve.shutdown()
            ray.shutdown()
