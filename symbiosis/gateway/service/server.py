"""Run the gateway: its processes, its socket, and simulated upstreams where none is configured."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from uvicorn.supervisors import Multiprocess

from symbiosis.core.errors import InputError
from symbiosis.gateway.config.schema import GatewayConfig
from symbiosis.gateway.monitoring.metrics import shared_between_workers

CONFIG = "SYMBIOSIS_GATEWAY_CONFIG"
"""Environment variable that hands the config to the processes."""
SHUTDOWN_S = 20
"""For answers under way when the gateway is stopped."""
APP = "symbiosis.gateway.service.app:create"


def serve(config: GatewayConfig) -> None:
    """Serve until interrupted.

    Parameters
    ----------
    config
        Checked; its port may be 0 for any that is free.

    Raises
    ------
    InputError
        The port is taken, or the simulated upstreams do not start.
    """
    with bound(config) as own, with_upstreams(config) as whole, shared_between_workers(config.listen.workers):
        os.environ[CONFIG] = whole.model_dump_json(by_alias=True)
        host, port = own.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        print(f"gateway  http://{shown}:{port}", flush=True)
        settings = uvicorn.Config(
            APP,
            factory=True,
            workers=whole.listen.workers,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=SHUTDOWN_S,
            lifespan="on",
        )
        server = uvicorn.Server(settings)
        if whole.listen.workers == 1:
            server.run(sockets=[own])
            if not server.started:
                raise InputError("the gateway did not start: the reason stands above")
        else:
            Multiprocess(settings, sockets=[own]).run()


@contextmanager
def bound(config: GatewayConfig) -> Iterator[socket.socket]:
    """Listen on the config's address.

    Raises
    ------
    InputError
        The port is taken.
    """
    listen = config.listen
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        own = socket.create_server((listen.host, listen.port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"the gateway cannot listen on {listen.host}, port {listen.port} ({error.strerror}): choose another with "
            "--port or `listen.port`"
        ) from None
    with own:
        own.set_inheritable(True)
        # asyncio sets it for sockets of `IPPROTO_TCP` alone; without it an answer's body waits 40 ms behind its head.
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield own


@contextmanager
def with_upstreams(config: GatewayConfig) -> Iterator[GatewayConfig]:
    """Start simulated upstreams in a process of their own where the config has none; return the config with them."""
    if not config.simulated:
        yield config
        return
    from symbiosis.gateway.simulation.llms import upstream_config
    from symbiosis.gateway.simulation.running import in_process

    with in_process() as base_url:
        print("no upstream is configured: simulated LLMs answer (gateway.yaml: `upstreams`)", flush=True)
        yield config.with_upstreams([upstream_config(base_url)])


def config_of_process() -> GatewayConfig:
    """Return the config that `serve` handed to this process.

    Raises
    ------
    InputError
        The process was not started by `serve`.
    """
    given = os.environ.get(CONFIG)
    if given is None:
        raise InputError("start the gateway with `symbiosis gateway`")
    return GatewayConfig.model_validate_json(given)
