"""All targets by name, and the groups that are run together."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.fuzzing import command_target, data_targets, gateway_targets, state_targets, table_targets
from bench.fuzzing.trying import Target

TARGETS: dict[str, Callable[[Path], Target]] = {
    "reviews": data_targets.reviews,
    "metadata": data_targets.metadata,
    "benchmark-csv": data_targets.benchmark_csv,
    "new-items": data_targets.new_items,
    "jsonl": table_targets.jsonl,
    "csv": table_targets.csv,
    "parquet": table_targets.parquet,
    "routerbench": table_targets.routerbench,
    "pickles": table_targets.pickles,
    "layouts": table_targets.layouts,
    "exports": table_targets.exports,
    "params": data_targets.params,
    "config": gateway_targets.config,
    "prompts": data_targets.prompts,
    "tags": data_targets.tags,
    "requests": gateway_targets.requests,
    "upstreams": gateway_targets.upstreams,
    "door": gateway_targets.door,
    "states": state_targets.states,
    "routers": state_targets.routers,
    "journals": state_targets.journals,
    "bundles": state_targets.bundles,
    "champions": state_targets.champions,
    "command-line": command_target.command_line,
}
GROUPS: dict[str, tuple[str, ...]] = {
    "reviews-and-items": ("reviews", "metadata", "benchmark-csv", "new-items"),
    "routing-tables": ("jsonl", "csv", "parquet", "routerbench", "pickles", "layouts", "exports"),
    "settings": ("params", "config", "prompts", "tags", "command-line"),
    "gateway": ("requests", "upstreams", "door"),
    "states-on-disk": ("states", "routers", "journals", "bundles", "champions"),
}
"""With the target `openapi`, which asks a running gateway, these are all there are."""


def scratch() -> str | None:
    """Return where targets write: into memory where that is a folder, for most of them wait for the disk."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


@contextmanager
def opened(name: str) -> Iterator[Target]:
    """Make a target, with a folder of its own."""
    with TemporaryDirectory(prefix=f"fuzzing-{name}-", dir=scratch()) as folder:
        target = TARGETS[name](Path(folder))
        try:
            yield target
        finally:
            target.close()
