"""The page of all tables: what is met, what is missed, and that both are said."""

from pathlib import Path
from typing import Any

import pytest
from test_routing_pages import FEEDBACK, split

from symbiosis.core.artifacts import read_json, write_json
from symbiosis.core.errors import InputError
from symbiosis.routing.experiments.comparison_results import operating_point, summary
from symbiosis.routing.reports import overview, overview_page

METHODS = ("router", "router_without_labels", "zero", "known_class", "oracle", "nearest_neighbours", "ridge")


def study(folder: Path, table: str, leads: dict[str, tuple[float, float]]) -> None:
    """Write a comparison of equal methods, the intervals of some leads being as given."""
    splits = [split(0, 0.5, 0.25, METHODS)]
    methods = summary(splits, 100, 0)
    for name, (low, high) in leads.items():
        methods[name] |= {"router_lead": (low + high) / 2, "router_lead_95": {"low": low, "high": high}}
    flips = {"flips": {"lower_case": 0.1}, "mean": 0.1, "invisible": 0.1, "quality_change": 0.0, "cost_change": 0.0}
    joined = {"step": 90, "recovered": 0.95, "low": 0.9, "high": 1.0}
    numbers: dict[str, Any] = {
        "data": {"queries": 1, "llms": 2, "splits": [1]},
        "operating_point": operating_point(splits, 100, 0),
        "methods": methods,
        "settings": [{"known_class": {"classes": 4}}],
        "router": [{"predictor": "linear", "tags": "none"}],
        "robustness": {"queries": 9, "methods": {"router": flips}},
        "feedback": FEEDBACK | {"adaptability": {"withheld": [["a"]], "recovered": [joined]}},
    }
    write_json(folder / table / "router_study.json", numbers)


ABOVE, LEVEL, BELOW = (0.01, 0.02), (-0.01, 0.01), (-0.02, -0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("first", "second", overview.LOG_LINES):
        (tmp_path / name).mkdir()
    every = dict.fromkeys(("zero", "nearest_neighbours", "ridge"), ABOVE)
    study(tmp_path, "first", every | {"oracle": BELOW, "known_class": BELOW, "router_without_labels": (0.0, 0.004)})
    study(tmp_path, "second", every | {"ridge": LEVEL})
    study(tmp_path, overview.LOG_LINES, every | {"ridge": BELOW, "router_without_labels": (0.005, 0.007)})
    return tmp_path


def test_bars_are_judged_by_intervals_over_what_a_router_could_be(folder: Path) -> None:
    bars = overview.bars(overview.collect(folder))
    assert {name: one["above_all"] for name, one in bars["lead"].items()} == {
        "first": True,
        "second": False,
        overview.LOG_LINES: False,
    }
    assert bars["lead"]["first"]["rivals"] == 3  # neither the oracle nor the ceiling, nor a form of the router
    assert bars["lead"][overview.LOG_LINES]["below"] == ["ridge"]
    assert not bars["lead_held"]
    assert not bars["labels_held"]
    assert bars["newcomers"] == dict.fromkeys(bars["lead"], 90)
    assert bars["log_lines"] == {"quality": 0.5, "wanted": 0.8, "held": False}


def test_half_of_the_tables_are_enough_if_none_is_lost(folder: Path) -> None:
    tables = overview.collect(folder)
    del tables[overview.LOG_LINES]
    bars = overview.bars(tables)
    assert bars["lead_held"]
    assert bars["labels_held"]


def test_the_page_opens_with_what_was_missed(folder: Path, tmp_path: Path) -> None:
    overview.write(folder, tmp_path / "page")
    numbers, page = read_json(tmp_path / "page.json"), (tmp_path / "page.html").read_text(encoding="utf-8")
    assert overview_page.verdict(numbers) == (
        "The router is ahead of every baseline, beyond noise, on 1 of 3 tables (first); it is behind ridge on "
        "optllm_log_parsing. Without labels it loses at most 0.0060 of AIQ (optllm_log_parsing). On log lines it "
        "misses 0.80: quality 0.5000 at nearest neighbours' cost."
    )
    assert page.index("is ahead of every baseline") < page.index("<figure") < page.index("<table")
    assert page.count(">missed<") == 5
    assert "<script" not in page


def test_no_table_and_old_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run `make routers`"):
        overview.collect(tmp_path)
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old/router_study.json", {"methods": {"router": {"aiq": 0.5}}})
    with pytest.raises(InputError, match="old is from an older version"):
        overview.collect(tmp_path)
