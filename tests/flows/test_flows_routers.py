"""The overview of routers: its file fits the pipeline, and wrong names are told."""

import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from flows.configuration import merged, overlay
from flows.configuration import read as read_configuration
from flows.routers import FILE, read
from symbiosis.core.params import read_document
from symbiosis.routing.baselines.registry import BASELINES
from symbiosis.routing.experiments.params import CompareRoutersParams, StudyFeedbackParams
from symbiosis.routing.reports.params import ReportRoutersParams

BLOCKS = {
    "compare_routers": CompareRoutersParams,
    "study_feedback": StudyFeedbackParams,
    "report_routers": ReportRoutersParams,
}


@pytest.mark.parametrize("table", yaml.safe_load((ROOT / FILE).read_text(encoding="utf-8"))["tables"])
def test_every_table_has_a_configuration_and_valid_params(table: str) -> None:
    document = read_document(ROOT / "params.yaml")
    configured = merged(document, read_configuration(table, ROOT).params)
    final = merged(configured, read(ROOT).changes(table))
    assert overlay(read(ROOT).changes(table), document)
    for block, params in BLOCKS.items():
        valid = params.model_validate(final[block])
        if isinstance(valid, CompareRoutersParams):
            assert set(valid.baselines) <= set(BASELINES)
            assert {"oracle", "known_class", "nearest_neighbours"} <= set(valid.baselines)


def test_a_wrong_table_is_named() -> None:
    asked = [sys.executable, "-m", "flows.routers", "nowhere"]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "nowhere is no table of configs/overview/routers.yaml: its tables are realroute12" in done.stderr
