"""Sub-command for routing tables: what one holds, before it is trained on."""

from pathlib import Path
from typing import Annotated, Any

import typer

from symbiosis.cli.output import JSON, say, table
from symbiosis.core.errors import InputError

routing = typer.Typer(no_args_is_help=True, help="Look at tables of queries answered by several LLMs.")


@routing.callback()
def _group() -> None:
    """Keep `inspect` a sub-command though it is the only one."""


@routing.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="TABLE", help="A parquet, csv or jsonl file.")],
    as_json: JSON = False,
) -> None:
    """Tell what was read, what is missing, how much can be learned, and which params fit.

    \b
    symbiosis routing inspect outcomes.parquet
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist: name a parquet, csv or jsonl file")
    from symbiosis.routing.experiments.inspection import inspect as inspected

    document = inspected(path)
    say("" if as_json else _text(document), document, as_json)


def _text(told: dict[str, Any]) -> str:
    import yaml

    gain, noise = told["gain"], told["noise_share"]
    lead = f"{gain['chosen'] - gain['best_single']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    parts = [f"{name}: {value}" for part in ("read", "missing") for name, value in told[part].items()]
    parts += [
        "",
        table([{name: _cell(name, value) for name, value in row.items()} for row in told["llms"]]),
        "",
        f"Best single LLM {gain['best_single']:.4f}; chosen by words and domain {gain['chosen']:.4f}, {lead} (95 %); "
        f"best answer to each query {gain['oracle']:.4f}, luck included",
        "Share of noise: unknown, no pair was answered twice" if noise is None else f"Share of noise: {noise:.2f}",
        "answers_needed: of each, to tell an LLM's mean quality from the best one's (5 %, power 80 %)",
        "",
        "params.yaml, where it differs:",
        yaml.safe_dump(told["params"], sort_keys=False).rstrip(),
    ]
    return "\n".join(parts)


def _cell(name: str, value: object) -> object:
    return "" if value is None else f"{value:.3g}" if name == "cost_usd" else value
