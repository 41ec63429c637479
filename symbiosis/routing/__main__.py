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
import fcntl
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from symbiosis.core.errors import InputError
from symbiosis.routing.model.router import MANIFEST, Router
from symbiosis.routing.policy.objectives import Budget, Deadline, Objective, QualityFloor, TradeOff
from symbiosis.routing.queries.query_encoder import query_encoder
from symbiosis.routing.serving import snapshots
from symbiosis.routing.serving.journal import DecisionLog
from symbiosis.routing.serving.service import RoutingService
from symbiosis.routing.serving.snapshots import Versions

ROUTER, ENCODER, EMBEDDINGS = Path("models/router"), Path("models/encoder"), Path("data/embeddings")
LOG = "decisions.jsonl"
KEPT = 10


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
    objective.add_argument("--trade-off", type=float, default=1.4, help="0 buys the cheapest, large the best (1.4)")
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


def objective_of(options: argparse.Namespace) -> Objective:
    """Return what a decision is made for; commands other than route do not care."""
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
    return TradeOff(1.4 if chosen["trade_off"] is None else chosen["trade_off"])


def deadline_of(options: argparse.Namespace) -> Deadline | None:
    """Return the limit on the time to the answer, if one is asked for."""
    limit = getattr(options, "deadline", None)
    if limit is None:
        return None
    if not 0 < limit < np.inf:
        raise InputError(f"--deadline {limit} must be a number of seconds above 0")
    return Deadline(limit)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other processes from writing to the folder meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def opened(
    versions: Versions,
    options: argparse.Namespace,
    encode: Callable[[str], np.ndarray] | None = None,
    version: int | None = None,
) -> RoutingService:
    """Return the service as it was last saved, or a new one from the trained router."""
    objective, deadline = objective_of(options), deadline_of(options)
    if version is not None or versions.numbers():
        log = DecisionLog(versions.folder / LOG)
        return snapshots.load(versions, objective, deadline, version=version, encode=encode, log=log)
    if not (ROUTER / MANIFEST).is_file():
        raise InputError(f"there is no trained router in {ROUTER}: run `make repro`")
    return RoutingService(
        Router.load(ROUTER), objective, deadline, encode=encode, log=DecisionLog(versions.folder / LOG)
    )


def run(options: argparse.Namespace) -> str:
    """Do what the command line asks for and return what to print."""
    versions = Versions(options.state, keep=KEPT)
    if options.command == "versions":
        numbers = versions.numbers()
        return "\n".join(f"{number}{'  (current)' * (number == numbers[-1])}" for number in numbers) or "none yet"
    if options.command == "rollback":
        number = snapshots.save(opened(versions, options, version=options.version), versions)
        return f"version {number} is what version {options.version} was"
    if options.command == "route":
        prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
        if not prompt.strip():
            raise InputError("the prompt is empty: give a text, or - to read it from standard input")
        service = opened(versions, options)  # first: it is quick to refuse
        service.encode = query_encoder(ENCODER, EMBEDDINGS)
        decision = service.route(prompt)
        said = decision.to_json() if options.json else f"{decision.table()}\ndecision {decision.id}"
    elif options.command == "feedback":
        service = opened(versions, options)
        satisfied = None if options.satisfied is None else options.satisfied == "yes"
        new = service.feedback(
            options.decision, quality=options.quality, response_tokens=options.tokens, satisfied=satisfied
        )
        if not new:
            return "known already: nothing changed"
        said = "learned"
    elif options.command == "add":
        service = opened(versions, options)
        price, response = (None if p is None else p / 1e6 for p in (options.price_prompt, options.price_response))
        service.add_llm(
            options.name,
            price_prompt=price,
            price_response=response,
            startup_s=options.startup_s,
            tokens_per_s=options.tokens_per_s,
        )
        said = f"{len(service.router.llms)} LLMs: {', '.join(service.router.llms.names)}"
    else:
        service = opened(versions, options)
        service.remove_llm(options.name)
        said = f"{len(service.router.llms)} LLMs: {', '.join(service.router.llms.names)}"
    snapshots.save(service, versions)
    return said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; bad input ends in one line and status 1."""
    options = parser().parse_args(arguments)
    try:
        with alone(options.state):
            print(run(options))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
