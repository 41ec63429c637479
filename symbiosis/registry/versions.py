"""MLflow's registry: registered versions, their tags and aliases.

`symbiosis.registry.champions` keeps the local copies that serve.
"""

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from symbiosis.core.errors import InputError
from symbiosis.core.serving import Kind
from symbiosis.tracking.store import Store, explain, tracking_uri, without_credentials

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

Alias = Literal["candidate", "champion"]
CANDIDATE: Alias = "candidate"
CHAMPION: Alias = "champion"
NAMES: dict[Kind, str] = {"router": "symbiosis-router", "recommender": "symbiosis-recommender"}
ARTIFACT = "bundle"
"""What the bundle is called among a model's artifacts."""
DIGEST = "symbiosis.digest"
FORMER = "symbiosis.champion.former"
"""Tag of a champion: the version that it replaced."""
PROMOTED_AT = "symbiosis.champion.promoted_at"
FORCED_AT = "symbiosis.champion.forced_at"
FORCED_BECAUSE = "symbiosis.champion.forced_because"
ROLLED_BACK_AT = "symbiosis.champion.rolled_back_at"
"""Tag of a version that was taken back; promoting it again takes the tag away."""
T = TypeVar("T")


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes
    ----------
    kind, name, version
        Which model, by its name in the registry, and the version's number.
    digest
        Of its bundle, see `symbiosis.registry.bundles`.
    new
        Whether it has just been registered.
    run_id
        The pipeline's run that it came from, if it is known.
    created_at
        UTC, ISO 8601.
    tags
        All of them.
    """

    kind: Kind
    name: str
    version: int
    digest: str
    new: bool = False
    run_id: str | None = None
    created_at: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def former(self) -> int | None:
        """The version that it replaced when it became champion, if it was one."""
        told = self.tags.get(FORMER, "")
        return int(told) if told.isdecimal() else None

    @property
    def was_rolled_back(self) -> bool:
        """Whether it was champion and was taken back since."""
        return ROLLED_BACK_AT in self.tags


def now() -> str:
    """Return the time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Registry:
    """The registry of one MLflow store.

    Parameters
    ----------
    root
        The top of the repository, whose store it is.

    Raises
    ------
    InputError
        Tracking is switched off, or the store cannot be reached. All methods raise the latter, too.
    """

    def __init__(self, root: Path | str = Path()) -> None:
        uri = tracking_uri(root)
        if uri is None:
            raise InputError("tracking is switched off, and the registry of models with it: set MLFLOW_TRACKING_URI")
        self.uri: str = uri
        self.store = self._asked(lambda: Store(uri, root))

    def _asked(self, question: Callable[[], T]) -> T:
        """Return the answer of MLflow, whose errors run to pages."""
        try:
            return question()
        except InputError:
            raise
        except Exception as error:  # MLflow, SQLAlchemy and requests have no common base
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise InputError(f"MLflow at {without_credentials(self.uri)} cannot be used: {explain(error)}") from None

    def versions(self, kind: Kind) -> list[RegisteredVersion]:
        """Return all versions of a model, the oldest first."""
        found = self._asked(lambda: list(self.store.client.search_model_versions(f"name = '{NAMES[kind]}'")))
        return sorted((_version(kind, one) for one in found), key=lambda one: one.version)

    def version(self, kind: Kind, number: int) -> RegisteredVersion:
        """Return one version.

        Raises
        ------
        InputError
            There is no such version.
        """
        for one in self.versions(kind):
            if one.version == number:
                return one
        raise InputError(f"{NAMES[kind]} has no version {number}: `symbiosis models list` names those there are")

    def find(self, kind: Kind, digest: str) -> RegisteredVersion | None:
        """Return the version of a digest."""
        return next((one for one in self.versions(kind) if one.digest == digest), None)

    def aliases(self, kind: Kind) -> dict[str, int]:
        """Return the version's number of each alias; none if nothing is registered."""
        name = NAMES[kind]
        found = self._asked(lambda: self.store.client.search_registered_models(f"name = '{name}'"))
        return {alias: int(number) for model in found for alias, number in model.aliases.items()}

    def aliased(self, kind: Kind, alias: Alias) -> RegisteredVersion | None:
        """Return the version that has an alias."""
        number = self.aliases(kind).get(alias)
        return None if number is None else self.version(kind, number)

    def set_alias(self, version: RegisteredVersion, alias: Alias) -> None:
        """Move an alias to a version."""
        client = self.store.client
        self._asked(lambda: client.set_registered_model_alias(version.name, alias, str(version.version)))

    def tag(self, version: RegisteredVersion, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None takes one away."""
        client, number = self.store.client, str(version.version)
        for key, value in tags.items():
            if value is None and key in version.tags:
                self._asked(lambda key=key: client.delete_model_version_tag(version.name, number, key))  # type: ignore[misc]
            elif value is not None:
                self._asked(lambda key=key, value=value: client.set_model_version_tag(version.name, number, key, value))  # type: ignore[misc]

    def tag_run(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        """Set tags of the pipeline's run that a version came from, if that is known."""
        if version.run_id is not None:
            for key, value in tags.items():
                self._asked(lambda key=key, value=value: self.store.client.set_tag(version.run_id, key, value))  # type: ignore[misc]

    def download(self, version: RegisteredVersion, folder: Path) -> Path:
        """Copy the bundle of a version into an empty folder; return where it lies below it."""
        from mlflow.artifacts import download_artifacts

        client, number = self.store.client, str(version.version)

        def downloaded() -> str:
            # The version's own address: MLflow looks `models:/` up in its global store, which may be another.
            address = client.get_model_version_download_uri(version.name, number)
            bundle = f"{address}/artifacts/{ARTIFACT}"
            return download_artifacts(artifact_uri=bundle, dst_path=str(folder), tracking_uri=self.uri)

        return Path(self._asked(downloaded))

    def add(
        self, kind: Kind, model: Path, model_id: str, run_id: str | None, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Register a logged model as a new version.

        Parameters
        ----------
        kind
            Which model.
        model
            Folder of the saved model.
        model_id, run_id
            Of the logged model that was begun for it, and of the run that it belongs to.
        tags
            Of the version.
        """
        client, name = self.store.client, NAMES[kind]

        def added() -> Any:
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            client.log_model_artifacts(model_id, str(model))
            logged = client.finalize_logged_model(model_id, "READY")
            # A server looks the model up; without one and without a run MLflow would do so in its global store, which
            # may be another than this one.
            known = model_id if run_id is not None or self.uri.startswith(("http:", "https:")) else None
            return client.create_model_version(
                name, logged.artifact_location, run_id=run_id, tags=dict(tags), model_id=known
            )

        made: ModelVersion = self._asked(added)
        return _version(kind, made, new=True)

    def begin_model(self, kind: Kind, run_id: str | None, tags: Mapping[str, str]) -> str:
        """Begin a logged model and return its id; its files come by `add`."""
        client, store = self.store.client, self.store

        def begun() -> str:
            made = client.create_logged_model(store.experiment_id, kind, source_run_id=run_id, tags=dict(tags))
            return str(made.model_id)

        return self._asked(begun)

    def run_of(self, lock_sha256: str) -> str | None:
        """Return the run of a pipeline state, see `symbiosis.tracking.publish.publish`."""
        key = {"symbiosis.kind": "pipeline", "dvc.lock_sha256": lock_sha256}
        found = self._asked(lambda: self.store.find(key))
        return found[0].info.run_id if found else None


def _version(kind: Kind, found: "ModelVersion", *, new: bool = False) -> RegisteredVersion:
    tags = dict(found.tags)
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    return RegisteredVersion(
        kind, found.name, int(found.version), tags.get(DIGEST, ""), new, found.run_id or None, created, tags
    )
