"""Steps of the loop around the pipeline: keep what serves, take in feedback, judge and promote."""

from pathlib import Path

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect import get_run_logger, task  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402

from flows.loop.children import run_json  # noqa: E402
from flows.states import in_one_line  # noqa: E402
from symbiosis.core.errors import InputError  # noqa: E402
from symbiosis.core.layout import RECOMMENDER, ROUTER  # noqa: E402
from symbiosis.core.serving import Kind, current  # noqa: E402

MADE: dict[Kind, Path] = {"router": ROUTER, "recommender": RECOMMENDER}
STAGES: dict[Kind, list[str]] = {"router": ["online-replay"], "recommender": ["evaluate", "final-fit"]}
"""With everything upstream of them: what must have gone well before a candidate is judged."""
FIRST = "it served before the first retraining"


@task(name="keep what serves", task_run_name="keep the {kind} that serves", cache_policy=NO_CACHE, persist_result=False)
@in_one_line
def keep(kind: Kind, root: str) -> None:
    """Let the model that serves from the workspace go on as a champion, before it is trained anew in its place.

    Nothing happens where a champion serves already, or nothing is there to serve.

    Raises
    ------
    InputError
        It could not be registered: a retraining would reach users unjudged.
    """
    folder = Path(root)
    if current(kind, folder) is not None or not (folder / MADE[kind]).is_dir():
        return
    from symbiosis.registry import champions
    from symbiosis.registry.registration import register
    from symbiosis.registry.versions import Registry

    registry = Registry(folder)
    if champions.pull(kind, folder, registry) is not None:
        get_run_logger().info("the %s's champion was fetched from the registry", kind)
        return
    version = register(kind, folder, registry)
    champions.promote(kind, version.version, forced=FIRST, root=folder, registry=registry)
    get_run_logger().info("the %s that serves is version %d, the first champion", kind, version.version)


@task(name="ingest", task_run_name="ingest", cache_policy=NO_CACHE, persist_result=False)
def ingest(root: str) -> str | None:
    """Freeze new feedback for the training; return the new file, None without one. Failing is a warning."""
    logger = get_run_logger()
    try:
        file: str | None = run_json(Path(root), "decisions", "freeze")["file"]
    except InputError as error:
        logger.warning("no new feedback, the run goes on without: %s", error)
        return None
    logger.info("feedback frozen in %s", file) if file else logger.info("there is no new feedback")
    return file
