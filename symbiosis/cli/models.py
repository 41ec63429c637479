"""Sub-commands for registered models: list, promote, take back, fetch."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from symbiosis.cli.output import JSON, say, table
from symbiosis.core.errors import InputError
from symbiosis.core.serving import LINKS, Kind

if TYPE_CHECKING:
    from symbiosis.registry.champions import Change
    from symbiosis.registry.versions import Registry

KINDS: tuple[Kind, ...] = tuple(LINKS)
Which = Annotated[Kind, typer.Argument(metavar="KIND", help="router or recommender.")]
OneOrBoth = Annotated[Kind | None, typer.Argument(metavar="KIND", help="router or recommender [default: both].")]
UNSAID = "forced on the command line"

models = typer.Typer(no_args_is_help=True, help="List registered models, and choose which ones serve.")


@models.command("list")
def list_models(kind: OneOrBoth = None, as_json: JSON = False) -> None:
    """List the registered versions of the models, the oldest first.

    \b
    symbiosis models list
    symbiosis models list router --json

    An asterisk marks what serves here; the gate's verdict is that of `symbiosis gate`.
    """
    from symbiosis.registry.bundles import VERSION
    from symbiosis.registry.champions import current
    from symbiosis.registry.gate import TAG
    from symbiosis.registry.versions import Registry

    registry = Registry()
    rows: list[dict[str, Any]] = []
    for one in KINDS if kind is None else (kind,):
        aliases = registry.aliases(one)
        served = current(one)
        here = None if served is None or not (served / VERSION).is_file() else served.name
        rows += [
            {
                "model": one,
                "version": version.version,
                "digest": version.digest,
                "registered": version.created_at,
                "aliases": [alias for alias, number in aliases.items() if number == version.version],
                "verdict": version.tags.get(TAG),
                "taken_back": version.was_rolled_back,
                "serves": version.digest == here,
            }
            for version in registry.versions(one)
        ]
    shown = [
        {
            **row,
            "aliases": ", ".join(row["aliases"]),
            "verdict": row["verdict"] or "",
            "taken_back": "yes" if row["taken_back"] else "",
            "serves": "*" if row["serves"] else "",
        }
        for row in rows
    ]
    nothing = "nothing is registered yet: `python -m symbiosis.registry` does it"
    say("" if as_json else table(shown) if shown else nothing, {"models": rows}, as_json)


@models.command()
def promote(
    kind: Annotated[
        Kind | None, typer.Argument(metavar="KIND", help="router or recommender [default: the one it can only be].")
    ] = None,
    version: Annotated[
        int | None, typer.Option("--version", metavar="N", min=1, help="[default: the candidate].")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it whatever the gate would say.")] = False,
    because: Annotated[
        str | None, typer.Option("--because", metavar="TEXT", help="Why it is forced; kept in the registry.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Let a version serve, if it passes the gate.

    \b
    symbiosis models promote router
    symbiosis models promote router --version 3
    symbiosis models promote router --version 3 --force --because "the gate's data are stale"

    Exit code 1: the gate refused it.
    """
    from symbiosis.registry import champions
    from symbiosis.registry.versions import CANDIDATE, Registry

    if because is not None and not force:
        raise typer.BadParameter("--because says why a version is forced: give --force, too")
    registry = Registry()
    chosen = kind or _only(registry, version)
    if force:
        if version is None:
            if (candidate := champions.candidate(chosen, registry=registry)) is None:
                raise InputError(f"there is no {chosen} to promote: `python -m symbiosis.registry` registers one")
            version = candidate.version
        _say(champions.promote(chosen, version, forced=because or UNSAID, registry=registry), as_json)
        return
    if version is not None:
        registry.set_alias(registry.version(chosen, version), CANDIDATE)

    from symbiosis.cli.gate import gate

    gate(chosen, as_json=as_json)


@models.command()
def rollback(kind: Which, as_json: JSON = False) -> None:
    """Let the former champion serve again.

    \b
    symbiosis models rollback router

    The version that is taken back is not promoted again unless it is forced.
    """
    from symbiosis.registry import champions

    _say(champions.rollback(kind), as_json)


@models.command()
def pull(kind: OneOrBoth = None, as_json: JSON = False) -> None:
    """Fetch the registry's champions, and let them serve here.

    \b
    symbiosis models pull
    symbiosis models pull recommender
    """
    from symbiosis.registry import champions
    from symbiosis.registry.versions import Registry

    registry = Registry()
    kinds = KINDS if kind is None else (kind,)
    changes = {one: champions.pull(one, registry=registry) for one in kinds}
    lines = [f"{one}: nothing was promoted yet" if change is None else _told(change) for one, change in changes.items()]
    document = {one: None if change is None else _document(change) for one, change in changes.items()}
    say("\n".join(lines), document, as_json)


def _only(registry: "Registry", version: int | None) -> Kind:
    """Return the one model that can be meant: that has a candidate, or a version of this number.

    Raises
    ------
    InputError
        Both can be meant, or none.
    """
    from symbiosis.registry.versions import CANDIDATE

    if version is None:
        meant = [kind for kind in KINDS if CANDIDATE in registry.aliases(kind)]
        what = "a candidate"
    else:
        meant = [kind for kind in KINDS if any(one.version == version for one in registry.versions(kind))]
        what = f"a version {version}"
    if not meant:
        raise InputError(f"no model has {what}: `symbiosis models list` names those there are")
    if len(meant) > 1:
        raise InputError(f"both models have {what}: say which, as in `symbiosis models promote router`")
    return meant[0]


def _say(change: "Change", as_json: bool) -> None:
    say(_told(change), _document(change), as_json)


def _told(change: "Change") -> str:
    name = f"{change.kind} version {change.version} ({change.digest})"
    if not change.moved:
        return f"{name} is the champion and serves here already"
    former = "" if change.former is None else f", in the place of version {change.former}"
    return f"{name} is the champion and serves here{former}"


def _document(change: "Change") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(change)
