"""Summarise the comparison of routers and the study of feedback.  Run it:  python -m stages.report_routers"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from symbiosis.core.artifacts import read_frame, staged, write_json
from symbiosis.core.params import read_document, validate_block
from symbiosis.core.stage import run
from symbiosis.routing.experiments import comparison_results, feedback, timed_results
from symbiosis.routing.experiments.params import CompareRoutersParams, StudyFeedbackParams
from symbiosis.routing.reports import comparison
from symbiosis.routing.reports.params import ReportRoutersParams


def work(params: ReportRoutersParams) -> None:
    """Write the numbers and the page of all splits."""
    document = read_document()
    # Folders of splits that the params no longer name stay where they were.
    compared = validate_block(document, "compare_routers", CompareRoutersParams).splits
    studied = validate_block(document, "study_feedback", StudyFeedbackParams).splits
    folders = _split_folders(Path("data/comparison"), compared)
    splits = [comparison_results.SplitResult.load(folder) for folder in folders]
    studies = [feedback.StudyResult.load(folder) for folder in _split_folders(Path("data/feedback"), studied)]
    llms = read_frame("data/routing/llms.parquet", ["llm"]).height
    queries = read_frame("data/routing/queries.parquet", ["query"]).height
    samples, seed = params.bootstrap_samples, params.seed
    numbers: dict[str, Any] = {
        "data": {"queries": queries, "llms": llms, "splits": [int(folder.name) for folder in folders]},
        "operating_point": comparison_results.operating_point(splits, samples, seed),
        "methods": comparison_results.summary(splits, samples, seed),
        "prediction": [split.report["prediction"] for split in splits],
        "settings": [split.report["settings"] for split in splits],
        "router": [split.report["router"] for split in splits if "router" in split.report],
        "robustness": next((s.report["robustness"] for s in splits if "robustness" in s.report), None),
        "feedback": feedback.summary(studies, samples, seed),
    }
    # Splits compared before streams were, or without one, have none.
    if all(split.streams for split in splits):
        numbers["limited"] = timed_results.summary(splits, samples, seed)
    left_out = [
        comparison_results.SplitResult.load(folder / "domains") for folder in folders if (folder / "domains").is_dir()
    ]
    if left_out:
        curves = dict(left_out[0].curves)
        numbers["domains"] = comparison_results.by_domain(curves, curves.pop(comparison_results.SINGLES), samples, seed)
        numbers["domain_settings"] = left_out[0].report["settings"]
    with staged("reports/router_study.json", "reports/router_study.html") as (json_file, html_file):
        write_json(json_file, numbers)
        html_file.write_text(comparison.html(splits, numbers), encoding="utf-8")


def _split_folders(parent: Path, splits: Sequence[int]) -> list[Path]:
    """Return the folders of the splits, by seed."""
    return [parent / str(seed) for seed in sorted(splits)]


if __name__ == "__main__":
    run("report_routers", ReportRoutersParams, work)
