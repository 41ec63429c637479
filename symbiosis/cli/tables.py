"""Sub-command for routing tables: what one holds, before it is trained on."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from symbiosis.cli.output import JSON, note, say, table
from symbiosis.core.errors import InputError

routing = typer.Typer(no_args_is_help=True, help="Look at tables of queries answered by several LLMs.")


@routing.callback()
def _group() -> None:
    """Keep `inspect` a sub-command though it is the only one."""


@routing.command()
def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="TABLE", help="A parquet, csv, jsonl, json or pickle file, a store, or a folder.")
    ],
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a config, such as configs/NAME.yaml, that runs as it is.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Tell what was read, what is missing, how much can be learned, and which params fit.

    \b
    symbiosis routing inspect outcomes.parquet
    symbiosis routing inspect logs/ --write configs/mine.yaml && make repro CONFIG=mine

    Long tables, RouterBench's, several answers in a record, comparisons of two answers, and logs of LiteLLM, of
    OpenTelemetry and of our gateway are told by their content.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: name a parquet, csv, jsonl or json file, or a folder with one")
    if write is not None and write.exists():
        raise InputError(f"{write} exists already: name another file, or delete it")
    from symbiosis.routing.experiments.inspection.table import inspect as inspected

    document = inspected(path)
    say("" if as_json else _text(document), document, as_json)
    if write is not None:
        _write(document, path, write)


def _write(told: dict[str, Any], path: Path, file: Path) -> None:
    import yaml

    from symbiosis.core.artifacts import staged
    from symbiosis.routing.experiments.inspection.table import configuration

    if told["lacks"] is not None:
        raise InputError(f"{file} is not written, because nothing can be learned from {path}: {told['lacks']}")
    data = os.environ.get("SYMBIOSIS_DATA_DIR")
    document = configuration(told["params"], path, Path(data) if data else None)
    head = f"# {path.name}: {told['read']['queries']:,} queries x {told['read']['llms']} LLMs.\n"
    with staged(file) as (draft,):
        draft.write_text(head + yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    note(f"{file} is written: run `make repro CONFIG={file.stem}`")


def _text(told: dict[str, Any]) -> str:
    import yaml

    parts = [f"{name}: {_listed(value)}" for part in ("read", "missing") for name, value in told[part].items()]
    if told["lacks"] is not None:
        return "\n".join([*parts, "", f"Nothing can be learned yet: {told['lacks']}"])
    for part in told["parts"]:
        share = f"{part['queries']:,} queries x {part['llms']} LLMs"
        parts.append(f"A part with LLMs of its own: {share}, domains {', '.join(part['domains'])}")
    parts += ["What follows is about the first part; choose another by its domains"] if told["parts"] else []
    gain, noise = told["gain"], told["noise"]
    lead = f"{gain['chosen'] - gain['best_single']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}]"
    parts += [
        "",
        table([{name: _cell(name, value) for name, value in row.items()} for row in told["llms"]]),
        "answers_needed: of each, to tell an LLM's mean quality from the best one's (5 %, power 80 %)",
        "",
        f"Best single LLM {gain['best_single']:.4f}; chosen by words and domain {gain['chosen']:.4f}, {lead} (95 %)",
        f"Ceiling, luck apart: {_ceiling(gain)}; best answer to each query {gain['oracle']:.4f}, luck included",
        "Noise: unknown, no pair was answered twice"
        if noise is None
        else f"Noise: {noise['pairs_repeated']:,} pairs were answered {noise['answers_each']:.1f} times; one answer "
        f"deviates by {noise['deviation']:.3f}, {100 * noise['share']:.0f} % of the variance",
    ]
    for group in told["alike"]:
        parts.append(f"Nearly the same (correlation {group['correlation']:.2f}, one price): {', '.join(group['llms'])}")
    parts += ["", "params.yaml, where it differs:", yaml.safe_dump(told["params"], sort_keys=False).rstrip()]
    return "\n".join(parts)


def _ceiling(gain: dict[str, Any]) -> str:
    if gain["ceiling"] is None:
        return "unknown"
    return f"about {gain['ceiling']:.4f} (by {gain['ceiling_from']})"


def _listed(value: object) -> object:
    return ", ".join(map(str, value)) if isinstance(value, list) else value


def _cell(name: str, value: object) -> object:
    return "" if value is None else f"{value:.3g}" if name == "cost_usd" else value
