"""Fuzz one target, a group of them, or all, from the command line; status 1 if something crashed."""

import argparse
import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.fuzzing import __doc__ as about
from bench.fuzzing import guided, openapi
from bench.fuzzing.targets import GROUPS, TARGETS, opened
from bench.fuzzing.trying import Found, try_at_random

OPENAPI = "openapi"
NAMES = (*TARGETS, OPENAPI)


def chosen(what: str) -> tuple[str, ...]:
    """Return the targets that a name stands for."""
    return NAMES if what == "all" else GROUPS.get(what, (what,))


def fuzz(
    names: Sequence[str], seconds: float, seed: int = 0, inputs: int | None = None, at_random: bool = False
) -> Iterator[Found]:
    """Fuzz targets one after the other.

    Parameters
    ----------
    names
        Of the targets.
    seconds
        For each.
    seed
        Of the mutations.
    inputs
        At most so many mutations for each; random ones alone can be counted.
    at_random
        Do not look at what code is reached, as where `atheris` is not installed.
    """
    for name in names:
        if name == OPENAPI:
            yield openapi.try_openapi(seconds, seed)
        elif guided.is_available() and not at_random and inputs is None:
            yield guided.try_guided(name, seconds, seed)
        else:
            with opened(name) as target:
                crashes = guided.FOLDER / name / "crashes"
                yield try_at_random(name, target, seconds, inputs, seed, crashes)


def main() -> None:
    """Fuzz as the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fuzzing", description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=[*NAMES, *GROUPS, "all"], metavar="TARGET", nargs="?", default="all")
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    parser.add_argument("--share", action="store_true", help="--seconds are for all targets together")
    parser.add_argument("--inputs", type=int, help="at most so many mutations for each target, at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-random", action="store_true", help="not guided by coverage")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    parser.add_argument("--list", action="store_true", help="name the targets and groups, and end")
    parser.add_argument("--keep", type=int, metavar="N", help="copy so many kept inputs of each to the corpus, and end")
    given = parser.parse_args()
    if given.list:
        print(json.dumps({**{name: list(targets) for name, targets in GROUPS.items()}, OPENAPI: [OPENAPI]}, indent=2))
        return
    if given.keep is not None:
        for name in TARGETS:
            print(f"{name}: {guided.keep(name, given.keep)} inputs in the corpus")
        return
    logging.disable(logging.CRITICAL)
    names = chosen(given.target)
    results = []
    for found in fuzz(
        names, given.seconds / (len(names) if given.share else 1), given.seed, given.inputs, given.at_random
    ):
        results.append(found)
        print(
            f"{found.target}: {found.tried:,} inputs in {found.seconds:.0f} s, {found.kept} kept, "
            f"{len(found.crashes)} kinds of crash",
            flush=True,
        )
        for crash in found.crashes.values():
            print(f"  {crash[:500]}", flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps([dataclasses.asdict(one) for one in results], indent=2) + "\n")
    raise SystemExit(1 if any(found.crashes for found in results) else 0)


if __name__ == "__main__":
    main()
