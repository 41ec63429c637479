"""The headlines of README.md where MLflow shows them at first sight: on the pipeline's run and on each version."""

import base64
import json
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

from symbiosis.core.errors import InputError
from symbiosis.core.serving import Kind
from symbiosis.reporting.results import headline_table
from symbiosis.reporting.summaries import REPORTS, Headline, headlines
from symbiosis.tracking.publish import Published
from symbiosis.tracking.store import Store, metric_name

NOTE = "mlflow.note.content"
VIEW = "headlines"
"""Key of the saved view of the run list that shows the headlines: MLflow's own view shows no metric."""
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
    numbers = _numbers(found)
    at = int(time.time() * 1000)
    fresh = {name: value for name, value in numbers.items() if run.data.metrics.get(name) != value}
    client.log_batch(run_id, metrics=[Metric(name, value, at, 0) for name, value in fresh.items()])
    pages = {path for stage in published.state.stages for path in stage.files if path.endswith(".html")}
    artifacts = f"#/experiments/{run.info.experiment_id}/runs/{run_id}/artifacts"
    links = {
        one.page.stem: f"{artifacts}/{page}" for one in found if (page := (REPORTS / one.page.name).as_posix()) in pages
    }
    note = headline_table(found, links)
    if run.data.tags.get(NOTE) != note:
        client.set_tag(run_id, NOTE, note)
    _save_view(list(numbers), store)


def _save_view(names: list[str], store: Store) -> None:
    """Save a view of the experiment's run list: the pipeline's runs, with these metrics as columns.

    A saved view is a tag of the experiment, whose form is that of MLflow 3's own pages.
    """
    state = {
        "searchFilter": "tags.`symbiosis.kind` = 'pipeline'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": [f"metrics.`{name}`" for name in names],
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = json.dumps({"name": VIEW, "createdAt": 0, "updatedAt": 0, "state": f"deflate;{packed}"})
    tags = store.client.get_experiment(store.experiment_id).tags
    key = f"mlflow.sharedViewState.{VIEW}"
    if tags.get(key) != view:
        store.client.set_experiment_tag(store.experiment_id, key, view)


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
