"""Sub-commands of the router: which LLM answers, feedback, LLMs that come and go, and versions of what was learned."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from symbiosis.cli.output import JSON, note, read_input, say, table
from symbiosis.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from symbiosis.routing.policy.objectives import Deadline, Objective
    from symbiosis.routing.serving.workspace import Workspace

MILLION = 1e6
Prompt = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="The prompt; - reads it from standard input.", show_default=False)
]
State = Annotated[Path, typer.Option("--state", metavar="FOLDER", help="Keeps versions, decisions and feedback.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the LLM.")]
STATE = Path(".router")
LONG_S = 100.0
"""To a first token: longer is rather a time in milliseconds."""

llms = typer.Typer(no_args_is_help=True, help="List, add and remove the LLMs that are chosen from.")


def route(
    prompt: Prompt = None,
    trade_off: Annotated[
        float | None, typer.Option(metavar="T", help="0 buys the cheapest, large the best [default: as trained].")
    ] = None,
    floor: Annotated[
        float | None, typer.Option(metavar="Q", help="Instead: the cheapest LLM of at least this quality, 0 to 1.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", help="Instead: the best for this mean cost in USD per query.")
    ] = None,
    deadline: Annotated[
        float | None, typer.Option(metavar="S", help="Seconds in which the answer should be complete.")
    ] = None,
    lines: Annotated[
        bool, typer.Option("--lines", help="Read one prompt a line, to the end; print one JSON object a line.")
    ] = False,
    state: State = STATE,
    as_json: JSON = False,
) -> None:
    """Choose the LLM that should answer a prompt, and say why.

    \b
    symbiosis route "Reverse a list in Python"
    symbiosis route --budget 0.0005 --deadline 10 --json - < prompt.txt
    symbiosis route --lines - < prompts.txt > decisions.jsonl

    The answer names the LLM and, for each one, the expected quality with its interval, the cost in USD, the wait and
    the score. Keep its id: `symbiosis feedback ID` tells how the answer was.
    """
    objective, limit = _objective(trade_off, floor, budget), _deadline(deadline)
    if lines:
        if prompt not in (None, "-"):
            raise typer.BadParameter("--lines reads the prompts from standard input: give - in the place of TEXT")
        _route_lines(_workspace(state), objective, limit)
        return
    if prompt is None:
        raise typer.BadParameter("give the prompt as TEXT, or - to read it from standard input")
    text = read_input() if prompt == "-" else prompt
    if not text.strip():
        raise InputError("the prompt is empty: give a text, or - to read it from standard input")
    workspace = _workspace(state)
    decision = workspace.route(text, objective, limit)
    _notices(workspace)
    say("" if as_json else f"{decision.table()}\ndecision {decision.id}", decision.to_dict(), as_json)


def _route_lines(workspace: "Workspace", objective: "Objective | None", deadline: "Deadline | None") -> None:
    """Route the lines of standard input with one encoder and one router."""
    # At line ends alone: `splitlines` also cuts at a form feed and at other characters inside a text.
    texts = [text.removesuffix("\r") for text in read_input().split("\n")]
    while texts and not texts[-1].strip():
        texts.pop()
    if not texts:
        raise InputError("standard input is empty: give one prompt a line")
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            raise InputError(f"standard input, line {number}: the prompt is empty")
    decisions = workspace.route_many(texts, objective, deadline)
    _notices(workspace)
    for decision in decisions:
        say("", decision.to_dict(), True)


def feedback(
    decision: Annotated[str, typer.Argument(metavar="ID", help="The id that `symbiosis route` printed.")],
    quality: Annotated[float | None, typer.Option(metavar="Q", help="Of the answer, 0 to 1.")] = None,
    satisfied: Annotated[
        str | None, typer.Option(metavar="yes|no", help="Instead of --quality: whether the user was satisfied.")
    ] = None,
    tokens: Annotated[float | None, typer.Option(metavar="N", help="Tokens of the response.")] = None,
    state: State = STATE,
    as_json: JSON = False,
) -> None:
    """Tell how an answer was; the router learns from it.

    \b
    symbiosis feedback 1a2b3c4d-0 --quality 1 --tokens 120
    symbiosis feedback 1a2b3c4d-0 --satisfied no
    """
    if (quality is None) == (satisfied is None):
        raise typer.BadParameter("give either --quality or --satisfied")
    if satisfied not in (None, "yes", "no"):
        raise typer.BadParameter(f"--satisfied {satisfied}: say yes or no")
    workspace = _workspace(state)
    new = workspace.feedback(
        decision,
        quality=quality,
        response_tokens=tokens,
        satisfied=None if satisfied is None else satisfied == "yes",
    )
    _notices(workspace)
    document = {"decision": decision, "learned": new}
    say("learned" if new else "known already: nothing changed", document, as_json)


@llms.command("add")
def add_llm(
    name: Name,
    price_prompt: Annotated[float | None, typer.Option(metavar="USD", help="Per million tokens of prompt.")] = None,
    price_response: Annotated[float | None, typer.Option(metavar="USD", help="Per million tokens of response.")] = None,
    startup_s: Annotated[float, typer.Option(metavar="S", help="Seconds to the first token.")] = 0.5,
    tokens_per_s: Annotated[float, typer.Option(metavar="N", help="Tokens a second from there.")] = 60.0,
    state: State = STATE,
    as_json: JSON = False,
) -> None:
    """Add an LLM; the router learns from feedback how good it is.

    \b
    symbiosis llms add NAME --price-prompt 0.15 --price-response 0.6 --startup-s 0.4 --tokens-per-s 90

    Prices are in USD per million tokens.
    """
    per_token = [None if price is None else price / MILLION for price in (price_prompt, price_response)]
    workspace = _workspace(state)
    others = workspace.llms()
    names = workspace.add_llm(
        name,
        price_prompt=per_token[0],
        price_response=per_token[1],
        startup_s=startup_s,
        tokens_per_s=tokens_per_s,
    )
    _notices(workspace)
    for what, price, known in (
        ("--price-prompt", price_prompt, others.price_prompt),
        ("--price-response", price_response, others.price_response),
    ):
        _note_price(what, price, known * MILLION)
    if startup_s >= LONG_S:
        note(f"--startup-s {startup_s:g} are seconds to the first token: is it in milliseconds?")
    _say_names(names, as_json)


def _note_price(what: str, price: float | None, others: "np.ndarray") -> None:
    """Say if a price is far from those of all other LLMs: a thousand or a million times is another unit."""
    from symbiosis.routing.serving.inputs import FAR

    others = others[others > 0]
    if price and len(others) and not others.min() / FAR < price < others.max() * FAR:
        span = f"{others.min():g} to {others.max():g}"
        note(f"{what} {price:g} is in USD per million tokens, where the others cost {span}: is it in another unit?")


@llms.command("remove")
def remove_llm(name: Name, state: State = STATE, as_json: JSON = False) -> None:
    """Remove an LLM; what was learned of the others stays.

    \b
    symbiosis llms remove NAME
    """
    workspace = _workspace(state)
    names = workspace.remove_llm(name)
    _notices(workspace)
    _say_names(names, as_json)


def _say_names(names: tuple[str, ...], as_json: bool) -> None:
    say(f"{len(names)} LLMs: {', '.join(names)}", {"llms": list(names)}, as_json)


@llms.command("list")
def list_llms(state: State = STATE, as_json: JSON = False) -> None:
    """List the LLMs: prices in USD per million tokens, seconds to the first token, tokens a second."""
    workspace = _workspace(state)
    known = workspace.llms()
    _notices(workspace)
    columns = {
        "price_prompt": known.price_prompt * MILLION,
        "price_response": known.price_response * MILLION,
        "startup_s": known.startup_s,
        "tokens_per_s": known.tokens_per_s,
    }
    rows = [
        {"llm": name, **{column: round(float(values[arm]), 9) for column, values in columns.items()}}
        for arm, name in enumerate(known.names)
    ]
    say("" if as_json else table(rows), {"llms": rows}, as_json)


def versions(state: State = STATE, as_json: JSON = False) -> None:
    """List the saved versions, the oldest first.

    A version is saved when something was learned: feedback, an LLM that came or went, a newer trained router.
    """
    found = _workspace(state).versions()
    rows = [
        {"version": one.number, "lessons": one.lessons, "router": one.router, "current": one.current} for one in found
    ]
    shown = [
        {**row, "router": one.router[:12], "current": "*" if one.current else ""}
        for row, one in zip(rows, found, strict=True)
    ]
    say("" if as_json else table(shown) if shown else "none yet", {"versions": rows}, as_json)


def rollback(
    version: Annotated[int, typer.Argument(metavar="N", help="The version's number; 0: the trained router.")],
    state: State = STATE,
    as_json: JSON = False,
) -> None:
    """Go on from an earlier version.

    \b
    symbiosis versions
    symbiosis rollback 3

    What was learned since is forgotten; decisions and their feedback are not, so that none counts twice.
    """
    number = _workspace(state).rollback(version)
    say(f"version {number} is what version {version} was", {"version": number, "was": version}, as_json)


def adopt(state: State = STATE, as_json: JSON = False) -> None:
    """Start anew from the trained router.

    It is the champion, or the one in models/router where nothing was promoted. What was learned since is forgotten, but
    may be rolled back to.
    """
    number = _workspace(state).adopt()
    say(f"version {number} is the trained router", {"version": number}, as_json)


def _workspace(state: Path) -> "Workspace":
    """Return the router of the present folder."""
    from symbiosis.routing.serving.workspace import Workspace

    return Workspace(state)


def _notices(workspace: "Workspace") -> None:
    for text in workspace.notices:
        note(text)


def _objective(trade_off: float | None, floor: float | None, budget: float | None) -> "Objective | None":
    """Return what a decision is made for; None: what the router was trained for."""
    given = {"--trade-off": trade_off, "--floor": floor, "--budget": budget}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise typer.BadParameter(f"give one of {', '.join(chosen)}")
    from symbiosis.routing.policy.objectives import Budget, QualityFloor, TradeOff
    from symbiosis.routing.serving.inputs import LEAST_USD

    for name, value in chosen.items():
        if not 0 <= value < math.inf:
            raise InputError(f"{name} {value} must be a number not below 0")
    if floor is not None and floor > 1:
        hint = f": did you mean {floor / 100:g}?" if floor <= 100 else ""
        raise InputError(f"--floor {floor:g} must be a share from 0 to 1{hint}")
    if budget is not None and budget < LEAST_USD:
        raise InputError(f"--budget {budget:g} buys nothing: give a mean of USD per query from {LEAST_USD:g}")

    if floor is not None:
        return QualityFloor(floor)
    if budget is not None:
        return Budget(budget)
    return None if trade_off is None else TradeOff(trade_off)


def _deadline(seconds: float | None) -> "Deadline | None":
    """Return the limit on the time to the answer, if one is asked for."""
    if seconds is None:
        return None
    from symbiosis.routing.policy.objectives import Deadline
    from symbiosis.routing.serving.inputs import LEAST_S

    if not LEAST_S <= seconds < math.inf:
        raise InputError(f"--deadline {seconds:g} must be a number of seconds from {LEAST_S:g}")

    return Deadline(seconds)
