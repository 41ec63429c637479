"""The routing pages where little is there: free LLMs, one query, no baseline."""

import re
from typing import Any

import numpy as np
import pytest

from symbiosis.reporting.page import OURS, STRONGEST
from symbiosis.routing.experiments.comparison_results import SINGLES, SplitResult, operating_point, summary
from symbiosis.routing.metrics.curves import Curve
from symbiosis.routing.reports import comparison, online
from symbiosis.routing.reports.cells import interval, mark, percent, seconds

FEEDBACK = {
    "continual": {
        "0.5": {
            "none": {"quality": 0.5, "quality_share": 1.0, "cost_share": 0.0, "aiq": 0.5},
            "refined": {
                "quality": 0.5,
                "quality_share": 1.0,
                "cost_share": 0.0,
                "aiq": 0.5,
                **{f"gain_{key}": 0.0 for key in ("quality", "utility", "aiq")},
                **{f"gain_{key}_95": {"low": 0.0, "high": 0.0} for key in ("quality", "utility", "aiq")},
            },
        }
    },
    "adaptability": {"withheld": [["a", "b"]], "recovered": [{"step": 0, "without": 0.5}]},
    "estimates": [
        {
            "random": {
                "truth": 0.5,
                "effective_sample_size": 1.0,
                "estimates": {"ips": {"value": 0.5, "low": 0.4, "high": 0.6}},
            }
        }
    ],
}


def split(row: int, quality: float, cost: float, methods: tuple[str, ...]) -> SplitResult:
    """One test query at two trade-offs; the best single LLM is as given, the cheapest has quality and cost 0."""
    curve = Curve(np.array([[0.0], [quality]]), np.array([[0.0], [cost]]))
    point = {"share": 0.9, "trade_off": 1.0, "position": 1}
    curves = dict.fromkeys((*methods, SINGLES), curve)
    return SplitResult(np.array([row]), curves, {"operating_point": point, "queries_training": 1})


def page_of(splits: list[SplitResult]) -> tuple[dict[str, Any], str]:
    numbers = {
        "data": {"queries": len(splits), "llms": 2},
        "operating_point": operating_point(splits, 100, 0),
        "methods": summary(splits, 100, 0),
        "feedback": FEEDBACK,
    }
    return numbers, comparison.html(splits, numbers)


@pytest.mark.parametrize("cost", [0.0, 0.25], ids=["free", "priced"])
@pytest.mark.parametrize("quality", [0.0, 0.5], ids=["wrong", "right"])
@pytest.mark.parametrize("methods", [("router",), ("router", "ridge", "oracle")], ids=["alone", "beside"])
@pytest.mark.parametrize("rows", [[0], [0, 1]], ids=["one query", "two splits"])
def test_little_data_gives_a_page_without_warnings(
    cost: float, quality: float, methods: tuple[str, ...], rows: list[int]
) -> None:
    """Warnings are errors here, of divisions by nothing among them."""
    numbers, page = page_of([split(row, quality, cost, methods) for row in rows])
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<figure.*?</figure>", "", page, flags=re.DOTALL))
    assert comparison.verdict(numbers) in re.sub("&#39;", "'", page)


def test_the_verdict_names_the_strongest_baseline_and_what_the_lead_means() -> None:
    numbers, page = page_of([split(0, 0.5, 0.25, ("router", "ridge", "oracle"))])
    assert comparison.verdict(numbers) == (
        "The router keeps 100.0 % of the best single LLM's quality at 100.0 % of its cost; its AIQ, 0.2500, is not "
        "told apart from that of the strongest baseline, ridge (0.2500)."
    )
    assert "ridge <small>strongest baseline</small>" in page
    assert "router <small>ours</small>" in page
    for low, high, side in ((0.05, 0.1, "above"), (-0.1, -0.05, "below")):
        numbers["methods"]["ridge"]["router_lead_95"] = {"low": low, "high": high}
        assert f"is {side} that of" in comparison.verdict(numbers)


def test_the_page_opens_with_verdict_and_picture() -> None:
    _, page = page_of([split(0, 0.5, 0.25, ("router", "ridge"))])
    order = [page.index(part) for part in ('class="verdict"', "<figure", "<table", "<details")]
    assert order == sorted(order)


def test_the_router_page_says_what_the_router_keeps() -> None:
    curves = {
        "router_none": {"aiq": 0.75},
        "k_means": {"aiq": 0.5, "router_lead_95": {"low": 0.1, "high": 0.4}},
        "oracle": {"aiq": 0.9, "router_lead_95": {"low": -0.2, "high": -0.1}},
    }
    headline = {"feedback": "none", "quality_share": 1.05, "cost_share": 0.1, "aiq": 0.75}
    assert online.verdict({"headline": headline, "curves": curves}) == (
        "The router, no feedback, keeps 105.0 % of the best single LLM's quality at 10.0 % of its cost; its AIQ, "
        "0.7500, is above that of the strongest baseline, k-means (0.5000)."
    )


def test_cells() -> None:
    assert (percent(0.125), percent(None), seconds(1.25), seconds(None)) == ("12.5 %", "never", "1.2", "")
    assert [mark(name, "a", "b") for name in "abc"] == [OURS, STRONGEST, ""]
    assert str(interval({"x": 0.5, "x_95": {"low": 0.25, "high": 1.0}}, "x", ".1%")) == "50.0%"
