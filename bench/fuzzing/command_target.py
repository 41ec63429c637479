"""The target that runs `symbiosis` with any arguments: exit code 0, 1 or 2, one line on an error, never a traceback."""

import contextlib
import io
import json
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.fuzzing.trying import Target

SERVES = {("gateway",), ("upstreams", "simulate"), ("upstreams", "local")}
"""Commands that serve until they are interrupted; they are run only where an option keeps them from it."""
VALUES = (
    "", "0", "1", "-1", "nan", "inf", "1e400", "x", "../x", "a\nb", "\ud800", "data.csv", "-", "--", "a" * 300, "router", "recommender", "yes",
    "1e9", "0.5", "out.parquet", "sqlite:///x.db", "2026-11-28", "params.yaml", "models", "1,2", "alpha",
)  # fmt: skip
ROOT = Path(__file__).resolve().parents[2]


class WrongEnd(Exception):  # noqa: N818
    """A command ended otherwise than it may."""


def commands() -> dict[tuple[str, ...], list[str]]:
    """Return the options of every command, by its words."""
    import typer

    from symbiosis.cli.app import app

    found: dict[tuple[str, ...], list[str]] = {}

    def walk(command: object, words: tuple[str, ...]) -> None:
        params = getattr(command, "params", [])
        found[words] = sorted({name for param in params for name in getattr(param, "opts", []) if name.startswith("-")})
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


def command_line(folder: Path) -> Target:
    """Run `symbiosis` in a small project with any arguments; an input is a JSON list of them, or of such lists."""
    from symbiosis.cli.app import TRACEBACK, main

    project = folder / "project"
    project.mkdir()
    for place in ("tests/golden/router_9060492/router",):
        shutil.copytree(ROOT / place, project / "models/router")
    shutil.copy(ROOT / "params.yaml", project)
    (project / "data.csv").write_text("query_text,llm,quality\na,m,1\nb,m,0\na,n,0\nb,n,1\n")
    os.environ[TRACEBACK] = "1"

    def read(content: bytes) -> None:
        try:
            given = json.loads(content)
        except (ValueError, RecursionError):
            return
        if not isinstance(given, list) or not all(isinstance(one, str) and "\0" not in one for one in given):
            return
        words = tuple(one for one in given if not one.startswith("-"))
        if any(words[: len(serves)] == serves for serves in SERVES) and not {"--check", "--config", "--help"} & {*given}:
            return
        errors = io.StringIO()
        with _inside(project), contextlib.redirect_stderr(errors):
            status = main(given)
        told = [line for line in errors.getvalue().splitlines() if not line.startswith("note: ")]
        if status not in (0, 1, 2):
            raise WrongEnd(f"status {status}: {told}")
        if status and len(told) != 1 and not any(line.startswith(" ") or line.startswith("Usage") for line in told):
            raise WrongEnd(f"status {status} with {len(told)} lines: {told[:3]}")

    known = commands()

    def made(rng: random.Random) -> bytes:
        words = rng.choice(list(known))
        arguments = [*words, *(rng.choice(VALUES) for _ in range(rng.choice((0, 0, 1, 1, 2))))]
        for option in rng.sample(known[words], min(rng.randrange(4), len(known[words]))):
            arguments += [option, rng.choice(VALUES)] if rng.random() < 0.8 else [option]
        return json.dumps(arguments).encode()

    seeds = [json.dumps([*words, *(["--help"] if not words else [])]) for words in known]
    for words, options in known.items():
        for option in options:
            seeds.append(json.dumps([*words, option, "1"]))
            seeds.append(json.dumps([*words, "x", option, "--json"]))
    seeds += [json.dumps(["routing", "inspect", "data.csv"]), json.dumps(["recommend", "--user", "1", "--count", "3"])]
    return Target(read, [seed.encode() for seed in seeds], "json", made=made)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, with nothing on standard input."""
    before, stdin = Path.cwd(), sys.stdin
    os.chdir(folder)
    sys.stdin = io.TextIOWrapper(io.BytesIO(b""), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = stdin
        os.chdir(before)
