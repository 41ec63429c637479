"""Where runs are recorded: one MLflow experiment, found by environment variables.

``MLFLOW_TRACKING_URI`` names the store, by default a sqlite database at the top of the repository; the empty string
or ``SYMBIOSIS_TRACKING=off`` records nothing. ``MLFLOW_EXPERIMENT_NAME`` names the experiment.
"""

import hashlib
import logging
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from symbiosis.core.processes import spare_loopback
from symbiosis.core.telemetry import switch_telemetry_off
from symbiosis.tracking import database

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

Value = TypeVar("Value")
LONGEST_NAME = 250
"""Of a metric or param in MLflow, characters."""


def workspace(root: Path | str | None = None) -> Path:
    """Return the top of the repository that owns the records.

    Queued DVC experiments run in copies below ``.dvc/tmp/exps``, named configurations below ``.runs``; their records
    belong to the repository itself.
    """
    folder = Path(root or os.environ.get("DVC_ROOT") or ".").resolve()
    owner = re.split(r"/(?:\.dvc/tmp/exps|\.runs)/", folder.as_posix(), maxsplit=1)[0]
    return Path(owner)


def tracking_uri(root: Path | str | None = None) -> str | None:
    """Return the address of the store, sqlite paths made absolute, or None if nothing is to be recorded."""
    if os.environ.get("SYMBIOSIS_TRACKING", "").lower() in ("off", "0", "false", "no"):
        return None
    uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    scheme, separator, path = uri.partition(":///")
    if scheme == "sqlite" and separator and not path.startswith(("/", "file:")):
        uri = f"sqlite:///{workspace(root) / path}"
    return uri or None


def without_credentials(text: str) -> str:
    """Return an address, or a text with addresses, without user names and passwords."""
    return re.sub(r"://[^/\s]*@", "://", text)


def explain(error: Exception) -> str:
    """Return an error of MLflow, SQLAlchemy or requests, which run to pages, in one short line."""
    return without_credentials(" ".join(str(error).split()) or type(error).__name__)[:200]


def metric_name(name: str) -> str:
    """Return the name as MLflow allows it: ``recall@20`` becomes ``recall_at_20``.

    Names of users, such as those of LLMs, may be no plain path there, or too long.
    """
    kept = re.sub(r"[^/\w.\- :]", "_", name.replace("@", "_at_"))
    if posixpath.normpath(kept) != kept or kept.startswith(("/", ".")):
        return _told_apart(kept.replace("/", "_").replace("..", "_").strip(".") or "_", name)
    return kept if len(kept) <= LONGEST_NAME else _told_apart(kept, name)


def named(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return values under names that MLflow allows; of two that would be called the same, the later has a digest."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        allowed = metric_name(name)
        found[_told_apart(allowed, name) if allowed in found else allowed] = value
    return found


def _told_apart(allowed: str, name: str) -> str:
    return f"{allowed[: LONGEST_NAME - 9]}_{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"


def numbers(values: Mapping[str, object]) -> dict[str, float]:
    """Keep the finite numbers, under names that MLflow allows."""
    kept = {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
    }
    return named(kept)


class Store:
    """One experiment of one tracking server.

    Parameters
    ----------
    uri
        A tracking URI, as `tracking_uri` returns it.
    root
        The top of the repository; artifacts of a database without a server lie in its folder ``mlartifacts``.
    seconds, retries
        Patience with a server that does not answer.

    Raises
    ------
    InputError
        A sqlite database cannot be used; the message says what to do.
    Exception
        Whatever MLflow raises if the store cannot be reached.
    """

    def __init__(self, uri: str, root: Path | str | None = None, *, seconds: int = 10, retries: int = 1) -> None:
        switch_telemetry_off()
        spare_loopback()
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(seconds))
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
        for chatty in ("mlflow.store.db.utils", "alembic"):  # migrations; failures, which are raised as well
            logging.getLogger(chatty).setLevel(logging.CRITICAL)
        database.prepare(uri)
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "symbiosis"
        experiment = self.client.get_experiment_by_name(name) or self._new_experiment(name, uri, root)
        if experiment.lifecycle_stage == "deleted":
            raise RuntimeError(f"the experiment `{name}` was deleted; set MLFLOW_EXPERIMENT_NAME to use another")
        self.experiment_id: str = experiment.experiment_id

    def _new_experiment(self, name: str, uri: str, root: Path | str | None) -> "Experiment":
        from mlflow.exceptions import MlflowException

        served = uri.startswith(("http:", "https:"))
        folder = None if served else (workspace(root) / "mlartifacts").as_uri()
        try:
            return self.client.get_experiment(self.client.create_experiment(name, artifact_location=folder))
        except MlflowException:
            if (made := self.client.get_experiment_by_name(name)) is None:  # else another process was faster
                raise
            return made

    def find(self, tags: dict[str, str]) -> "list[Run]":
        """Return the runs that carry all these tags, the oldest first."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        found = self.client.search_runs([self.experiment_id], filter_string=wanted, order_by=["start_time ASC"])
        return list(found)

    def steps(self, run: "Run") -> dict[str, set[int]]:
        """Return the recorded steps of every metric of a run."""
        history = self.client.get_metric_history
        return {key: {metric.step for metric in history(run.info.run_id, key)} for key in run.data.metrics}
