"""Summarise the comparison of routers and the study of feedback.  Run it:  python -m stages.report_routers"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symbiosis.artifacts import read_frame, staged, write_json
from symbiosis.routing.comparison import feedback, limited, report, results
from symbiosis.routing.params import CompareRoutersParams, ReportRoutersParams, StudyFeedbackParams
from symbiosis.stage import read_document, run, validate_block


def work(params: ReportRoutersParams) -> None:
    """Write the numbers and the page of all splits."""
    document = read_document()
    # Folders of splits that the params no longer name stay where they were.
    compared = validate_block(document, "compare_routers", CompareRoutersParams).splits
    studied = validate_block(document, "study_feedback", StudyFeedbackParams).splits
    folders = _split_folders(Path("data/comparison"), compared)
    splits = [results.Played.load(folder) for folder in folders]
    studies = [feedback.Studied.load(folder) for folder in _split_folders(Path("data/feedback"), studied)]
    llms = read_frame("data/routing/llms.parquet", ["llm"]).height
    queries = read_frame("data/routing/queries.parquet", ["query"]).height
    samples, seed = params.bootstrap_samples, params.seed
    numbers: dict[str, Any] = {
        "data": {"queries": queries, "llms": llms, "splits": [int(folder.name) for folder in folders]},
        "operating_point": results.operating_point(splits, samples, seed),
        "methods": results.summary(splits, samples, seed),
        "prediction": [split.report["prediction"] for split in splits],
        "settings": [split.report["settings"] for split in splits],
        "feedback": feedback.summary(studies, samples, seed),
    }
    # Splits compared before streams were, or without one, have none.
    if all(split.streams for split in splits):
        numbers["limited"] = limited.summary(splits, samples, seed)
    left_out = [results.Played.load(folder / "domains") for folder in folders if (folder / "domains").is_dir()]
    if left_out:
        curves = dict(left_out[0].curves)
        numbers["domains"] = results.by_domain(curves, curves.pop(results.SINGLES), samples, seed)
    with staged("reports/router_study.json", "reports/router_study.html") as (json_file, html_file):
        write_json(json_file, numbers)
        html_file.write_text(report.html(splits, numbers), encoding="utf-8")


def _split_folders(parent: Path, splits: Sequence[int]) -> list[Path]:
    """Return the folders of the splits, by seed."""
    return [parent / str(seed) for seed in sorted(splits)]


if __name__ == "__main__":
    run("report_routers", ReportRoutersParams, work)
