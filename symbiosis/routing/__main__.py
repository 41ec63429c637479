"""Ask the trained router which LLM should answer, and tell it how the answer was.

    python -m symbiosis.routing route "What is the derivative of x**2?"
    python -m symbiosis.routing feedback 1a2b3c4d-0 --quality 1 --tokens 120
    python -m symbiosis.routing add NAME --price-prompt 0.15 --price-response 0.6 --startup-s 0.4 --tokens-per-s 90
    python -m symbiosis.routing remove NAME
    python -m symbiosis.routing versions
    python -m symbiosis.routing rollback 3

It starts from models/router, as `make repro` leaves it, and keeps what it learns in versions below --state, and every
decision and piece of feedback in decisions.jsonl there.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective, QualityFloor, TradeOff
from symbiosis.routing.serving.workspace import Workspace

ROUTER, ENCODER = Path("models/router"), Path("models/encoder")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    whole = argparse.ArgumentParser(
        prog="python -m symbiosis.routing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole.add_argument("--state", type=Path, default=Path(".router"), help="folder of the versions (default: .router)")
    commands = whole.add_subparsers(dest="command", required=True)
    route = commands.add_parser("route", help="which LLM, and why")
    route.add_argument("prompt", help="the query; - reads it from standard input")
    objective = route.add_mutually_exclusive_group()
    objective.add_argument("--trade-off", type=float, help="0 buys the cheapest, large the best (as trained)")
    objective.add_argument("--floor", type=float, help="the cheapest LLM whose quality is at least this, 0..1")
    objective.add_argument("--budget", type=float, help="mean USD per query")
    route.add_argument("--deadline", type=float, help="seconds in which the answer should be complete")
    route.add_argument("--json", action="store_true", help="one line of JSON instead of a table")
    feedback = commands.add_parser("feedback", help="how an answer was")
    feedback.add_argument("decision", help="the id that route printed")
    told = feedback.add_mutually_exclusive_group(required=True)
    told.add_argument("--quality", type=float, help="0..1")
    told.add_argument("--satisfied", choices=("yes", "no"))
    feedback.add_argument("--tokens", type=float, help="of the response")
    add = commands.add_parser("add", help="add an LLM")
    add.add_argument("name")
    add.add_argument("--price-prompt", type=float, help="USD per million tokens")
    add.add_argument("--price-response", type=float, help="USD per million tokens")
    add.add_argument("--startup-s", type=float, default=0.5, help="seconds to the first token (0.5)")
    add.add_argument("--tokens-per-s", type=float, default=60.0, help="from there (60)")
    remove = commands.add_parser("remove", help="remove an LLM")
    remove.add_argument("name")
    commands.add_parser("versions", help="list the saved versions")
    rollback = commands.add_parser("rollback", help="go on from an earlier version")
    rollback.add_argument("version", type=int)
    return whole


def objective_of(options: argparse.Namespace) -> Objective | None:
    """Return what a decision is made for; None: the trade-off that the router was trained for."""
    chosen = {name: getattr(options, name, None) for name in ("trade_off", "floor", "budget")}
    for name, value in chosen.items():
        if value is not None and not 0 <= value < np.inf:
            raise InputError(f"--{name.replace('_', '-')} {value} must be a number not below 0")
    if chosen["floor"] is not None:
        return QualityFloor(chosen["floor"])
    if chosen["budget"] is not None:
        if chosen["budget"] == 0:
            raise InputError("--budget 0 buys nothing: give a mean of USD per query above 0")
        return Budget(chosen["budget"])
    return None if chosen["trade_off"] is None else TradeOff(chosen["trade_off"])


def deadline_of(options: argparse.Namespace) -> Deadline | None:
    """Return the limit on the time to the answer, if one is asked for."""
    limit = getattr(options, "deadline", None)
    if limit is None:
        return None
    if not 0 < limit < np.inf:
        raise InputError(f"--deadline {limit} must be a number of seconds above 0")
    return Deadline(limit)


def run(options: argparse.Namespace) -> str:
    """Do what the command line asks for and return what to print."""
    workspace = Workspace(options.state, router=ROUTER, encoder=ENCODER)
    said = _said(workspace, options)
    for notice in workspace.notices:
        print(f"note: {notice}", file=sys.stderr)
    return said


def _said(workspace: Workspace, options: argparse.Namespace) -> str:
    if options.command == "versions":
        lines = [
            f"{one.number}  router {one.router}, {one.lessons} lessons{'  (current)' * one.current}"
            for one in workspace.versions()
        ]
        return "\n".join(lines) or "none yet"
    if options.command == "rollback":
        return f"version {workspace.rollback(options.version)} is what version {options.version} was"
    if options.command == "route":
        prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
        if not prompt.strip():
            raise InputError("the prompt is empty: give a text, or - to read it from standard input")
        decision = workspace.route(prompt, objective_of(options), deadline_of(options))
        return decision.to_json() if options.json else f"{decision.table()}\ndecision {decision.id}"
    if options.command == "feedback":
        satisfied = None if options.satisfied is None else options.satisfied == "yes"
        new = workspace.feedback(
            options.decision, quality=options.quality, response_tokens=options.tokens, satisfied=satisfied
        )
        return "learned" if new else "known already: nothing changed"
    if options.command == "add":
        price, response = (None if p is None else p / 1e6 for p in (options.price_prompt, options.price_response))
        names = workspace.add_llm(
            options.name,
            price_prompt=price,
            price_response=response,
            startup_s=options.startup_s,
            tokens_per_s=options.tokens_per_s,
        )
    else:
        names = workspace.remove_llm(options.name)
    return f"{len(names)} LLMs: {', '.join(names)}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends in one line and status 1."""
    options = parser().parse_args(arguments)
    try:
        print(run(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
