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
from unittest.mock import patch

from bench.fuzzing.trying import Target, use_test_worlds

SERVING = ("gateway", "upstreams")
"""Commands, some of whose forms serve until they are interrupted."""
ENDS = ("--check", "--config", "--help")
"""Options that keep them from it."""
OF_THE_REGISTRY = ("models", "promote", "gate")
VALUES = (
    "", "0", "1", "-1", "nan", "inf", "1e400", "x", "../x", "a\nb", "\ud800", "data.csv", "-", "--", "a" * 300,
    "router", "recommender", "yes", "1e9", "0.5", "out.parquet", "sqlite:///x.db", "2026-11-28", "params.yaml",
    "models", "1,2", "Ann", "B1",
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


def _may_serve(arguments: list[str]) -> bool:
    """Tell whether a command may serve for ever, as far as that can be told without running it."""
    words = [one for one in arguments if not one.startswith("-")]
    if not words or words[0] not in SERVING or arguments[:2] in (["gateway", "report"], ["gateway", "keys"]):
        return False
    *others, last = arguments
    return last not in ENDS or others[-1].startswith("-")  # then it may be that option's value


def command_line(folder: Path, trained: bool = True) -> Target:
    """Run `symbiosis` in a small project with any arguments; an input is a JSON list of them.

    Parameters
    ----------
    folder
        For the project.
    trained
        Whether it has models, which takes seconds to make, and commands that ask the registry are run, whose database
        does.
    """
    from symbiosis.cli.app import TRACEBACK, main

    project = folder / "project"
    project.mkdir()
    if trained:
        use_test_worlds()
        import gateway_world
        from recommender_world import write_recommender

        write_recommender(gateway_world.write_folder(project))
    shutil.copy(ROOT / "params.yaml", project)
    (project / "data.csv").write_text("query_text,llm,quality\na,m,1\nb,m,0\na,n,0\nb,n,1\n")

    def read(content: bytes) -> None:
        try:
            given = json.loads(content)
        except (ValueError, RecursionError):
            return
        if not isinstance(given, list) or not all(isinstance(one, str) and "\0" not in one for one in given):
            return
        if _may_serve(given) or (not trained and {*given} & {*OF_THE_REGISTRY}):
            return
        errors = io.StringIO()
        with _inside(project), patch.dict(os.environ, {TRACEBACK: "1"}), contextlib.redirect_stderr(errors):
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

    seeds = [["--help"], ["routing", "inspect", "data.csv"], ["recommend", "--user", "Ann"], ["params", "check"]]
    return Target(read, [json.dumps(seed).encode() for seed in seeds], "json", made=made)


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
