"""Recommendations for all users, anew whenever another recommender serves."""

from pathlib import Path

from symbiosis.core.telemetry import switch_telemetry_off

switch_telemetry_off()  # before prefect is imported

from prefect import flow, get_run_logger  # noqa: E402

from flows.loop.children import run_json  # noqa: E402
from flows.states import in_one_line  # noqa: E402
from flows.workspace import one_writer, top  # noqa: E402

OUTPUT = Path("data/recommendations.parquet")


@flow(name="recommend-all", persist_result=False)
@in_one_line
def recommend_all(count: int = 100) -> str:
    """Rank items for every user with what serves; the file is written whole or not at all.

    Parameters
    ----------
    count
        Items for each user.

    Returns
    -------
    str
        The file.

    Raises
    ------
    InputError
        There is no recommender, or it failed.
    """
    logger, root = get_run_logger(), top()
    with one_writer(root, logger.info):
        run_json(root, "recommend", "--all", "--count", str(count), "--output", OUTPUT.as_posix())
    logger.info("%s is written", OUTPUT)
    return OUTPUT.as_posix()
