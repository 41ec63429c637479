"""Measure the baselines without the model, for tables of baselines alone.

Run it in a workspace in which the baselines' stages have run:

    python -m symbiosis.recommender.evaluation.baselines_alone FOLDER

It writes what the stage `evaluate` writes of them: ``FOLDER/per_user.parquet``, and coverage and the numbers of the
data in ``FOLDER/recommender.json``.
"""

import argparse
import sys
from pathlib import Path

from symbiosis.core.artifacts import staged, write_json
from symbiosis.core.errors import InputError
from symbiosis.core.layout import CLEAN, PER_USER, RANKINGS, TEST, TRAIN, VALIDATION
from symbiosis.core.params import read_document, validate_block
from symbiosis.recommender.data.interactions import read_matrix, read_sizes
from symbiosis.recommender.evaluation.evaluation import SLICE_DEPTH, coverage, measure, population
from symbiosis.recommender.evaluation.marked_rows import read_refitted
from symbiosis.recommender.evaluation.params import EvaluateParams
from symbiosis.recommender.evaluation.per_user import user_metrics
from symbiosis.recommender.metrics.metrics import DEPTH, protocol_of, ranking_depth
from symbiosis.recommender.metrics.ranking import read_ranking, without


def measure_baselines(params: EvaluateParams, folder: Path) -> None:
    """Read the split and the rankings of this workspace; write the metrics of every user.

    Raises
    ------
    InputError
        A file is missing or damaged.
    """
    shape = read_sizes(CLEAN)
    train, validation, test = (read_matrix(path, shape) for path in (TRAIN, VALIDATION, TEST))
    protocol, depth = protocol_of(CLEAN), ranking_depth(validation)
    seen, names = protocol.history_at_test(train, validation), params.baselines.all()
    rankings = {name: read_ranking(RANKINGS / name / "ranking.npy", seen, depth) for name in names}
    rankings |= read_refitted(RANKINGS, names, seen, depth)
    if params.mask_validation and seen is train:
        rankings = {name: without(ranking, validation, DEPTH) for name, ranking in rankings.items()}
    table = user_metrics(rankings, measure(rankings, test, protocol), train, test)
    shown = {name: coverage(ranking, shape[1], SLICE_DEPTH) for name, ranking in rankings.items()}
    covered = {name: {f"coverage@{SLICE_DEPTH}": share} for name, share in shown.items()}
    with staged(folder / PER_USER.name, folder / "recommender.json") as (by_user, numbers):
        table.write_parquet(by_user)
        write_json(numbers, {"baselines": covered, "data": population(train, test)})


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m symbiosis.recommender.evaluation.baselines_alone",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the metrics go")
    chosen = parser.parse_args()
    try:
        measure_baselines(validate_block(read_document(), "evaluate", EvaluateParams), chosen.folder)
    except (InputError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
