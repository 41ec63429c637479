"""What a run of the loop leaves to look at: a file for the console, and artifacts in Prefect."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect.artifacts import create_markdown_artifact, create_table_artifact  # noqa: E402

from flows.pipeline import PipelineRun  # noqa: E402
from flows.workspace import MLFLOW_UI  # noqa: E402
from symbiosis.core.artifacts import read_json, staged, write_json  # noqa: E402
from symbiosis.core.errors import InputError, one_line  # noqa: E402
from symbiosis.core.layout import LAST_RUN, REPORTS  # noqa: E402
from symbiosis.core.rounding import rounded  # noqa: E402
from symbiosis.registry.headlines import VIEW  # noqa: E402
from symbiosis.registry.publication import Publication  # noqa: E402
from symbiosis.reporting.summaries import headlines  # noqa: E402
from symbiosis.tracking.store import tracking_uri, without_credentials  # noqa: E402


@dataclass
class LastRun:
    """A run of the loop.

    Attributes
    ----------
    flow
        ``nightly`` or ``hourly``.
    root
        The top of the repository.
    began
        UTC.
    words
        What was done, a phrase each.
    waits
        What could not be done, a line each.
    """

    flow: str
    root: Path
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    words: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)

    def finish(self, run: PipelineRun | None) -> None:
        """Write the file and the artifacts.

        Parameters
        ----------
        run
            Of the pipeline; None: it did not come to that.
        """
        before = last_metrics(self.root)
        now = metrics(self.root)
        seconds = (datetime.now(UTC) - self.began).total_seconds()
        did = "; ".join([*self.words, *self.waits]) or "nothing was to be done"
        document = {
            "flow": self.flow,
            "began": self.began.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "seconds": round(seconds, 1),
            "words": did,
            "stages": _stages(run),
            "metrics": now,
        }
        with staged(self.root / LAST_RUN) as (file,):
            write_json(file, document)
        create_table_artifact(compared(now, before), key="metrics", description="Headlines against the run before")
        summary = "".join(f"- {line}\n" for line in [*self.words, *self.waits] or [did])
        if run is not None and isinstance(run.published, Publication):
            summary += f"\nIn MLflow:\n\n{links(run.published, self.root)}"
        create_markdown_artifact(summary, key="summary", description=one_line(did, 300))


def _stages(run: PipelineRun | None) -> list[dict[str, Any]]:
    if run is None:
        return []
    return [
        {"stage": stage, "outcome": outcome, "seconds": run.seconds[stage]} for stage, outcome in run.outcomes.items()
    ]


def metrics(root: Path) -> dict[str, float]:
    """Return the headlines of the reports by name: our number, and its gain over the strongest baseline."""
    try:
        found = headlines(root / REPORTS)
    except InputError:  # nothing was reported yet
        return {}
    named = {
        f"{one.title}: {what}": value for one in found for what, value in ((one.measure, one.value), ("gain", one.lead))
    }
    return {name: float(value) for name, value in named.items() if value is not None}


def last_metrics(root: Path) -> dict[str, float]:
    """Return the headlines of the run before, none if there was none."""
    try:
        told: dict[str, float] = read_json(root / LAST_RUN)["metrics"]
    except (InputError, KeyError, TypeError):
        return {}
    return told


def compared(now: Mapping[str, float], before: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return the rows of the table: each headline, now and before, and the difference."""
    return [
        {
            "headline": name,
            "now": value,
            "before": before.get(name),
            "difference": rounded(value - before[name]) if name in before else None,
        }
        for name, value in now.items()
    ]


def links(published: Publication, root: Path) -> str:
    """Return where MLflow shows the run, its reports and the registered versions, as Markdown."""
    store = without_credentials(tracking_uri(root) or "")
    address = (store if store.startswith(("http:", "https:")) else os.environ.get(MLFLOW_UI, "")).rstrip("/")
    run = f"/#/experiments/{published.recorded.experiment_id}/runs/{published.recorded.run_id}"
    runs = f"/#/experiments/{published.recorded.experiment_id}/runs?viewStateShareKey={VIEW}"
    lines = [_link("all runs with their headlines", address, runs), _link("run of the pipeline", address, run)]
    pages = {path for stage in published.recorded.state.stages for path in stage.files if path.endswith(".html")}
    lines += [_link(f"report {page}", address, f"{run}/artifacts/{page}") for page in sorted(pages)]
    for one in published.registered:
        told = f"{one.name} version {one.version}{', new' if one.new else ''}"
        lines.append(_link(told, address, f"/#/models/{one.name}/versions/{one.version}"))
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _link(text: str, address: str, place: str) -> str:
    return f"[{text}]({address}{place})" if address else f"{text}: MLflow, {place.removeprefix('/#')}"
