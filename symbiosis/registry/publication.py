"""Record the pipeline's state in MLflow and register its models: the one door for the shell and for flows."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from symbiosis.core.errors import InputError
from symbiosis.core.layout import RECOMMENDER, ROUTER
from symbiosis.core.serving import Kind
from symbiosis.tracking.publish import Published, publish
from symbiosis.tracking.store import workspace

if TYPE_CHECKING:
    from symbiosis.registry.versions import RegisteredVersion

_MADE: dict[Kind, Path] = {"router": ROUTER, "recommender": RECOMMENDER}


@dataclass(frozen=True)
class Publication:
    """What `publish_state` did.

    Attributes
    ----------
    recorded
        The run.
    registered
        The models' versions, new or known.
    refused
        Why a model was not registered, in a line each.
    """

    recorded: Published
    registered: tuple["RegisteredVersion", ...] = ()
    refused: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what was done, in lines for people."""
        run = self.recorded
        lines = [f"left out: {stage}, whose results are neither in the workspace nor in the DVC cache"
                 for stage in run.unreadable]  # fmt: skip
        lines.append(f"run {run.run_id} in {run.uri}, {run.new_runs or 'no'} new runs")
        lines += [
            f"{one.name} version {one.version} ({one.digest}), {'new' if one.new else 'known before'}"
            for one in self.registered
        ]
        return [*lines, *(f"not registered: {reason}" for reason in self.refused)]


def publish_state(root: Path, revision: str | None = None, flow_run_id: str | None = None) -> Publication | None:
    """Record a pipeline state and its headlines, and register its models as candidates.

    Models are those of the repository's own workspace: of a git revision, a copy below ``.dvc/tmp/exps`` or ``.runs``
    the state alone is recorded, since what serves is not to be compared with models of other data.

    Parameters
    ----------
    root, revision, flow_run_id
        See `symbiosis.tracking.publish.publish`.

    Returns
    -------
    Publication or None
        None if tracking is switched off.

    Raises
    ------
    InputError, Exception
        As `symbiosis.tracking.publish.publish`.
    """
    recorded = publish(root, revision, flow_run_id)
    if recorded is None:
        return None

    from symbiosis.registry.headlines import show_on_run
    from symbiosis.registry.registration import register
    from symbiosis.registry.versions import Registry

    registry = Registry(root)
    show_on_run(recorded, registry.store)
    registered, refused = [], []
    if revision is None and workspace(root) == root.resolve():
        for kind, folder in _MADE.items():
            if (root / folder).is_dir():
                try:
                    registered.append(register(kind, root, registry))
                except InputError as error:
                    refused.append(str(error))
    return Publication(recorded, tuple(registered), tuple(refused))
