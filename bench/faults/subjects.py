"""What bench.faults tries: every stage of dvc.yaml on tiny synthetic data, and whatever else writes.

A subject is a command, what it must leave whole, and for what changes from run to run a judge.
"""

import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.faults.runs import Ended, in_child, module

ROOT = Path(__file__).resolve().parents[2]
TINY: dict[str, Any] = {
    "download.synthetic": {"users": 60, "items": 40, "interactions": 600, "drift": 0.3, "release": 2018},
    "corpus.maximum_words": 12,
    "embed_items.dimensions": 16,
    "pretrain.scratch": {"vocabulary": 400, "width": 16, "layers": 1, "heads": 2},
    "pretrain.content_epochs": 1,
    "pretrain.interaction_epochs": 1,
    "pretrain.checkpoint_seconds": 0,
    "finetune.epochs": 3,
    "finetune.checkpoint_seconds": 0,
    "baselines.ease.l2": [100],
    "baselines.ials.dimension": [8],
    "baselines.ials.epochs": 2,
    "baselines.multi_vae.dimension": [8],
    "baselines.multi_vae.beta": [0.2],
    "baselines.multi_vae.epochs": 2,
    "baselines.sasrec.dimension": [8],
    "baselines.sasrec.dropout": [0.2],
    "baselines.sasrec.epochs": 2,
    "evaluate.baselines": {
        "simple": ["popularity", "ease", "ials"],
        "hybrid": [],
        "neural": ["multi_vae"],
        "sequential": ["sasrec"],
    },
    "evaluate.bootstrap_samples": 100,
    "download_routing.synthetic": {"queries": 80},
    "train_encoder.maximum_tokens": 32,
    "embed_queries.precision": "float32",
    "router_train.predictor": "linear",
    "router_train.tags": "subdomain",
    "compare_routers.splits": [1],
    "compare_routers.baselines": ["random", "cheapest", "best_single"],
    "compare_routers.stream": None,
    "online_replay.bootstrap_samples": 100,
    "report_routers.bootstrap_samples": 100,
}
STAGE_VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "final-fit, to all data": ("final-fit", {"final_fit.data": "all"}),
}
"""Stages once more, with other params."""
LEFT_OVER = re.compile(r"(^|/)\.[^/]+\.[a-z0-9_]{8}(/|$)|\.(old|new|part|tmp)(-journal|-wal|-shm)?(/|$)")
"""Names of what writers make for a while."""


@dataclass(frozen=True)
class Subject:
    """Something that writes.

    Attributes
    ----------
    name
        As the table shows it.
    work
        Runs it in the present folder.
    targets
        Paths that a fault leaves as they were, away or new, and that are the same to the byte after another run.
    complaints
        Says what is wrong with a folder after a fault, and after another run if `again`; None: `targets` tell all.
    loads
        Modules that it imports, loaded before the fork.
    overrides
        Params that differ from those of the world.
    begins_with
        Makes the state that it finds; None: the world as it is, with older targets.
    """

    name: str
    work: Callable[[], None]
    targets: tuple[str, ...] = ()
    complaints: Callable[[bool], list[str]] | None = None
    loads: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    begins_with: Callable[[], None] | None = None


def stages() -> list[Subject]:
    """Return the stages in the order of dvc.yaml, one for each entry of a matrix."""
    document = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in TINY.items():
        _set(params, key, value)
    found = []
    for name, entry in document["stages"].items():
        for item in _items(entry, params):
            told = yaml.safe_load(_filled(yaml.safe_dump(entry, width=10_000), item))
            words = told["cmd"].removeprefix("exec python -m ").split()
            written = [*told.get("outs", []), *told.get("metrics", []), *told.get("plots", [])]
            targets = tuple(next(iter(one)) if isinstance(one, dict) else one for one in written)
            shown = "@".join([name, *map(str, item.values())])
            found.append(Subject(shown, module(*words), targets, loads=(words[0], *_LATE.get(words[0], ()))))
    return found


def variants(of: Sequence[Subject]) -> list[Subject]:
    """Return stages with other params."""
    by_name = {one.name: one for one in of}
    return [
        Subject(name, (base := by_name[stage]).work, base.targets, loads=base.loads, overrides=overrides)
        for name, (stage, overrides) in STAGE_VARIANTS.items()
    ]


_LATE = {
    "stages.clean": ("great_expectations",),
    "stages.clean_routing": ("great_expectations",),
    "stages.train_encoder": ("sentence_transformers",),
    "stages.embed_queries": ("sentence_transformers",),
    "stages.collect_feedback": ("sentence_transformers",),
    "stages.baseline": ("torch",),
}
"""Modules that stages import late."""


def _items(entry: Mapping[str, Any], params: Mapping[str, Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = [{}]
    for name, given in entry.get("matrix", {}).items():
        values = _get(params, given.strip("${}")) if isinstance(given, str) else given
        items = [{**item, name: value} for item in items for value in values]
    return items


def _filled(text: str, item: Mapping[str, Any]) -> str:
    for name, value in item.items():
        text = text.replace(f"${{item.{name}}}", str(value))
    return text


def _get(document: Any, key: str) -> Any:
    for name in key.split("."):
        document = document[name]
    return document


def _set(document: Any, key: str, value: Any) -> None:
    *path, last = key.split(".")
    for name in path:
        document = document[name]
    if last not in document:
        raise KeyError(key)
    document[last] = value


def write_params(folder: Path, overrides: Mapping[str, Any]) -> None:
    """Write params.yaml with the world's values and others."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in {**TINY, **overrides}.items():
        _set(params, key, value)
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def make_world(folder: Path, chosen: Sequence[Subject]) -> dict[str, float]:
    """Run stages one after the other in a folder; return the seconds of each.

    Raises
    ------
    SystemExit
        One failed.
    """
    import time

    write_params(folder, {})
    for left in ("data/local/feedback", "data/local/routing", "data/local/reviews"):
        (folder / left).mkdir(parents=True, exist_ok=True)
    seconds = {}
    for subject in chosen:
        begun = time.monotonic()
        ended = in_child(subject.work, folder)
        seconds[subject.name] = time.monotonic() - begun
        if ended.status:
            sys.exit(f"{subject.name} failed without any fault:\n{ended.output}{ended.errors}")
    return seconds


def load(subjects: Sequence[Subject]) -> None:
    """Import what the subjects import."""
    for name in dict.fromkeys(name for subject in subjects for name in subject.loads):
        importlib.import_module(name)


def said(ended: Ended) -> str:
    """Return how a process ended, in a few words."""
    last = f": {ended.lines[-1][:160]}" if ended.lines else ""
    return (f"signal {-ended.status}" if ended.status < 0 else f"status {ended.status}") + last
