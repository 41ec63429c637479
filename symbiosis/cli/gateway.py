"""Sub-commands of the gateway: serve, check its config, make keys, report, and tell of drift."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from symbiosis.cli.output import JSON, note, say
from symbiosis.core.errors import InputError

if TYPE_CHECKING:
    from symbiosis.gateway.config.schema import GatewayConfig
    from symbiosis.gateway.monitoring.drift import Drift
    from symbiosis.routing.data.outcomes import Llms

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="[default: gateway.yaml; without one, simulated LLMs answer]"),
]

gateway = typer.Typer(
    invoke_without_command=True,
    help="""Serve one OpenAI-compatible address that routes, explains and learns.

\b
symbiosis gateway
symbiosis gateway --config gateway.yaml --check
symbiosis gateway --port 8080 --workers 2
symbiosis gateway --replicas 2
""",
)
keys = typer.Typer(no_args_is_help=True, help="Make API keys.")
gateway.add_typer(keys, name="keys")


@gateway.callback()
def serve(
    context: typer.Context,
    config: Config = None,
    check: Annotated[bool, typer.Option("--check", help="Check the config and end.")] = False,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="[default: the config's, or 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="[default: the config's, or 8080]")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes.")] = None,
    replicas: Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes, by Ray Serve.")] = None,
    as_json: JSON = False,
) -> None:
    """Serve, unless a sub-command or --check was given."""
    if context.invoked_subcommand is not None:
        return
    from symbiosis.gateway.config import reading
    from symbiosis.gateway.config.schema import GatewayConfig

    read = reading.load(config)
    given = {"host": host, "port": port, "workers": workers}
    listen = read.listen.model_dump() | {key: value for key, value in given.items() if value is not None}
    try:
        read = GatewayConfig.model_validate(read.model_dump(by_alias=True) | {"listen": listen})
    except ValueError as error:
        raise InputError(reading.explain(error)) from None  # type: ignore[arg-type]
    known = _router_llms()
    notices = reading.check(read, None if known is None else list(known.names))
    notices += [] if known is None else reading.unlike_trained(read, known)
    if check:
        file = str(config or reading.CONFIG_FILE)
        document = {"file": file, "llms": list(read.llms), "policies": list(read.policies), "notices": notices}
        lines = [f"{file} is right: {len(read.llms)} LLMs, {len(read.policies)} policies", *notices]
        say("\n".join(lines), document, as_json)
        return
    for line in notices:
        note(line)
    reading.require_upstream_keys(read)

    if replicas is not None:
        if read.listen.workers > 1:
            raise InputError("`--workers` and `--replicas` exclude each other: give one of them")
        from symbiosis.gateway.service import ray_serve

        ray_serve.run(read, replicas)
        return
    from symbiosis.gateway.service.server import serve as run

    run(read)


def _router_llms() -> "Llms | None":
    from symbiosis.core.layout import ROUTER
    from symbiosis.core.serving import serving_folder
    from symbiosis.routing.model.router import MANIFEST, Router

    folder = serving_folder("router") / ROUTER
    return Router.load(folder).llms if (folder / MANIFEST).is_file() else None


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is.")], as_json: JSON = False
) -> None:
    """Make a key: the secret is shown once, its hash goes into the config.

    \b
    symbiosis gateway keys new my-app
    """
    from symbiosis.gateway.requests.keys import new_key as make

    made = make()
    text = f"{made.secret}\n\nfor gateway.yaml, below keys.entries:\n{made.entry(name)}"
    say(text, {"name": name, "secret": made.secret, "sha256": made.sha256}, as_json)


@gateway.command("report")
def report(
    config: Config = None,
    hours: Annotated[float, typer.Option(metavar="H", help="Length of the window.")] = 24.0,
    as_json: JSON = False,
) -> None:
    """Report what the last hours cost and saved, the A/B test, and what other policies would have earned.

    \b
    symbiosis gateway report --hours 168
    """
    if not 0 < hours < 1e6:
        raise InputError(f"--hours {hours:g} must lie above 0")
    from symbiosis.gateway.config import reading
    from symbiosis.gateway.monitoring.report import report as estimate
    from symbiosis.gateway.monitoring.report import text
    from symbiosis.gateway.requests.policies import Policies
    from symbiosis.routing.serving.workspace import Workspace

    read = reading.load(config)
    workspace = Workspace(Path(read.state), store=read.store)
    service = workspace.serving()
    usual = service.online.goal
    goals = {name: policy.goal(usual) for name, policy in Policies(read.policies).named.items()}
    document = estimate(workspace.store, hours, {"auto": usual, **goals}, service.router.cost_scale)
    say(text(document), document, as_json)


def drift(
    config: Config = None,
    hours: Annotated[float, typer.Option(metavar="H", help="Length of the window.")] = 24.0,
    as_json: JSON = False,
) -> None:
    """Tell whether queries, qualities and costs are still those that the router was trained on.

    \b
    symbiosis drift
    symbiosis drift --hours 168 --json
    """
    if not 0 < hours < 1e6:
        raise InputError(f"--hours {hours:g} must lie above 0")
    from symbiosis.gateway.config import reading
    from symbiosis.gateway.monitoring.drift import Drift, text

    read = reading.load(config)
    found = _window(read, hours) if read.store is not None or Path(read.state).is_dir() else Drift.nothing()
    say(text(found), {"window_hours": hours, **found.to_dict()}, as_json)


def _window(read: "GatewayConfig", hours: float) -> "Drift":
    from symbiosis.gateway.monitoring.drift import drift as compare
    from symbiosis.gateway.monitoring.frames import Frames
    from symbiosis.routing.serving.workspace import Workspace

    workspace = Workspace(Path(read.state), store=read.store)
    training = workspace.training()
    with workspace.history() as store:
        frames = Frames.read(store, time.time() - hours * 3600, 1, training.fits_after)
    return compare(frames, training.reference)
