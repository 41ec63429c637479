"""Curves sent to MLflow while a stage trains; a store that is down never stops or stalls the training."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from symbiosis.tracking.store import Store, explain, numbers, tracking_uri, without_credentials


class LiveRun:
    """One run of a training stage, as long as the store answers.

    The first failure is told in one line; from then on nothing is sent.
    """

    def __init__(self, stage: str, fingerprint: str) -> None:
        self._store: Store | None = None
        self._run_id = ""
        self._known: dict[str, set[int]] = {}
        self._uri = tracking_uri()
        if self._uri is None:
            return
        try:
            self._begin(Store(self._uri, seconds=3, retries=0), stage, fingerprint)
        except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
            self._give_up(error)

    def _begin(self, store: Store, stage: str, fingerprint: str) -> None:
        key = {"dvc.stage": stage, "symbiosis.fingerprint": fingerprint}
        if found := store.find(key):
            self._run_id = found[0].info.run_id
            self._known = store.steps(found[0])
            store.client.update_run(self._run_id, status="RUNNING")
        else:
            experiment = {
                "dvc.exp_name": os.environ.get("DVC_EXP_NAME"),
                "dvc.exp_baseline": os.environ.get("DVC_EXP_BASELINE_REV"),
            }
            tags = key | {name: value for name, value in experiment.items() if value}
            self._run_id = store.client.create_run(store.experiment_id, tags=tags, run_name=stage).info.run_id
        self._store = store

    def log(self, metrics: Mapping[str, object], step: int) -> None:
        """Record numbers at a step; what is not a finite number, and what is recorded already, is passed over."""
        if self._store is None:
            return
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        values = numbers({name: value for name, value in metrics.items() if name != "step"})
        fresh = {name: value for name, value in values.items() if step not in self._known.get(name, ())}
        try:
            self._store.client.log_batch(
                self._run_id, metrics=[Metric(name, value, now, step) for name, value in fresh.items()]
            )
        except Exception as error:  # as above
            self._give_up(error)

    def close(self, status: str) -> None:
        """End the run as ``FINISHED``, ``FAILED`` or ``KILLED``."""
        if self._store is None:
            return
        try:
            self._store.client.set_terminated(self._run_id, status)
        except Exception as error:  # as above
            self._give_up(error)
        self._store = None

    def _give_up(self, error: Exception) -> None:
        self._store = None
        print(
            f"warning: MLflow at {without_credentials(self._uri or '')} cannot be used "
            f"({explain(error)}): the work goes on, its live curves are not recorded",
            file=sys.stderr,
        )


@contextmanager
def live_run(stage: str, fingerprint: str) -> Iterator[LiveRun]:
    """Record a training while it runs.

    A run is known by its stage and its fingerprint: a training that was killed and resumes goes on in the same run.
    `symbiosis.tracking.publish` later puts it below the pipeline's run.

    Parameters
    ----------
    stage
        The stage's name in ``dvc.yaml``.
    fingerprint
        As `symbiosis.core.fingerprint.fingerprint` returns it.

    Examples
    --------
    ::

        with live_run("finetune", mark) as live:
            live.log({"loss": 0.7, "recall@20": 0.1}, step=1)
    """
    run = LiveRun(stage, fingerprint)
    try:
        yield run
    except BaseException as error:
        run.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    run.close("FINISHED")
