"""Sub-commands for the decisions that were taken: one with its explanation, all as JSON lines, or frozen feedback."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from symbiosis.cli.output import JSON, say, table
from symbiosis.cli.router import STATE, State
from symbiosis.core.errors import InputError, quoted
from symbiosis.core.layout import EXPORTS

if TYPE_CHECKING:
    from symbiosis.routing.serving.store import Store

URL = Annotated[
    str | None,
    typer.Option("--store", metavar="URL", help="sqlite:///FILE or postgresql+psycopg://... [default: of --state]."),
]

decisions = typer.Typer(
    no_args_is_help=True,
    help="Look at the decisions that were taken, and at their feedback. What is old is deleted: see `prune --help`.",
)


@decisions.command()
def show(
    decision: Annotated[str, typer.Argument(metavar="ID", help="The id that `symbiosis route` printed.")],
    state: State = STATE,
    store: URL = None,
    as_json: JSON = False,
) -> None:
    """Show a decision: what was expected of each LLM, what was called, and what was told of the answer.

    \b
    symbiosis decisions show 1a2b3c4d-0
    """
    with _store(state, store) as opened:
        found = opened.decision(decision)
        where = opened.name
    if found is None:
        raise InputError(f"there is no decision {quoted(decision)} in {where}")
    document = found.to_dict()
    say("" if as_json else _text(document), document, as_json)


@decisions.command()
def export(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Is written whole or not at all.")],
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Such as 2026-11-28 or 2026-11-28T09:30, in UTC [default: all].")
    ] = None,
    state: State = STATE,
    store: URL = None,
    as_json: JSON = False,
) -> None:
    """Write the decisions as JSON lines, with calls and feedback.

    \b
    symbiosis decisions export --output decisions.jsonl --since 2026-11-01

    Enough to estimate what another policy would have earned: the propensity and the query's vector are there.
    """
    begin = 0.0 if since is None else _seconds(since)
    with _store(state, store) as opened:
        count = opened.export(output, begin)
    say(f"{count:,} decisions in {output}", {"decisions": count, "output": str(output)}, as_json)


@decisions.command()
def freeze(
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Files are added, none is ever changed.")] = EXPORTS,
    state: Annotated[Path | None, typer.Option(metavar="FOLDER", help="[default: gateway.yaml's, or .router]")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="[default: gateway.yaml's, or of --state]")] = None,
    as_json: JSON = False,
) -> None:
    """Freeze the feedback that is new since the last time, for the next training to learn from.

    \b
    symbiosis decisions freeze
    symbiosis decisions freeze --store postgresql+psycopg://symbiosis@db/symbiosis

    The next `dvc repro router-train` learns from it. Where nothing is new, nothing is written.
    """
    from symbiosis.gateway.config import reading
    from symbiosis.routing.serving import exporting

    if state is None and store is None:
        config = reading.load(None)
        state, store = Path(config.state), config.store
    with _store(state or STATE, store) as opened:
        path = exporting.freeze(opened, folder)
    said = f"no feedback is new since the last export in {folder}" if path is None else f"frozen in {path}"
    say(said, {"file": None if path is None else str(path)}, as_json)


@decisions.command()
def prune(
    days: Annotated[float | None, typer.Option(min=2, help="Decisions without feedback [default: 90].")] = None,
    explained_days: Annotated[float | None, typer.Option(min=2, help="Explanations [default: 30].")] = None,
    lessons: Annotated[
        int | None, typer.Option(min=1000, help="Feedback with its decisions, the newest so many [default: 1000000].")
    ] = None,
    state: Annotated[Path | None, typer.Option(metavar="FOLDER", help="[default: gateway.yaml's, or .router]")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="[default: gateway.yaml's, or of --state]")] = None,
    as_json: JSON = False,
) -> None:
    """Delete what need not be kept, now; the gateway does it once an hour, and commands now and then.

    \b
    symbiosis decisions prune
    symbiosis decisions prune --days 30 --lessons 200000

    Defaults are those of block `retention` of gateway.yaml. Feedback stays as long as a saved version might have to
    learn it again. What keys have spent stays. SQLite's file keeps its size, and the room in it is used again.
    """
    from symbiosis.gateway.config import reading
    from symbiosis.routing.serving.retention import Retention
    from symbiosis.routing.serving.workspace import Workspace

    config = reading.load(None)
    if state is None and store is None:
        state, store = Path(config.state), config.store
    state = state or STATE
    if not state.is_dir():
        raise InputError(f"{state} is not there: nothing has been routed yet")
    given = {"days": days, "explained_days": explained_days, "lessons": lessons}
    kept = config.retention.model_dump() | {name: value for name, value in given.items() if value is not None}
    workspace = Workspace(state, store=store)
    pruned = workspace.prune(Retention(**kept))
    said = (
        f"deleted {pruned.decisions:,} decisions without feedback, {pruned.explanations:,} explanations and "
        f"{pruned.lessons:,} pieces of feedback"
    )
    say(said, asdict(pruned), as_json)


def _store(state: Path, url: str | None) -> "Store":
    """Open the store, which must be there."""
    if url is not None:
        from symbiosis.routing.serving.store import Store

        file = url.removeprefix("sqlite:///")
        if url != file and file and not Path(file).exists():
            raise InputError(f"{file} is not there: name the store that a router or a gateway has written to")

        return Store(url)
    if not state.is_dir():
        raise InputError(f"{state} is not there: nothing has been routed yet")
    from symbiosis.routing.serving.workspace import Workspace

    return Workspace(state).history()


def _seconds(since: str) -> float:
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise InputError(
            f"--since {quoted(since)}: give a day or a time, such as 2026-11-28 or 2026-11-28T09:30"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _text(told: dict[str, Any]) -> str:
    """Return a decision as text for people."""
    arms = (told["details"] or {}).get("arms", [])
    shown = ("quality", "quality_low", "quality_high", "cost_usd", "wait_s", "completion_s", "score", "probability")
    parts = [f"{name}: {told[name]}" for name in _HEAD if told[name] not in (None, "")]
    parts.insert(1, f"at: {datetime.fromtimestamp(told['at'], UTC).isoformat(timespec='seconds')}")
    for title, rows in (
        ("expected", [{"llm": arm["llm"], **{name: _number(arm.get(name)) for name in shown}} for arm in arms]),
        ("calls", [{name: _number(call[name]) for name in _CALLS} for call in told["calls"]]),
    ):
        if rows:
            parts += ["", title, table(rows)]
    if told["feedback"]:
        given = {name: value for name, value in told["feedback"].items() if value is not None and name != "at"}
        parts += ["", f"feedback: {', '.join(f'{name} {value}' for name, value in given.items())}"]
    return "\n".join(parts)


def _number(value: object) -> object:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else value


_HEAD = (
    "id", "llm", "served", "mode", "policy", "propensity", "quality", "cost_usd", "budget_usd", "prompt_tokens",
    "overhead_ms", "baseline_usd", "router", "version", "api_key", "conversation", "text",
)  # fmt: skip
_CALLS = (
    "attempt", "llm", "upstream", "status", "error", "first_token_s", "total_s", "prompt_tokens", "response_tokens",
    "cost_usd",
)  # fmt: skip
