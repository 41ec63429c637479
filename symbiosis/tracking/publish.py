"""Pipeline states recorded in MLflow: one run per state of ``dvc.lock``, one nested run per stage.

Everything is read from ``dvc.lock`` and from files whose digest it holds, never from what may have been edited since.
A state is known by the SHA-256 of ``dvc.lock``: publishing it again adds nothing. A run can have one parent only, so a
stage that several states share appears once below each of them; the tag ``dvc.stage_sha256``, the digest of the stage's
entry in ``dvc.lock``, tells that they are the same result. The live run of a training goes below the first of them;
below the others the curve comes from the stage's CSV file.
"""

import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from symbiosis.tracking.state import StageState, State, read_state
from symbiosis.tracking.store import Store, named, numbers, tracking_uri, without_credentials

if TYPE_CHECKING:
    from mlflow.entities import Run

LONGEST_CURVE = 2000
"""Longer curves are thinned out evenly; the CSV file beside them is whole."""


@dataclass(frozen=True)
class Published:
    """What `publish` did.

    Attributes
    ----------
    uri
        Of the store, without credentials.
    run_id
        The parent run.
    new_runs
        How many runs were made or adopted, the parent included; 0 if all was there.
    unreadable
        Stages that could not be published, as their results are gone.
    state
        What was recorded.
    experiment_id
        Of the run.
    """

    uri: str
    run_id: str
    new_runs: int
    unreadable: list[str]
    state: State
    experiment_id: str = ""


def publish(root: Path, revision: str | None = None, flow_run_id: str | None = None) -> Published | None:
    """Record a pipeline state, or what is missing of it.

    Parameters
    ----------
    root
        The top of the repository.
    revision
        A git revision, for instance a DVC experiment; None is the workspace.
    flow_run_id
        The Prefect flow run that made or confirmed the state.

    Returns
    -------
    Published or None
        None if tracking is switched off.

    Raises
    ------
    InputError
        There is no ``dvc.lock``.
    Exception
        Whatever MLflow raises if the store cannot be reached.
    """
    uri = tracking_uri(root)
    if uri is None:
        return None
    state = read_state(root, revision)
    store = Store(uri, root)
    common = state.tags | {"dvc.lock_sha256": state.sha256}
    if flow_run_id:
        common["prefect.flow_run_id"] = flow_run_id
    if "git.commit" in common:
        common["mlflow.source.git.commit"] = common["git.commit"]

    key = {"symbiosis.kind": "pipeline", "dvc.lock_sha256": state.sha256}
    found = store.find(key)
    if found:
        parent = found[0].info.run_id
        _set_tags(store, parent, {k: v for k, v in common.items() if found[0].data.tags.get(k) != v})
    else:
        name = state.tags.get("dvc.exp_name") or f"{datetime.now(UTC):%Y-%m-%d} pipeline {state.sha256[:8]}"
        parent = store.client.create_run(store.experiment_id, tags=key | common, run_name=name).info.run_id
    children = {run.data.tags["dvc.stage"]: run for run in store.find({"mlflow.parentRunId": parent})}
    missing = [
        stage
        for stage in state.stages
        if stage.name not in children or "symbiosis.published" not in children[stage.name].data.tags
    ]
    disputed = _disputed(state.stages)
    for stage in missing:
        run = children.get(stage.name) or _stage_run(store, stage, parent)
        _record(store, run, stage)
        _summarise(store, parent, stage, disputed)
        outs = {f"dvc.out_md5.{path}": md5 for path, md5 in stage.outs.items()}
        marks = {"dvc.stage_sha256": stage.sha256, "symbiosis.published": "true"}
        _set_tags(store, run.info.run_id, common | outs | marks)
        store.client.set_terminated(run.info.run_id, "FINISHED", run.info.end_time)
    if missing or not found:
        store.client.set_terminated(parent, "FINISHED")
    return Published(
        without_credentials(uri), parent, len(missing) + (not found), state.unreadable, state, store.experiment_id
    )


def _stage_run(store: Store, stage: StageState, parent: str) -> "Run":
    """Return the run of a stage below its parent: its live run if that has no parent yet, or else a new one."""
    tags = {"mlflow.parentRunId": parent, "dvc.stage": stage.name}
    if stage.fingerprint:
        for live in store.find({"dvc.stage": stage.name, "symbiosis.fingerprint": stage.fingerprint}):
            if "mlflow.parentRunId" not in live.data.tags:
                _set_tags(store, live.info.run_id, tags)
                return live
    return store.client.create_run(store.experiment_id, tags=tags, run_name=stage.name)


def _record(store: Store, run: "Run", stage: StageState) -> None:
    """Fill the run of a stage; what the live run holds already is not added again."""
    from mlflow.entities import Metric

    run_id, known, now = run.info.run_id, store.steps(run), int(time.time() * 1000)
    stride = max(1, -(-len(stage.curves) // LONGEST_CURVE))
    metrics = [
        Metric(name, value, now, step)
        for step, row in stage.curves[::stride]
        for name, value in numbers(dict(row)).items()
        if step not in known.get(name, ())
    ]
    metrics += [Metric(name, value, now, 0) for name, value in numbers(stage.metrics).items() if name not in known]
    for i in range(0, len(metrics), 1000):
        store.client.log_batch(run_id, metrics=metrics[i : i + 1000])
    _log_params_and_data(store, run_id, stage)
    _log_files(store, run_id, stage.files)


def _disputed(stages: list[StageState]) -> set[str]:
    """Params with which stages were run differently: only part of the pipeline was run anew since they changed."""
    values: dict[str, set[str]] = {}
    for stage in stages:
        for name, value in stage.params.items():
            values.setdefault(name, set()).add(str(value))
    return {name for name, found in values.items() if len(found) > 1}


def _summarise(store: Store, parent: str, stage: StageState, disputed: set[str]) -> None:
    """Repeat params, data digests, results and pages on the parent, where pipeline states are compared.

    A run holds one value of a param: those which stages differ in stand below these only.
    """
    from mlflow.entities import Metric

    known, now = store.client.get_run(parent).data.metrics, int(time.time() * 1000)
    metrics = [Metric(name, value, now, 0) for name, value in numbers(stage.metrics).items() if name not in known]
    for i in range(0, len(metrics), 1000):
        store.client.log_batch(parent, metrics=metrics[i : i + 1000])
    _log_params_and_data(store, parent, stage, disputed)
    _log_files(store, parent, {path: content for path, content in stage.files.items() if path.endswith(".html")})


def _log_params_and_data(store: Store, run_id: str, stage: StageState, without: Collection[str] = frozenset()) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Param

    told = named({name: value for name, value in stage.params.items() if name not in without})
    params = [Param(name, str(value)) for name, value in told.items()]
    for i in range(0, len(params), 100):
        store.client.log_batch(run_id, params=params[i : i + 100])
    context = [InputTag("mlflow.data.context", "input")]
    if data := [DatasetInput(Dataset(path, md5, "dvc", path), context) for path, md5 in stage.data.items()]:
        store.client.log_inputs(run_id, data)


def _log_files(store: Store, run_id: str, files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for path, content in files.items():
            file = Path(folder, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        if files:
            store.client.log_artifacts(run_id, folder)


def _set_tags(store: Store, run_id: str, tags: dict[str, str]) -> None:
    from mlflow.entities import RunTag

    items = [RunTag(name, value) for name, value in tags.items()]
    for i in range(0, len(items), 100):
        store.client.log_batch(run_id, tags=items[i : i + 100])
