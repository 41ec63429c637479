"""The sub-command that judges a candidate and promotes it if it is not worse than the champion."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from symbiosis.cli.output import JSON, note, say, table

if TYPE_CHECKING:
    from symbiosis.registry.verdict import Verdict

REFUSED = 1


def gate(
    kind: Annotated[Literal["router", "recommender"], typer.Argument(help="router or recommender.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge: promote, tag and write nothing.")] = False,
    as_json: JSON = False,
) -> None:
    """Judge the candidate against the champion on the same held-out data; promote it if it passes.

    \b
    symbiosis gate router --dry-run
    symbiosis gate recommender --json

    The block `gate` of params.yaml says how much worse it may be. Exit code 1: refused.
    """
    from symbiosis.registry import gate as judging

    root = Path()
    verdict = judging.judge(kind, root, judging.read_params(root), keep=not dry_run)
    applied = None if dry_run else judging.apply(verdict, root)
    outcome = verdict.standing if applied is None else applied.outcome
    say(_text(verdict, outcome), {**verdict.to_dict(), "outcome": outcome}, as_json)
    if applied is not None and applied.warning:
        note(applied.warning)
    if verdict.standing == "refused":
        raise typer.Exit(REFUSED)


def _text(verdict: "Verdict", outcome: str) -> str:
    rows = [
        {
            "check": check.name,
            "passed": "yes" if check.passed else "no",
            "measured": _number(check.value),
            "low": _number(check.low),
            "high": _number(check.high),
            "limit": _number(check.threshold),
            "decides": "yes" if check.decides else "no",
        }
        for check in verdict.checks
    ]
    return "\n".join([*([table(rows), ""] if rows else []), f"{outcome}: {verdict.words}"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
