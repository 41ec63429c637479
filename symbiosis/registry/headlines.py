"""The headlines of README.md where MLflow shows them at first sight: on the pipeline's run and on each version."""

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from symbiosis.core.errors import InputError
from symbiosis.core.serving import Kind
from symbiosis.reporting.results import headline_table
from symbiosis.reporting.summaries import REPORTS, Headline, headlines
from symbiosis.tracking.publish import Published
from symbiosis.tracking.store import Store, metric_name

NOTE = "mlflow.note.content"
# By the report's name. The numbers sort them before all other metrics of a run.
_TITLES = {"recommender": "1 recommender", "router": "2 router", "router_study": "3 routers compared"}
_OF_MODEL: dict[Kind, tuple[str, ...]] = {"recommender": ("recommender",), "router": ("router", "router_study")}


def of_model(kind: Kind, reports: Path) -> dict[str, str]:
    """Return a model's headlines as tags: measures and gains with their intervals; none before anything was reported.

    Parameters
    ----------
    kind
        Which model.
    reports
        The folder of the reports.
    """
    return {
        metric_name(f"{_title(one).split(' ', 1)[1]} {what}"): told
        for one in _found(reports)
        if one.page.stem in _OF_MODEL[kind]
        for what, told in ((one.measure, one.ours), ("gain", one.gain))
        if told
    }


def show_on_run(published: Published, store: Store) -> None:
    """Put the headlines of a state on its run: as metrics that sort first, and as a note with links to the reports.

    The numbers come from the files of the state, not from what may have been edited since.

    Parameters
    ----------
    published
        The run.
    store
        Holds the run.
    """
    from mlflow.entities import Metric

    with tempfile.TemporaryDirectory(prefix="symbiosis-") as folder:
        for stage in published.state.stages:
            for path, content in stage.files.items():
                if Path(path).parent == REPORTS and path.endswith(".json"):
                    Path(folder, Path(path).name).write_bytes(content)
        found = _found(Path(folder))
    if not found:
        return
    client, run_id = store.client, published.run_id
    run = client.get_run(run_id)
    at = int(time.time() * 1000)
    fresh = {name: value for name, value in _numbers(found).items() if run.data.metrics.get(name) != value}
    client.log_batch(run_id, metrics=[Metric(name, value, at, 0) for name, value in fresh.items()])
    pages = {path for stage in published.state.stages for path in stage.files if path.endswith(".html")}
    artifacts = f"#/experiments/{run.info.experiment_id}/runs/{run_id}/artifacts"
    links = {
        one.page.stem: f"{artifacts}/{page}" for one in found if (page := (REPORTS / one.page.name).as_posix()) in pages
    }
    note = headline_table(found, links)
    if run.data.tags.get(NOTE) != note:
        client.set_tag(run_id, NOTE, note)


def _found(reports: Path) -> list[Headline]:
    try:
        return headlines(reports)
    except InputError:  # nothing was reported yet, or in another form
        return []


def _title(headline: Headline) -> str:
    return _TITLES[headline.page.stem]


def _numbers(found: list[Headline]) -> dict[str, float]:
    """Return the headlines as metrics."""
    numbers: Mapping[str, float | None] = {
        f"{_title(one)} {what}": value
        for one in found
        for what, value in ((one.measure.lower(), one.value), ("gain", one.lead))
    }
    return {metric_name(name): float(value) for name, value in numbers.items() if value is not None}
